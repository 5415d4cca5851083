//! Fails if the data path costs more than the figures of the repository say, beyond the margins.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use quorate_bench::gate::{compare, from_json, measure, to_json};

/// Compares what the data path costs with the figures of the repository.
#[derive(Debug, Parser)]
#[command(
    name = "gate",
    version,
    after_help = "Example:\n  cargo build --release -p quorate-bench && target/release/gate\n\nNeeds \
                  valgrind."
)]
struct Args {
    /// The figures [default: bench/figures.json of this source].
    #[arg(long, value_name = "FILE")]
    figures: Option<PathBuf>,
    /// The program that is measured [default: the one beside this tool].
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Keep what is measured now.
    #[arg(long)]
    write: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // What standard error does not take cannot be told in any other way.
            let _told = writeln!(std::io::stderr(), "gate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether nothing is worse.
fn run(args: &Args) -> Result<bool> {
    let figures = Path::new(env!("CARGO_MANIFEST_DIR")).join("figures.json");
    let figures = args.figures.as_ref().unwrap_or(&figures);
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => std::env::current_exe()?.with_file_name("core_path"),
    };
    let now = measure(&binary)?;
    if args.write {
        std::fs::write(figures, to_json(&now))?;
        writeln!(std::io::stdout(), "kept in {}", figures.display())?;
        return Ok(true);
    }
    let kept = std::fs::read_to_string(figures)
        .with_context(|| format!("cannot read {}", figures.display()))?;
    let (text, is_good) = compare(&from_json(&kept)?, &now);
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(is_good)
}
