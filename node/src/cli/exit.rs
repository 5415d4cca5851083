//! Exit codes, in one place, and the report of what went wrong: what, why, what to do next.

use std::io::Write;
use std::process::ExitCode;

use serde_json::json;

use super::output::Format;
use crate::config::{ClusterFileError, ConfigError, SecretsError};

/// How a command ended. The numbers are part of the public surface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// Done.
    Ok = 0,
    /// Failed and not applied; a read that was not answered; a port that is taken.
    Failed = 1,
    /// The command line, a file that it names or a configuration cannot be understood.
    Usage = 2,
    /// The cluster works, but not all of it.
    Degraded = 3,
    /// The deadline passed while waiting.
    TimedOut = 4,
    /// A write may or may not have taken effect.
    Unknown = 5,
    /// Refused by a safety check or a role.
    Refused = 6,
    /// There is no such key.
    NotFound = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What went wrong, as the user is told: at most one screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// The exit code.
    pub(super) exit: Exit,
    /// Stable code for scripts; the names of the wire where the error is one of the wire.
    pub(super) code: &'static str,
    /// What happened, in one sentence.
    pub(super) what: String,
    /// Why, line by line.
    pub(super) why: Vec<String>,
    /// What to do next.
    pub(super) next: Option<String>,
}

impl Problem {
    /// A problem of which nothing more is known than what happened.
    pub(super) fn new(exit: Exit, code: &'static str, what: impl Into<String>) -> Self {
        Self {
            exit,
            code,
            what: what.into(),
            why: Vec::new(),
            next: None,
        }
    }

    /// The command line or a file cannot be understood.
    pub(super) fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "USAGE", what)
    }

    /// Adds a reason.
    #[must_use]
    pub(super) fn because(mut self, why: impl Into<String>) -> Self {
        self.why.push(why.into());
        self
    }

    /// Says what to do.
    #[must_use]
    pub(super) fn then(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Tells it on standard error, in the form of `format`.
    pub(super) fn report(&self, format: Format) {
        let text = match format {
            Format::Text => self.text(),
            Format::Json => {
                let document = json!({
                    "schema": "error/v1",
                    "code": self.code,
                    "exit": self.exit as u8,
                    "what": self.what,
                    "why": self.why,
                    "next": self.next,
                });
                format!("{document}\n")
            }
        };
        // Nobody is left to be told if standard error is closed.
        let _told = std::io::stderr().lock().write_all(text.as_bytes());
    }

    fn text(&self) -> String {
        let mut text = format!("error: {} [{}]\n", self.what, self.code);
        for why in &self.why {
            text.push_str(&format!("  why: {why}\n"));
        }
        if let Some(next) = &self.next {
            text.push_str(&format!("  next: {next}\n"));
        }
        text
    }
}

impl From<std::io::Error> for Problem {
    fn from(error: std::io::Error) -> Self {
        Self::new(Exit::Failed, "IO", error.to_string())
    }
}

impl From<ConfigError> for Problem {
    fn from(error: ConfigError) -> Self {
        let what = error.to_string();
        match error {
            ConfigError::Unreadable { .. } => Self::new(Exit::Usage, "CONFIG_UNREADABLE", what)
                .then("name the node's file: quorate serve --config DIR/quorate.toml"),
            ConfigError::UnknownKey { .. } => Self::new(Exit::Usage, "CONFIG_KEY_UNKNOWN", what)
                .then("correct or remove the key; `quorate serve --help` lists every key"),
            ConfigError::Syntax { .. }
            | ConfigError::Missing { .. }
            | ConfigError::Invalid { .. }
            | ConfigError::PortRange { .. } => Self::new(Exit::Usage, "CONFIG_INVALID", what)
                .then("correct the value; `quorate serve --help` lists every key"),
            ConfigError::ForeignNode { .. } => Self::new(Exit::Refused, "NODE_FOREIGN", what)
                .then("use the folder that `cluster create` made for this node, as it is"),
            ConfigError::Cluster(error) => Self::from(error),
            ConfigError::Secrets(error) => Self::from(error),
        }
    }
}

impl From<ClusterFileError> for Problem {
    fn from(error: ClusterFileError) -> Self {
        let code = match error {
            ClusterFileError::Unreadable { .. } => "CLUSTER_FILE_UNREADABLE",
            ClusterFileError::Format { .. } => "CLUSTER_FILE_FORMAT",
            ClusterFileError::Syntax { .. }
            | ClusterFileError::ClusterId
            | ClusterFileError::Vnodes(_)
            | ClusterFileError::NodeName(_)
            | ClusterFileError::Weight { .. }
            | ClusterFileError::KeyspaceName(_)
            | ClusterFileError::Mode { .. }
            | ClusterFileError::Copies { .. }
            | ClusterFileError::Durability { .. }
            | ClusterFileError::Level { .. }
            | ClusterFileError::TtlText { .. }
            | ClusterFileError::Ttl { .. }
            | ClusterFileError::Topology(_) => "CLUSTER_FILE_INVALID",
        };
        Self::new(Exit::Usage, code, error.to_string())
            .then("take the cluster.toml that `quorate cluster create` wrote, as it is")
    }
}

impl From<SecretsError> for Problem {
    fn from(error: SecretsError) -> Self {
        let (exit, code) = match error {
            SecretsError::Unreadable { .. } => (Exit::Usage, "SECRETS_UNREADABLE"),
            SecretsError::TooOpen { .. } => (Exit::Refused, "SECRETS_TOO_OPEN"),
            SecretsError::Invalid { .. } => (Exit::Usage, "SECRETS_INVALID"),
        };
        Self::new(exit, code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_why_and_what_next() {
        let problem = Problem::new(Exit::Failed, "PORT_TAKEN", "port 7401 is taken")
            .because("another process listens there")
            .then("stop it");
        let want = "error: port 7401 is taken [PORT_TAKEN]\n  \
                    why: another process listens there\n  next: stop it\n";
        assert_eq!(problem.text(), want);
    }
}
