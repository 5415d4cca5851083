//! A command's way to the cluster: which client file, how failures are told.

use std::path::{Path, PathBuf};

use quorate_client::{
    Client, Code, ConnectError, Failure, GetError, NodeError, Outcome, ReplicaState, WriteError,
};

use super::args::Global;
use super::exit::{Exit, Problem};

/// Where a client file is looked for if none is named.
const CLIENT_FILES: [&str; 2] = ["./client.toml", "./quorate-data/client.toml"];

/// The client file to use.
///
/// # Errors
/// A [`Problem`] if none is named and none is found.
pub(super) fn client_file(global: &Global) -> Result<PathBuf, Problem> {
    if let Some(path) = &global.client {
        return Ok(path.clone());
    }
    let found = CLIENT_FILES
        .iter()
        .map(Path::new)
        .find(|path| path.exists());
    found.map(Path::to_owned).ok_or_else(|| {
        Problem::new(
            Exit::Usage,
            "CLIENT_FILE_MISSING",
            "no client file was found",
        )
        .because(format!(
            "neither {} nor {} exists",
            CLIENT_FILES[0], CLIENT_FILES[1]
        ))
        .then("name one with --client FILE, or run `quorate dev` here first")
    })
}

/// Connects to the cluster of the client file.
///
/// # Errors
/// A [`Problem`] that names each seed and why it could not be used.
pub(super) async fn connect(global: &Global) -> Result<Client, Problem> {
    let path = client_file(global)?;
    Client::from_file(&path)
        .await
        .map_err(|e| unconnected(&path, &e))
}

fn unconnected(path: &Path, error: &ConnectError) -> Problem {
    let code = error.code().name();
    match error {
        ConnectError::Config(error) => Problem::new(Exit::Usage, "CLIENT_FILE", error.to_string())
            .then("use the client.toml that `quorate cluster create` or `quorate dev` wrote"),
        ConnectError::Seeds { seeds } => {
            let what = format!("no node of {} could be used", path.display());
            let exit = if seeds.iter().any(is_refusal) {
                Exit::Refused
            } else {
                Exit::Failed
            };
            let problem = Problem::new(exit, code, what);
            let problem = seeds
                .iter()
                .fold(problem, |p, seed| p.because(seed.to_string()));
            problem.then("check that the nodes run, and that the client file is of this cluster")
        }
        other => Problem::new(Exit::Refused, code, other.to_string()),
    }
}

/// Whether a seed was there and did not take this client, or is none of this cluster.
fn is_refusal(seed: &quorate_client::SeedFailure) -> bool {
    use quorate_client::SeedReason;
    match &seed.reason {
        SeedReason::Refused(code) => *code == Code::RoleRefused,
        SeedReason::OtherCluster { .. } => true,
        other => other.to_string().contains("certificate"),
    }
}

/// A failed read, as the user is told.
pub(super) fn unread(error: &GetError) -> Problem {
    let failure = error.failure();
    let exit = match failure.code {
        Code::RoleRefused => Exit::Refused,
        Code::DeadlineExceeded => Exit::TimedOut,
        _ => Exit::Failed,
    };
    told(exit, failure)
}

/// A failed write, as the user is told.
pub(super) fn unwritten(error: &WriteError) -> Problem {
    let failure = error.failure();
    let exit = match (error.outcome(), failure.code) {
        (Outcome::Unknown | Outcome::Applied, _) => Exit::Unknown,
        (Outcome::NotApplied, Code::RoleRefused) => Exit::Refused,
        (Outcome::NotApplied, _) => Exit::Failed,
    };
    told(exit, failure)
}

fn told(exit: Exit, failure: &Failure) -> Problem {
    let problem = Problem::new(exit, failure.code.name(), failure.to_string());
    failure.replicas.iter().fold(problem, |problem, replica| {
        let state = match replica.state {
            ReplicaState::Confirmed => "confirmed",
            ReplicaState::Silent => "did not answer in time",
            ReplicaState::Down => "is down",
            ReplicaState::Refused => "is up but does not count yet, or refused",
        };
        problem.because(format!("node {} {state}", replica.node))
    })
}

/// A node that did not answer, as the user is told.
pub(super) fn unanswered(error: &NodeError) -> Problem {
    let exit = match error {
        NodeError::Unknown { .. } => Exit::Usage,
        NodeError::Refused {
            code: Code::RoleRefused,
            ..
        } => Exit::Refused,
        _ => Exit::Failed,
    };
    Problem::new(exit, error.code().name(), error.to_string())
}
