//! A command's way to the cluster: which client file, how failures are told.

use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_client::config::ClientConfig;
use quorate_client::{
    CallCause, CallError, Client, Code, ConnectError, Failure, GetError, NodeError, Outcome,
    ReplicaState, SeedFailure, SeedReason, WriteError,
};

use super::args::Global;
use super::exit::{Exit, Problem};
use super::system::stopwatch;

/// Longest time for connecting, however long the deadline of the operation is.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Nodes that did not answer for this long are not there; in less they may just have been slow.
const TOLD_AFTER: Duration = Duration::from_secs(1);

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

/// Connects within the deadline of an operation, and says what is left of it.
///
/// # Errors
/// A [`Problem`] that names each seed and why it could not be used.
pub(super) async fn connect_within(
    global: &Global,
    deadline: Duration,
) -> Result<(Client, Duration), Problem> {
    let path = client_file(global)?;
    let started = stopwatch();
    let connecting = async {
        let config = ClientConfig::read(&path)?;
        let builder = Client::builder().config(&config)?;
        builder
            .connect_timeout(deadline.min(CONNECT_MAX))
            .connect()
            .await
    };
    let connected: Result<Client, ConnectError> = connecting.await;
    match connected {
        Ok(client) => Ok((client, deadline.saturating_sub(started.elapsed()))),
        Err(error) if deadline < TOLD_AFTER && error.seeds().iter().any(is_late) => {
            let mut problem = unconnected(&path, &error);
            if problem.exit != Exit::Refused {
                problem.exit = Exit::TimedOut;
                problem.code = Code::DeadlineExceeded.name();
                problem.what = format!(
                    "the deadline of {deadline:?} passed while connecting; nothing was sent"
                );
                problem.next = Some("try again with a longer --deadline".to_owned());
            }
            Err(problem)
        }
        Err(error) => Err(unconnected(&path, &error)),
    }
}

/// Whether a seed had too little time.
fn is_late(seed: &SeedFailure) -> bool {
    match &seed.reason {
        SeedReason::NotAsked => true,
        SeedReason::Call(CallError::NotSent(cause) | CallError::Lost(cause)) => matches!(
            cause,
            CallCause::TimedOut | CallCause::Unreachable { .. } | CallCause::Closed { .. }
        ),
        _ => false,
    }
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
fn is_refusal(seed: &SeedFailure) -> bool {
    match &seed.reason {
        SeedReason::Refused(code) => *code == Code::RoleRefused,
        SeedReason::Call(error) => matches!(
            error.cause(),
            CallCause::Handshake { .. } | CallCause::Refused { .. }
        ),
        SeedReason::OtherCluster { .. } => true,
        _ => false,
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
        (Outcome::NotApplied, Code::DeadlineExceeded) => Exit::TimedOut,
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
