//! Runs seeds of the simulator.
//!
//! `sim --seed 7 -v` prints every event; `sim --seeds 0..1000` runs a range on all cores;
//! `--twice` compares the trace hashes of two runs; `--bug NAME --until-caught 1000` needs the
//! feature `planted-bugs`. Exit status 1: a violation, or a planted bug that was not caught.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use clap::Parser;
use quorate_tests::sim::{Report, RunOptions, Totals, run_seed};

#[derive(Debug, Parser)]
#[command(about = "Runs seeds of the simulator")]
struct Arguments {
    /// One seed, with a report of it.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// A range of seeds, as FROM..TO without TO.
    #[arg(long, value_parser = range)]
    seeds: Option<(u64, u64)>,
    /// Runs each seed twice and compares the trace hashes.
    #[arg(long)]
    twice: bool,
    /// Plants a bug by its name, or every bug in turn with `all`.
    #[arg(long)]
    bug: Option<String>,
    /// Runs seeds from 0 until one fails, at most this many; not failing is the failure.
    #[arg(long)]
    until_caught: Option<u64>,
    /// Threads; one seed runs on one thread.
    #[arg(long, default_value_t = default_jobs())]
    jobs: usize,
    /// Least simulated seconds with faults.
    #[arg(long, default_value_t = 60)]
    faults_s: u64,
    /// Least operations.
    #[arg(long, default_value_t = 500)]
    operations: usize,
    /// Prints every event of a seed.
    #[arg(short, long)]
    verbose: bool,
}

fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let (from, to) = text.split_once("..").ok_or("give FROM..TO")?;
    let number = |text: &str| text.parse::<u64>().map_err(|e| format!("{text}: {e}"));
    Ok((number(from)?, number(to)?))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let caught = match &arguments.bug {
        Some(name) => return with_bugs(&arguments, name),
        None => arguments.until_caught,
    };
    if let Some(most) = caught {
        return code(hunt(&arguments, most, "no bug"));
    }
    let (from, to) = match (arguments.seed, arguments.seeds) {
        (Some(seed), _) => (seed, seed + 1),
        (None, Some(range)) => range,
        (None, None) => (0, 100),
    };
    let totals = run_range(&arguments, from, to, &AtomicBool::new(false));
    code(totals.failed.is_empty())
}

fn code(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(feature = "planted-bugs")]
fn with_bugs(arguments: &Arguments, name: &str) -> ExitCode {
    use quorate_ring::planted::{Bug, plant};
    let chosen: Vec<Bug> = Bug::ALL
        .iter()
        .copied()
        .filter(|bug| name == "all" || bug.name() == name)
        .collect();
    if chosen.is_empty() {
        say(&format!(
            "no bug of that name; there are: {:?}",
            Bug::ALL.iter().map(|b| b.name()).collect::<Vec<_>>()
        ));
        return ExitCode::from(2);
    }
    let mut good = true;
    for bug in chosen {
        plant(Some(bug));
        match (arguments.seed, arguments.until_caught) {
            (Some(seed), _) => {
                let totals = run_range(arguments, seed, seed + 1, &AtomicBool::new(false));
                good &= totals.failed.is_empty();
            }
            (None, most) => good &= hunt(arguments, most.unwrap_or(1000), bug.name()),
        }
    }
    code(good)
}

#[cfg(not(feature = "planted-bugs"))]
fn with_bugs(_: &Arguments, name: &str) -> ExitCode {
    say(&format!(
        "{name} cannot be planted: build with --features planted-bugs"
    ));
    ExitCode::from(2)
}

/// Runs seeds until one fails; whether one did.
fn hunt(arguments: &Arguments, most: u64, name: &str) -> bool {
    let stop = AtomicBool::new(true);
    let totals = run_range(arguments, 0, most, &stop);
    match totals.failed.iter().min() {
        Some(seed) => say(&format!(
            "{name}: CAUGHT by seed {seed}, after {} seeds",
            totals.seeds
        )),
        None => say(&format!("{name}: NOT CAUGHT in {most} seeds")),
    }
    !totals.failed.is_empty()
}

/// Runs `from..to`; with `until_failed` set, no further seed starts after a failure.
#[expect(
    clippy::disallowed_methods,
    reason = "wall time of the whole run, for the summary only"
)]
fn run_range(arguments: &Arguments, from: u64, to: u64, until_failed: &AtomicBool) -> Totals {
    let started = std::time::Instant::now();
    let next = AtomicU64::new(from);
    let failed = AtomicBool::new(false);
    let totals = Mutex::new(Totals::default());
    let worker = || {
        loop {
            let enough = until_failed.load(Ordering::Relaxed) && failed.load(Ordering::Relaxed);
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= to || enough {
                return;
            }
            let report = run_guarded(arguments, seed);
            if !report.passed() {
                failed.store(true, Ordering::Relaxed);
                let bug = arguments
                    .bug
                    .as_ref()
                    .map_or_else(String::new, |b| format!(" --bug {b}"));
                say(&report.failure(&bug));
            } else if to - from == 1 {
                let (hash, events) = report.trace;
                say(&format!(
                    "seed {seed} passed: {}; quiet {:?}; trace {hash:016x} of {events} events",
                    report.plan, report.quiet
                ));
            }
            let mut totals = totals
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            totals.add(&report);
            if totals.seeds.is_multiple_of(100) {
                say(&format!(
                    "{} seeds, {} failed, {:.0} s",
                    totals.seeds,
                    totals.failed.len(),
                    started.elapsed().as_secs_f64()
                ));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..arguments.jobs {
            scope.spawn(worker);
        }
        worker();
    });
    let mut totals = totals
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    totals.failed.sort_unstable();
    if !until_failed.load(Ordering::Relaxed) {
        say(&totals.summary(started.elapsed()));
    }
    totals
}

fn run_guarded(arguments: &Arguments, seed: u64) -> Report {
    let options = RunOptions {
        verbose: arguments.verbose,
        faults_s: arguments.faults_s,
        operations_min: arguments.operations,
    };
    let run = || {
        let mut first = run_seed(seed, options);
        if arguments.twice {
            let second = run_seed(seed, options);
            if first.trace != second.trace {
                let text = format!(
                    "two runs differ: {:x?} and {:x?}",
                    first.trace, second.trace
                );
                first.problems.push(text);
            }
        }
        first
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Report {
        seed,
        problems: vec!["the run panicked".to_owned()],
        ..Report::default()
    })
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
fn say(text: &str) {
    println!("{text}");
}
