//! Counts messages and bytes per operation in simulated clusters of different sizes.
//!
//! Exit status 1: a figure of the largest cluster is further than the margin from the smallest's.

use std::process::ExitCode;

use clap::Parser;
use quorate_tests::sim::scale::{ScaleLoad, differences, run_scale, table};

#[derive(Debug, Parser)]
#[command(
    about = "Counts messages and bytes per quorum operation in simulated clusters of different sizes, \
             under the same load without faults"
)]
struct Arguments {
    /// Sizes of the clusters, each with three copies of every key.
    #[arg(long, value_delimiter = ',', default_value = "3,9,30",
          value_parser = clap::value_parser!(u32).range(3..=99))]
    nodes: Vec<u32>,
    /// Clients, each with one operation under way.
    #[arg(long, default_value_t = ScaleLoad::default().clients)]
    clients: u32,
    /// Keys of each client.
    #[arg(long, default_value_t = ScaleLoad::default().keys)]
    keys: u32,
    /// Bytes of a value.
    #[arg(long, default_value_t = ScaleLoad::default().value_bytes)]
    value_bytes: usize,
    /// Writes of each key, and reads of each key, that are counted.
    #[arg(long, default_value_t = ScaleLoad::default().rounds)]
    rounds: u32,
    /// What is drawn follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How far the figures may be apart, in per cent.
    #[arg(long, default_value_t = 5.0)]
    margin: f64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let load = ScaleLoad {
        clients: arguments.clients,
        keys: arguments.keys,
        value_bytes: arguments.value_bytes,
        rounds: arguments.rounds,
        seed: arguments.seed,
        ..ScaleLoad::default()
    };
    let mut all = Vec::new();
    for nodes in &arguments.nodes {
        match run_scale(*nodes, load) {
            Ok(figures) => all.push(figures),
            Err(error) => {
                say(&format!("{nodes} nodes: {error}"));
                return ExitCode::FAILURE;
            }
        }
    }
    say(table(&all).trim_end());
    let (Some(first), Some(last)) = (all.first(), all.last()) else {
        return ExitCode::FAILURE;
    };
    let far = differences(first, last, arguments.margin);
    far.iter().for_each(|sentence| say(sentence));
    if far.is_empty() {
        say(&format!("within {} %", arguments.margin));
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
fn say(text: &str) {
    println!("{text}");
}
