//! What disks and the system do to stores, done on purpose: see `faults`.

use std::io::Write as _;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use quorate_tests::cluster::Stopwatch;
use quorate_tests::faults::Program;
use quorate_tests::faults::flips::{FlipRow, flips};
use quorate_tests::faults::full::full_disks;
use quorate_tests::faults::power_sweep::power_sweep;
use quorate_tests::faults::sweep::{Extent, Kind, SweepFigures, sweep};

/// Argument by which this program runs the store that it harms.
const CHILD: &str = "--child";

/// Does to stores what disks and the system do to them, and checks what is left of them. Needs
/// strace.
#[derive(Debug, Parser)]
struct Args {
    /// What is done; all of it if nothing is named.
    #[arg(long)]
    only: Vec<Part>,
    /// One point in so many of each sweep.
    #[arg(long, default_value_t = 1)]
    one_in: u32,
    /// Points of a sweep at a time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Killed at every system call.
    Kill,
    /// An input/output error at every system call.
    Io,
    /// No space at every system call, once.
    Space,
    /// No space from then on.
    SpaceGone,
    /// Power lost at every moment: what was not synced is gone, or some of it.
    Power,
    /// Disks of a cluster that fill up under load and have room again; needs the rights of root.
    Full,
    /// A bit in each kind of file of a node of three, an old copy of its disk, and an empty one.
    Flips,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, script @ ..] = arguments.as_slice()
        && first == CHILD
    {
        return quorate_tests::faults::script::run(script);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(Args::parse()))
}

async fn run(args: Args) -> Result<()> {
    let program = Program {
        path: std::env::current_exe()?,
        first: vec![CHILD.to_owned()],
    };
    let extent = Extent {
        one_in: args.one_in,
        jobs: args.jobs,
    };
    let mut violations = 0;
    for (part, kind, title) in [
        (Part::Kill, Kind::Kill, "kill -9 at a system call"),
        (Part::Io, Kind::InputOutput, "EIO, once"),
        (Part::Space, Kind::NoSpace, "ENOSPC, once"),
        (
            Part::SpaceGone,
            Kind::NoSpaceFromThen,
            "ENOSPC, from then on",
        ),
    ] {
        if args.only.is_empty() || args.only.contains(&part) {
            let watch = Stopwatch::start();
            let figures = sweep(&program, kind, extent).await?;
            violations += figures.violations.len();
            print(title, &figures, watch)?;
        }
    }
    if args.only.is_empty() || args.only.contains(&Part::Power) {
        let watch = Stopwatch::start();
        let figures = power_sweep(&program, extent).await?;
        violations += figures.violations.len();
        print("power loss", &figures, watch)?;
    }
    if args.only.is_empty() || args.only.contains(&Part::Flips) {
        let watch = Stopwatch::start();
        let rows = flips(args.one_in > 1).await?;
        violations += rows.iter().filter(|row| row.is_violation()).count();
        print_flips(&rows, watch)?;
    }
    if args.only.is_empty() || args.only.contains(&Part::Full) {
        let figures = full_disks().await?;
        writeln!(
            std::io::stdout(),
            "full disks: {} writes taken beside one, {} refused with all and {} keys read; room again: a write taken after {:.1} s, \
             all copies alike after {:.1} s, no process ended, nothing lost",
            figures.beside_full,
            figures.refused,
            figures.read,
            figures.writes_after.as_secs_f64(),
            figures.alike_after.as_secs_f64(),
        )?;
    }
    ensure!(violations == 0, "{violations} violations");
    Ok(())
}

fn print(title: &str, figures: &SweepFigures, watch: Stopwatch) -> Result<()> {
    let mut out = std::io::stdout().lock();
    for violation in &figures.violations {
        writeln!(out, "VIOLATION: {violation}")?;
    }
    let ends = figures.ends.iter();
    let ends: Vec<String> = ends.map(|(end, count)| format!("{end} {count}")).collect();
    writeln!(
        out,
        "{title:<28} {:>5} points, {} violations, {:.0} s; the process {}",
        figures.points,
        figures.violations.len(),
        watch.elapsed().as_secs_f64(),
        ends.join(", "),
    )?;
    Ok(())
}

fn print_flips(rows: &[FlipRow], watch: Stopwatch) -> Result<()> {
    let mut out = std::io::stdout().lock();
    for row in rows {
        writeln!(
            out,
            "{:<34} {:<18} {:>5.1} s  {}",
            row.name,
            row.did,
            row.healed_after.as_secs_f64(),
            row.said.as_deref().unwrap_or("-"),
        )?;
    }
    let elapsed = watch.elapsed().as_secs_f64();
    writeln!(out, "{} harms of a node's disk, {elapsed:.0} s", rows.len())?;
    Ok(())
}
