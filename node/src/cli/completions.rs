//! `quorate completions SHELL`: the script by which a shell completes this program's words.

use clap::CommandFactory;

use super::args::{Cli, CompletionsArgs};
use super::exit::{Exit, Problem};
use super::output::print;

/// Prints the script.
///
/// # Errors
/// A [`Problem`] if standard output cannot be written.
pub(super) fn run(args: &CompletionsArgs) -> Result<Exit, Problem> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "quorate", &mut script);
    print(&script)?;
    Ok(Exit::Ok)
}
