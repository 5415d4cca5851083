//! Two reports beside each other: what became better, worse, or cannot be told apart.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use quorate_bench::args::Form;
use quorate_bench::diff::{Diff, RUNS_MIN};
use serde_json::Value;

/// Compares two reports of `load`, `ycsb` or `probe`, figure by figure.
///
/// A figure is better or worse if the spreads of both reports, from the least run to the greatest,
/// do not meet.
#[derive(Debug, Parser)]
#[command(
    name = "diff",
    version,
    after_help = "Exit codes: 0 compared, 1 a figure is worse by more than --fail-on-worse, 2 usage, \
                  or the reports cannot be compared.\n\nExample:\n  load --spawn 3 -o json > \
                  before.json\n  load --spawn 3 -o json > after.json\n  diff before.json after.json \
                  --fail-on-worse 5"
)]
struct Args {
    /// The report before.
    #[arg(value_name = "A.json")]
    first: PathBuf,
    /// The report after.
    #[arg(value_name = "B.json")]
    second: PathBuf,
    /// Runs that every case must have.
    #[arg(long, default_value_t = RUNS_MIN, value_name = "COUNT")]
    runs_min: usize,
    /// Exit with 1 if a figure is worse and its median changed by more than this.
    #[arg(long, value_name = "PERCENT")]
    fail_on_worse: Option<f64>,
    /// Form of the result.
    #[arg(short = 'o', long, value_enum, default_value_t = Form::Text, value_name = "FORM")]
    output: Form,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // What standard error does not take cannot be told in any other way.
            let _told = writeln!(std::io::stderr(), "diff: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether nothing is worse by more than is allowed.
fn run(args: &Args) -> Result<bool> {
    let (first, second) = (read(&args.first)?, read(&args.second)?);
    let names = [&args.first, &args.second].map(|path| path.display().to_string());
    let [first_name, second_name] = &names;
    let diff = Diff::of([&first, &second], [first_name, second_name], args.runs_min)?;
    let text = match args.output {
        Form::Text => diff.text(),
        Form::Json => format!("{:#}\n", diff.json()),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(!args
        .fail_on_worse
        .is_some_and(|percent| diff.is_worse_by(percent)))
}

fn read(path: &Path) -> Result<Value> {
    let told = || format!("cannot read {}", path.display());
    let text = std::fs::read_to_string(path).with_context(told)?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))
}
