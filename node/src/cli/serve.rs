//! `quorate serve`: runs one node until it is told to stop.
//!
//! Every key of the configuration is a flag here. A node that was started by `dev` ends with it,
//! also when `dev` is killed: the system then kills this process.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use clap::{Arg, ArgMatches, Args, FromArgMatches};
use quorate_ring::MonoTime;
use tracing_subscriber::fmt::time::SystemTime;

use super::exit::{Exit, Problem};
use super::output::note;
use super::signals::StopSignals;
use super::system;
use crate::config::{KEYS, LogConfig, LogFormat, NodeConfig, unknown_variables, variable_name};
use crate::shell::cure;
use crate::shell::node_error::NodeError;
use crate::shell::seam::Clock;
use crate::shell::system::{SystemClock, use_small_pages};

/// How often in a row the process has begun anew; passed on in the environment.
const BEGAN_AGAIN: &str = "_BEGAN_AGAIN";
/// A node that begins anew so often within short runs is not cured by it.
const BEGIN_AGAIN_MAX: u32 = 16;
/// A run of this length begins the count anew.
const LONG_RUN_MICROS: u64 = 60_000_000;

/// Arguments of `serve`: the file, and one flag per key.
#[derive(Debug)]
pub(super) struct ServeArgs {
    /// The node's `quorate.toml`.
    pub(super) config: PathBuf,
    /// Keys that were given as flags.
    pub(super) flags: BTreeMap<&'static str, String>,
}

impl FromArgMatches for ServeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |name: &'static str| {
            let value = matches.get_one::<String>(name).cloned();
            value.map(|value| (name, value))
        };
        Ok(Self {
            config: matches
                .get_one::<PathBuf>("config")
                .cloned()
                .unwrap_or_else(|| PathBuf::from("quorate.toml")),
            flags: KEYS.iter().filter_map(|key| given(key.name)).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for ServeArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .env("QUORATE_CONFIG")
            .default_value("quorate.toml")
            .value_parser(clap::value_parser!(PathBuf))
            .help("The node's file; pid is written beside it");
        let command = command.arg(config).after_help(
            "Each key is also a variable, as QUORATE_DATA_DIR for data_dir. A flag beats a \
             variable, a variable\nthe file, the file the default.\n\nExample:\n  \
             quorate serve --config mycluster/a/quorate.toml --log-level debug",
        );
        KEYS.iter().fold(command, |command, key| {
            let help = match key.default {
                Some(default) => format!("{} [default: {default}]", key.help),
                None => key.help.to_owned(),
            };
            let flag = Arg::new(key.name)
                .long(key.name.replace('_', "-"))
                .value_name(key.shape)
                .help(format!("{help} [{}]", variable_name(key)));
            command.arg(flag)
        })
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

/// Runs the node.
///
/// # Errors
/// A [`Problem`] if the configuration cannot be used, a port is taken, or the node refuses to
/// serve.
pub(super) fn run(args: &ServeArgs) -> Result<Exit, Problem> {
    use_small_pages();
    system::end_with_parent()?;
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let config = NodeConfig::load(&args.config, &variables, &args.flags)?;
    start_logging(config.log);
    for (variable, nearest) in unknown_variables(&variables) {
        tracing::warn!(
            variable,
            nearest,
            "environment variable names no key and is ignored"
        );
    }
    let clock = Arc::new(SystemClock::start());
    let ended = super::on_runtime(async {
        let mut signals = StopSignals::listen()?;
        let stop = async move { signals.wait().await };
        let clock: Arc<dyn Clock> = Arc::clone(&clock) as _;
        Ok(crate::shell::run::run(config.clone(), clock, stop).await)
    })?;
    let Err(error) = ended else {
        return Ok(Exit::Ok);
    };
    let cured = super::on_runtime(async { Ok(cure::prepare(&config, &*clock, &error).await) })?;
    match cured {
        Ok(true) => begin_again(clock.now(), &error)?,
        Ok(false) => {}
        Err(failed) => tracing::error!(%failed, "what was lost could not be noted"),
    }
    Err(stopped(error))
}

/// Replaces this process by a new one of the same node, which knows what was lost. Comes back only
/// if that is not possible, or did not help before.
fn begin_again(ran: MonoTime, error: &NodeError) -> Result<(), Problem> {
    let before = std::env::var(BEGAN_AGAIN).ok();
    let before = before.and_then(|count| count.parse::<u32>().ok());
    let count = match before {
        Some(before) if ran.as_micros() < LONG_RUN_MICROS => before + 1,
        Some(_) | None => 1,
    };
    if count > BEGIN_AGAIN_MAX {
        tracing::error!(count, "beginning anew does not help");
        return Ok(());
    }
    tracing::warn!(%error, "the node begins anew and gets back from others what it lost");
    let program = std::env::current_exe()?;
    let failed = Command::new(program)
        .args(std::env::args_os().skip(1))
        .env(BEGAN_AGAIN, count.to_string())
        .exec();
    Err(failed.into())
}

/// Why a node that was to run does not, as the user is told.
fn stopped(error: NodeError) -> Problem {
    tracing::error!(%error, "the node does not serve");
    let exit = if error.is_refusal() {
        Exit::Refused
    } else {
        Exit::Failed
    };
    let problem = Problem::new(exit, error.code(), error.to_string());
    match error.advice() {
        Some(advice) => problem.then(advice),
        None => problem,
    }
}

fn start_logging(config: LogConfig) {
    let writer = std::io::stderr;
    let builder = tracing_subscriber::fmt()
        .with_max_level(config.level)
        .with_timer(SystemTime)
        .with_ansi(false)
        .with_writer(writer);
    let started = match config.format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if let Err(error) = started {
        note(&format!("logging was started before: {error}"));
    }
}
