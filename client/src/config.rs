//! `client.toml`: what a client needs to reach a cluster. `quorate cluster create` writes it.
//!
//! ```toml
//! cluster_id = "5f0c6a1b2c3d4e5f60718293a4b5c6d7"
//! ca = "node-ca.crt"      # authority of the nodes' certificates
//! cert = "client.pem"     # this client's certificate
//! key = "client.key"      # and its private key
//! role = "admin"          # what the certificate allows: data or admin
//! seeds = [
//!   { name = "1", address = "127.0.0.1:7401" },
//!   { name = "2", address = "127.0.0.1:7402" },
//! ]
//!
//! [profiles.hasty]        # any number of them, every key optional
//! read = "one"
//! write = "quorum"
//! deadline = "50ms"       # of a whole call
//! attempt_deadline = "20ms"
//! attempts_max = 2
//! ```
//!
//! Paths are relative to the file. Unknown keys are errors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::link::{ClusterId, Role};
pub use crate::profile::ProfileConfig;
use crate::profile::ProfileError;

/// Content of a `client.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientConfig {
    /// Id of the cluster; a seed of another one is refused.
    #[serde(with = "as_text")]
    pub cluster_id: ClusterId,
    /// PEM file of the authority of the nodes' certificates.
    pub ca: PathBuf,
    /// PEM file of the client's certificate.
    pub cert: PathBuf,
    /// PEM file of its private key.
    pub key: PathBuf,
    /// What the certificate allows.
    #[serde(with = "as_text")]
    pub role: Role,
    /// Nodes to ask for the topology; one that answers is enough.
    pub seeds: Vec<SeedConfig>,
    /// Profiles by name; see [`ProfileConfig`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub profiles: BTreeMap<String, ProfileConfig>,
}

/// A node to ask for the topology.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedConfig {
    /// Its name, which its certificate carries.
    pub name: String,
    /// `HOST:PORT`.
    pub address: String,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no `client.toml`.
    #[error("{} cannot be used: {source}", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// A profile cannot be used.
    #[error(transparent)]
    Profile(#[from] ProfileError),
}

impl ClientConfig {
    /// Reads a file and makes its paths relative to the working directory instead of the file.
    ///
    /// # Errors
    /// [`ConfigError`] if it cannot be read, is malformed, or has an unknown or a missing key.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let text = read_text(path)?;
        let syntax = |source| ConfigError::Syntax {
            path: path.to_owned(),
            source: Box::new(source),
        };
        let mut config = Self::parse(&text).map_err(syntax)?;
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        for file in [&mut config.ca, &mut config.cert, &mut config.key] {
            *file = folder.join(&*file);
        }
        Ok(config)
    }

    /// Parses the text of a file; paths stay as they are.
    ///
    /// # Errors
    /// [`toml::de::Error`] with line, column and the key concerned.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The text of the file, as `quorate cluster create` writes it.
    ///
    /// # Errors
    /// [`toml::ser::Error`] if a path is not valid UTF-8.
    pub fn to_text(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}

/// Reads a whole file of the configuration.
pub(crate) fn read_text(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })
}

/// What has a text form travels as it.
mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<T: Display, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
cluster_id = "5f0c6a1b2c3d4e5f60718293a4b5c6d7"
ca = "node-ca.crt"
cert = "client.pem"
key = "/abs/client.key"
role = "admin"
seeds = [{ name = "1", address = "127.0.0.1:7401" }]
"#;

    #[test]
    fn what_is_written_is_read_back() {
        let config = ClientConfig::parse(TEXT).expect("a good file");
        assert_eq!(config.role, Role::Admin);
        assert_eq!(config.seeds.len(), 1);
        let text = config.to_text().expect("plain paths");
        assert_eq!(ClientConfig::parse(&text), Ok(config));
    }

    #[test]
    fn unknown_and_missing_keys_and_bad_ids_are_errors() {
        let cases = [
            (format!("colour = 1\n{TEXT}"), "colour"),
            (TEXT.replace("role = \"admin\"", ""), "role"),
            (
                TEXT.replace("admin", "`data` or `admin`"),
                "`data` or `admin`",
            ),
            (TEXT.replace("5f0c", "5f0"), "32 hexadecimal digits"),
            (TEXT.replace("5f0c", "+f0c"), "32 hexadecimal digits"),
            (TEXT.replace("name = \"1\"", "nome = \"1\""), "nome"),
        ];
        for (text, want) in cases {
            let error = ClientConfig::parse(&text).expect_err(want).to_string();
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = ClientConfig::read("no/such/client.toml").expect_err("missing");
        assert!(error.to_string().contains("no/such/client.toml"));
    }
}
