//! Fuzzes what reads bytes from outside, for as long as it is told.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cap::Cap;
use clap::Parser;
use quorate_tests::cluster::Stopwatch;
use quorate_tests::fuzz::{Finding, Fuzz, Meter, Target, all_targets, corpus_folder};

/// Counts what inputs allocate.
#[global_allocator]
static ALLOCATOR: Cap<std::alloc::System> = Cap::new(std::alloc::System, usize::MAX);

/// Mutants between two looks at the time.
const ROUND: u64 = 200;
/// Between two lines of progress.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Inputs and bytes of a committed corpus at most.
const SAVED_MAX: usize = 40;
const SAVED_BYTES_MAX: usize = 2_048;

/// Mutates inputs of everything that reads bytes from outside and checks what must hold for any
/// bytes. Stops at the first input that breaks a promise and writes it to a file.
#[derive(Debug, Parser)]
#[command(
    after_help = "Targets: frame, request, response, peer-message, record, context-token, \
                  scan-token, session-token,\ncluster-file, log.\n\nExamples:\n  fuzz --target \
                  record --seconds 600\n  fuzz --target all --seconds 30\n  fuzz --target record \
                  --input record-finding.bin"
)]
struct Args {
    /// Which target, or `all` of them one after the other.
    #[arg(long, default_value = "all")]
    target: String,
    /// Seconds for each target.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// What is drawn follows from it [default: from the clock, and printed].
    #[arg(long)]
    seed: Option<u64>,
    /// Try this one input and end.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Add inputs of new shapes to the committed corpus.
    #[arg(long)]
    save: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What standard error does not take cannot be told in any other way.
            let _told = writeln!(std::io::stderr(), "fuzz: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let mut targets = all_targets();
    if args.target != "all" {
        targets.retain(|target| target.name() == args.target);
    }
    if targets.is_empty() {
        let all: Vec<&str> = all_targets().iter().map(|target| target.name()).collect();
        bail!(
            "there is no target `{}`; there are {}",
            args.target,
            all.join(", ")
        );
    }
    if let Some(file) = &args.input {
        let input = std::fs::read(file).with_context(|| file.display().to_string())?;
        for target in targets {
            let shape = target.run(&input);
            let shape = shape.map_err(|what| anyhow::anyhow!("{}: {what}", target.name()))?;
            writeln!(std::io::stdout(), "{}: {shape:?}", target.name())?;
        }
        return Ok(());
    }
    let seed = args.seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed();
        now.map_or(1, |now| now.as_secs())
    });
    for target in targets {
        fuzz(args, target, seed)?;
    }
    Ok(())
}

fn fuzz(args: &Args, target: Box<dyn Target>, seed: u64) -> Result<()> {
    let name = target.name();
    let mut out = std::io::stdout();
    let mut fuzz = Fuzz::new(target, Meter(|| ALLOCATOR.total_allocated() as u64), seed);
    let committed = fuzz.add_committed()?;
    writeln!(out, "{name}: seed {seed}, {committed} committed inputs")?;
    let watch = Stopwatch::start();
    fuzz.replay().map_err(|finding| found(name, &finding))?;
    let (limit, mut told) = (Duration::from_secs(args.seconds), Duration::ZERO);
    while watch.elapsed() < limit {
        fuzz.mutate(ROUND)
            .map_err(|finding| found(name, &finding))?;
        if watch.elapsed() >= told + TELL_EVERY {
            told = watch.elapsed();
            tell(&mut out, name, &fuzz, told)?;
        }
    }
    tell(&mut out, name, &fuzz, watch.elapsed())?;
    if args.save {
        save(name, &fuzz)?;
    }
    Ok(())
}

fn tell(out: &mut impl Write, name: &str, fuzz: &Fuzz, after: Duration) -> Result<()> {
    let progress = fuzz.progress();
    let rate = progress.executions as f64 / after.as_secs_f64().max(0.001);
    writeln!(
        out,
        "{name}: {:.0} s, {} inputs, {rate:.0}/s, corpus {}",
        after.as_secs_f64(),
        progress.executions,
        progress.corpus,
    )?;
    Ok(())
}

/// Writes the input to a file and says how to try it again.
fn found(name: &str, finding: &Finding) -> anyhow::Error {
    let file = format!("{name}-finding.bin");
    let written = std::fs::write(&file, &finding.input);
    let what = &finding.what;
    match written {
        Ok(()) => anyhow::anyhow!(
            "{name}: {what}; the input is in {file}, try it again with --target {name} --input {file}"
        ),
        Err(error) => anyhow::anyhow!("{name}: {what}; its input cannot be written: {error}"),
    }
}

fn save(name: &str, fuzz: &Fuzz) -> Result<()> {
    let folder = corpus_folder(name);
    std::fs::create_dir_all(&folder)?;
    let small = fuzz.found().into_iter();
    let small = small.filter(|input| input.len() <= SAVED_BYTES_MAX);
    for input in small.take(SAVED_MAX) {
        let hash = xxhash_rust::xxh3::xxh3_64(input);
        std::fs::write(folder.join(format!("{hash:016x}.bin")), input)?;
    }
    Ok(())
}
