//! Which layer says what: flag over `QUORATE_..` variable over file over default.
//!
//! Values stay text here, each with its [`Origin`], so that every later complaint can say where the
//! value came from. Typing is done in [`super::node`].
//!
//! Invariant: a key of the file that is not in the catalogue is an error; an unknown `QUORATE_..`
//! variable is only reported, because the environment belongs to others too.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::ConfigError;
use super::keys::{KEYS, Key};
use super::nearest::nearest;

/// Prefix of variables.
const PREFIX: &str = "QUORATE_";

/// Variables with the prefix that are not keys of a node.
const OTHER_VARIABLES: &[&str] = &["QUORATE_CLIENT", "QUORATE_CONFIG", "QUORATE_DEV_PARENT"];

/// Where a value was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// On the command line.
    Flag,
    /// In the environment.
    Variable,
    /// In this file.
    File(PathBuf),
    /// Nowhere.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("the command line"),
            Self::Variable => f.write_str("the environment"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Default => f.write_str("the default"),
        }
    }
}

/// A value with the place it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The value as text.
    pub value: String,
    /// Where it was said.
    pub origin: Origin,
}

/// What was said about each key; the strongest layer has won.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layers {
    said: BTreeMap<&'static str, Said>,
}

impl Layers {
    /// Joins the file at `path`, `variables` (all of the environment) and `flags` (key, value).
    ///
    /// # Errors
    /// [`ConfigError`] if the file cannot be read or understood, or holds an unknown key.
    pub fn join(
        path: &Path,
        variables: &BTreeMap<String, String>,
        flags: &BTreeMap<&'static str, String>,
    ) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|e| ConfigError::Unreadable {
            path: path.to_owned(),
            reason: e.to_string(),
        })?;
        let mut layers = Self::from_file(path, &text)?;
        for key in KEYS {
            let variable = variables.get(&variable_name(key));
            let strongest = flags
                .get(key.name)
                .map(|value| (value, Origin::Flag))
                .or(variable.map(|value| (value, Origin::Variable)));
            if let Some((value, origin)) = strongest {
                let value = value.clone();
                layers.said.insert(key.name, Said { value, origin });
            }
        }
        Ok(layers)
    }

    /// Reads the layer of the file.
    ///
    /// # Errors
    /// [`ConfigError`] if it is no TOML, holds an unknown key, or a value that is no plain one.
    pub fn from_file(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| {
            let before = e.span().map_or(0, |span| span.start);
            let line = 1 + text.bytes().take(before).filter(|b| *b == b'\n').count();
            ConfigError::Syntax {
                path: path.to_owned(),
                line,
                reason: e.message().to_owned(),
            }
        })?;
        let mut said = BTreeMap::new();
        for (name, value) in table {
            let Some(key) = KEYS.iter().find(|key| key.name == name) else {
                return Err(ConfigError::UnknownKey {
                    path: path.to_owned(),
                    nearest: nearest(&name, KEYS.iter().map(|key| key.name)),
                    key: name,
                });
            };
            let origin = Origin::File(path.to_owned());
            let value = plain(value).ok_or_else(|| ConfigError::Invalid {
                key: key.name,
                origin: origin.clone(),
                reason: format!("it must be a text or a number: {}", key.shape),
            })?;
            said.insert(key.name, Said { value, origin });
        }
        Ok(Self { said })
    }

    /// What holds for `key`; `None` if nobody said anything and it has no default.
    #[must_use]
    pub fn of(&self, key: &Key) -> Option<Said> {
        let default = || {
            key.default.map(|value| Said {
                value: value.to_owned(),
                origin: Origin::Default,
            })
        };
        self.said.get(key.name).cloned().or_else(default)
    }
}

/// The variable of a key.
#[must_use]
pub fn variable_name(key: &Key) -> String {
    format!("{PREFIX}{}", key.name.to_ascii_uppercase())
}

/// `QUORATE_..` variables that name no key, each with the nearest one that does.
#[must_use]
pub fn unknown_variables(variables: &BTreeMap<String, String>) -> Vec<(String, Option<String>)> {
    let known: Vec<String> = KEYS.iter().map(variable_name).collect();
    variables
        .keys()
        .filter(|name| name.starts_with(PREFIX))
        .filter(|name| !known.contains(name) && !OTHER_VARIABLES.contains(&name.as_str()))
        .map(|name| {
            let near = nearest(name, known.iter().map(String::as_str));
            (name.clone(), near.map(str::to_owned))
        })
        .collect()
}

fn plain(value: toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(truth) => Some(truth.to_string()),
        toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::{DATA_DIR, LOG_LEVEL};
    use super::*;

    fn file(text: &str) -> Result<Layers, ConfigError> {
        Layers::from_file(Path::new("quorate.toml"), text)
    }

    #[test]
    fn a_flag_beats_a_variable_beats_the_file_beats_the_default() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("quorate.toml");
        let variables = BTreeMap::from([("QUORATE_LOG_LEVEL".to_owned(), "warn".to_owned())]);
        let flags = BTreeMap::from([("log_level", "trace".to_owned())]);
        let none = BTreeMap::new();
        let no_variables = BTreeMap::new();
        let cases = [
            ("", &no_variables, &none, "info"),
            ("log_level = \"error\"", &no_variables, &none, "error"),
            ("log_level = \"error\"", &variables, &none, "warn"),
            ("log_level = \"error\"", &variables, &flags, "trace"),
        ];
        for (text, variables, flags, want) in cases {
            std::fs::write(&path, text).expect("writable");
            let layers = Layers::join(&path, variables, flags).expect("good layers");
            assert_eq!(layers.of(&LOG_LEVEL).expect("has a default").value, want);
        }
    }

    #[test]
    fn an_unknown_key_of_the_file_names_the_nearest() {
        let error = file("data_dri = \"x\"").expect_err("unknown").to_string();
        assert!(
            error.contains("data_dri") && error.contains("data_dir"),
            "{error}"
        );
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        let error = file("node = \"a\"\n\ndata_dir = ").expect_err("half a line");
        assert!(
            matches!(error, ConfigError::Syntax { line: 3, .. }),
            "{error}"
        );
    }

    #[test]
    fn a_list_is_no_value() {
        assert!(matches!(
            file("data_dir = [1]"),
            Err(ConfigError::Invalid {
                key: "data_dir",
                ..
            })
        ));
    }

    #[test]
    fn an_unknown_variable_is_reported_with_the_nearest() {
        let variables = ["QUORATE_DATA_DRI", "QUORATE_CLIENT", "QUORATE_NODE", "HOME"];
        let variables = variables
            .map(|name| (name.to_owned(), String::new()))
            .into();
        let unknown = unknown_variables(&variables);
        let near = Some(variable_name(&DATA_DIR));
        assert_eq!(unknown, [("QUORATE_DATA_DRI".to_owned(), near)]);
    }
}
