//! The core workloads of YCSB, in one table.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use quorate_bench::args::Form;
use quorate_bench::clock::Clock;
use quorate_bench::stop::unless_stopped;
use quorate_bench::ycsb::{YcsbArgs, measure_all};
use quorate_node::shell::system::use_small_pages;

/// As in the nodes: what the client costs is part of what is measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    use_small_pages();
    let args = YcsbArgs::parse();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // What standard error does not take cannot be told in any other way.
            let _told = writeln!(std::io::stderr(), "ycsb: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every operation was done and every answer was right.
fn run(args: &YcsbArgs) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let measured = unless_stopped(measure_all(args, Clock::start()));
    let report = runtime.block_on(measured)?;
    let text = match args.output {
        Form::Text => report.text(),
        Form::Json => format!("{:#}\n", report.json()),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(report.is_clean())
}
