//! The command line: arguments become typed values, one file per command, and every end of a
//! command becomes an exit code in [`exit`].
//!
//! Not here: what a node does (`shell`, `core`), how a client reaches it (`quorate-client`).

mod args;
mod ask_nodes;
mod certificate_info;
mod certs;
mod cluster_create;
mod cluster_recover;
mod completions;
mod config;
mod data;
mod delete;
mod dev;
mod driver;
mod dump_local;
mod events;
mod exit;
mod explain;
mod export;
mod get;
mod health;
mod hints;
mod import;
mod keyspace_arg;
mod level;
mod lines;
mod multi;
mod new_cluster;
mod output;
mod put;
mod record_json;
mod repair;
mod ring;
mod scan;
mod serve;
mod session;
mod signals;
mod status;
mod system;
mod verify;
mod whereis;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use args::{Cli, Command};
use exit::{Exit, Problem};
use output::Format;

/// Runs the command line `arguments`, the program's name first, and says how it ended.
///
/// Reads the environment and standard input, and writes to standard output and error.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return answer_of_clap(&error).into(),
    };
    let format = cli.global.output;
    match dispatch(cli) {
        Ok(exit) => exit.into(),
        Err(problem) => {
            problem.report(format);
            problem.exit.into()
        }
    }
}

/// `--help` and `--version` are answers; everything else that clap says is a usage error.
fn answer_of_clap(error: &clap::Error) -> Exit {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            match output::print(error.to_string().as_bytes()) {
                Ok(()) => Exit::Ok,
                Err(problem) => problem.exit,
            }
        }
        _ => {
            output::note(error.to_string().trim_end());
            Exit::Usage
        }
    }
}

fn dispatch(cli: Cli) -> Result<Exit, Problem> {
    let global = cli.global;
    match cli.command {
        Command::Dev(args) => on_runtime(dev::run(args, global.output)),
        Command::Serve(args) => serve::run(&args),
        Command::Put(args) => on_runtime(put::run(args, global)),
        Command::Get(args) => on_runtime(get::run(args, global)),
        Command::Delete(args) => on_runtime(delete::run(args, global)),
        Command::Import(args) => on_runtime(import::run(args, global)),
        Command::Status => on_runtime(status::run(global)),
        Command::Ring(args) => on_runtime(ring::run(args, global)),
        Command::Whereis(args) => on_runtime(whereis::run(args, global)),
        Command::DumpLocal(args) => on_runtime(dump_local::run(args, global)),
        Command::Verify(args) => on_runtime(verify::run(args, global)),
        Command::Hints => on_runtime(hints::run(global)),
        Command::Repair(args) => on_runtime(repair::run(args, global)),
        Command::Scan(args) => on_runtime(scan::run(args, global)),
        Command::Driver(args) => on_runtime(driver::run(args, global)),
        Command::Cluster(args) => match args.command {
            args::ClusterCommand::Create(args) => cluster_create::run(args, global.output),
            args::ClusterCommand::Recover(args) => on_runtime(cluster_recover::run(args, global)),
        },
        Command::Export(args) => on_runtime(export::run(args, global)),
        Command::Multi(args) => on_runtime(multi::run(args, global)),
        Command::Health(args) => on_runtime(health::run(args, global)),
        Command::Config(args) => config::run(&args, global.output),
        Command::Completions(args) => completions::run(&args),
        Command::Explain(args) => explain::run(&args, global.output),
        Command::Certs(args) => certs::run(args, &global),
    }
}

/// Runs a command on a current-thread runtime of its own.
fn on_runtime<T>(command: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(command);
    // A read of standard input may still block a thread; the process ends without it.
    runtime.shutdown_background();
    ended
}

/// Whether `format` asks for JSON.
fn is_json(format: Format) -> bool {
    match format {
        Format::Json => true,
        Format::Text => false,
    }
}
