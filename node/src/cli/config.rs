//! `quorate config check|dump`: what is wrong with a node's configuration, all of it, and what
//! holds with where it was said. Starts nothing.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::args::{ConfigArgs, ConfigCommand};
use super::exit::{Exit, Problem};
use super::is_json;
use super::output::{Format, Table, print, print_json};
use crate::config::{
    ConfigError, KEYS, Layers, NodeConfig, nearest, unknown_variables, variable_name,
};

/// Checks or prints the configuration.
///
/// # Errors
/// A [`Problem`] if the file cannot be read, or what it says cannot be joined.
pub(super) fn run(args: &ConfigArgs, format: Format) -> Result<Exit, Problem> {
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    match &args.command {
        ConfigCommand::Check { config } => check(config, &variables, format),
        ConfigCommand::Dump { config, origin } => dump(config, &variables, *origin, format),
    }
}

fn check(
    path: &Path,
    variables: &BTreeMap<String, String>,
    format: Format,
) -> Result<Exit, Problem> {
    let found = problems(path, variables);
    let is_good = found.is_empty();
    let warnings = unknown_variables(variables);
    let warnings: Vec<String> = warnings
        .into_iter()
        .map(|(name, near)| {
            let near = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
            format!("the variable {name} names no key and is ignored{near}")
        })
        .collect();
    if is_json(format) {
        print_json(&json!({
            "schema": "config-check/v1",
            "file": path.display().to_string(),
            "good": is_good,
            "problems": found,
            "warnings": warnings,
        }))?;
    } else {
        let mut text = String::new();
        for problem in &found {
            text.push_str(&format!("problem: {problem}\n"));
        }
        for warning in &warnings {
            text.push_str(&format!("warning: {warning}\n"));
        }
        let path = path.display();
        text.push_str(&match found.len() {
            0 => format!("{path}: good\n"),
            1 => format!("{path}: 1 problem\n"),
            count => format!("{path}: {count} problems\n"),
        });
        print(text.as_bytes())?;
    }
    Ok(if is_good { Exit::Ok } else { Exit::Usage })
}

/// Everything that is wrong: each unknown key, and each value that cannot be. A bad value is put
/// aside for its default, so that those behind it are found too.
fn problems(path: &Path, variables: &BTreeMap<String, String>) -> Vec<String> {
    let mut found = unknown_keys(path);
    let mut aside: BTreeMap<&'static str, String> = BTreeMap::new();
    // Each round puts one more key aside.
    for _ in 0..=KEYS.len() {
        let Err(error) = NodeConfig::load(path, variables, &aside) else {
            break;
        };
        match &error {
            ConfigError::UnknownKey { .. } => break,
            ConfigError::Invalid { key, .. } => {
                let key = KEYS.iter().find(|known| known.name == *key);
                found.push(error.to_string());
                let default = key.and_then(|key| Some((key.name, key.default?)));
                match default {
                    Some((name, default)) if !aside.contains_key(name) => {
                        aside.insert(name, default.to_owned());
                    }
                    Some(_) | None => break,
                }
            }
            _ => {
                found.push(error.to_string());
                break;
            }
        }
    }
    found
}

fn unknown_keys(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let table: toml::Table = text.parse().unwrap_or_default();
    let unknown = table
        .keys()
        .filter(|name| KEYS.iter().all(|key| key.name != **name));
    let sentence = |name: &String| {
        let near = nearest(name, KEYS.iter().map(|key| key.name));
        let near = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        format!("{}: there is no key `{name}`{near}", path.display())
    };
    unknown.map(sentence).collect()
}

fn dump(
    path: &Path,
    variables: &BTreeMap<String, String>,
    origin: bool,
    format: Format,
) -> Result<Exit, Problem> {
    let layers = Layers::join(path, variables, &BTreeMap::new())?;
    let said = KEYS.iter().map(|key| (key, layers.of(key)));
    if is_json(format) {
        let keys = said.map(|(key, said)| {
            let mut entry = json!({
                "key": key.name,
                "value": said.as_ref().map(|said| &said.value),
            });
            if let (true, Some(entry)) = (origin, entry.as_object_mut()) {
                let origin = said.map(|said| said.origin.to_string());
                entry.insert("origin".to_owned(), json!(origin));
                entry.insert("variable".to_owned(), json!(variable_name(key)));
            }
            entry
        });
        let keys: Vec<Value> = keys.collect();
        print_json(&json!({ "schema": "config/v1", "keys": keys }))?;
        return Ok(Exit::Ok);
    }
    let headings: &[&str] = if origin {
        &["key", "value", "origin"]
    } else {
        &["key", "value"]
    };
    let mut table = Table::new(headings);
    for (key, said) in said {
        // What follows where nobody says anything is in `serve --help`.
        let value = said.as_ref().map_or("-", |said| &said.value).to_owned();
        let mut row = vec![key.name.to_owned(), value];
        if origin {
            row.push(said.map_or_else(|| "-".to_owned(), |said| said.origin.to_string()));
        }
        table.row(row);
    }
    print(table.text().as_bytes())?;
    Ok(Exit::Ok)
}
