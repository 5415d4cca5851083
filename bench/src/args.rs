//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, ValueEnum};
use quorate_client::Level;

use crate::keys::Distribution;
use crate::open::{Arrivals, Mix, Ramp};

/// Load for a running cluster: a closed loop of reads and writes, its latencies and its cost in CPU
/// time, or an open loop at a rate. The closed loop must run on the machine of the nodes.
#[derive(Debug, Parser)]
#[command(
    name = "load",
    version,
    after_help = "Every combination of --reads and --in-flight is a case of its own.\nExit codes: 0 \
                  every operation was done, 1 some were not, or a read found what cannot be, 2 \
                  usage.\n\nExamples:\n  load --spawn 3 --reads 0,100 --in-flight 1,64,256\n  \
                  load --client quorate-data/client.toml --reads 95 --distribution zipf -o json\n  \
                  load --spawn 3 --rate 5000 --mix read=60,write=30,delete=5,scan=5 --verify\n  \
                  load --spawn 3 --ramp 5000..60000/12 --seconds 10"
)]
pub struct LoadArgs {
    /// How to reach the cluster.
    #[arg(
        long,
        env = "QUORATE_CLIENT",
        default_value = "quorate-data/client.toml",
        value_name = "FILE"
    )]
    pub client: PathBuf,
    /// Start a cluster of this many nodes in a temporary folder, and stop it at the end.
    #[arg(long, value_name = "NODES", value_parser = clap::value_parser!(u16).range(1..=99))]
    pub spawn: Option<u16>,
    /// The program that --spawn starts [default: quorate beside this program].
    #[arg(long, value_name = "FILE", requires = "spawn")]
    pub binary: Option<PathBuf>,
    /// Folder in which --spawn makes its own, on the disk that is to be measured
    /// [default: the system's for temporary files].
    #[arg(long, value_name = "DIR", requires = "spawn")]
    pub data_parent: Option<PathBuf>,
    /// Keyspace of the keys.
    #[arg(long, default_value = "default", value_name = "NAME")]
    pub keyspace: String,
    /// Number of keys.
    #[arg(long, default_value_t = 1_000_000, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub keys: u32,
    /// Length of every value in bytes.
    #[arg(long, default_value_t = 256, value_name = "BYTES",
          value_parser = clap::value_parser!(u32).range(0..=1_048_576))]
    pub value_bytes: u32,
    /// How keys are drawn.
    #[arg(long, value_enum, default_value_t = Distribution::Uniform, value_name = "WHICH")]
    pub distribution: Distribution,
    /// Level of every operation: one, two, quorum, all, r=COUNT or w=COUNT.
    #[arg(long, default_value = "quorum", value_name = "LEVEL")]
    pub level: Level,
    /// Of 100 operations, how many are reads; several for several cases.
    #[arg(long, default_value = "0,100", value_delimiter = ',', value_name = "PERCENT",
          value_parser = clap::value_parser!(u8).range(0..=100))]
    pub reads: Vec<u8>,
    /// Operations under way at once; several for several cases.
    #[arg(long, default_value = "1,64,256", value_delimiter = ',', value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub in_flight: Vec<u32>,
    /// Connections to each node: so many independent clients, each with a socket of its own and one
    /// connection to every node, take turns with the operations under way. With three nodes the
    /// cluster thus has three times as many.
    #[arg(long, default_value_t = 1, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connections: u32,
    /// Operations of one run.
    #[arg(long, default_value_t = 200_000, value_name = "COUNT",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub ops: u64,
    /// Operations before the first run of a case, not counted [default: a tenth of a run].
    #[arg(long, value_name = "COUNT")]
    pub warmup: Option<u64>,
    /// Runs of each case; the report has medians with the least and the greatest.
    #[arg(long, default_value_t = 5, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub runs: u32,
    /// Longest time of one run in seconds; what was done by then counts.
    #[arg(long, default_value_t = 120, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub run_seconds_max: u64,
    /// Longest wait after a run for the engines to come to rest, in seconds.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub rest_seconds_max: u64,
    /// Deadline of every operation in milliseconds.
    #[arg(long, default_value_t = 5_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub deadline_ms: u64,
    /// Load all keys first, or not: then writes read a key's context first.
    #[arg(long, value_enum, default_value_t = FillChoice::Auto, value_name = "WHICH")]
    pub fill: FillChoice,
    /// Operations under way while loading.
    #[arg(long, default_value_t = 256, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub fill_in_flight: u32,
    /// What is drawn follows from it.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub seed: u64,
    /// Tell where the nodes' CPU time goes, stage by stage; nodes that --spawn does not start must
    /// run with profile = true, and with HTTP at its usual port.
    #[arg(long, conflicts_with = "pace")]
    pub profile: bool,
    /// Open loop instead of the closed one.
    #[command(flatten)]
    pub open: OpenArgs,
    /// Form of the report.
    #[arg(short = 'o', long, value_enum, default_value_t = Form::Text, value_name = "FORM")]
    pub output: Form,
}

/// The open loop: operations start at their time, however many are under way.
#[derive(Debug, Args)]
#[command(next_help_heading = "Open loop")]
#[command(group(ArgGroup::new("pace").args(["rate", "ramp"])))]
pub struct OpenArgs {
    /// Start this many operations per second; latencies count from the intended start.
    #[arg(long, value_name = "PER_SECOND", conflicts_with = "ramp")]
    pub rate: Option<f64>,
    /// Climb from one rate to another, FROM..TO or FROM..TO/STEPS, until the cluster does not keep
    /// up.
    #[arg(long, value_name = "RANGE")]
    pub ramp: Option<Ramp>,
    /// Seconds of the run, or of each step of a ramp.
    #[arg(long, requires = "pace", default_value_t = 30, value_name = "COUNT",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    /// Seconds at the (first) rate before that, judged and not counted: connections are made.
    #[arg(long, requires = "pace", default_value_t = 2, value_name = "COUNT",
          value_parser = clap::value_parser!(u64).range(0..=3_600))]
    pub warmup_seconds: u64,
    /// Shares of read, write, delete, update, multi-get, multi-put and scan.
    #[arg(
        long,
        requires = "pace",
        default_value = "read=50,write=50",
        value_name = "SHARES"
    )]
    pub mix: Mix,
    /// How starts lie in time.
    #[arg(long, requires = "pace", value_enum, default_value_t = Arrivals::Poisson, value_name = "WHICH")]
    pub arrivals: Arrivals,
    /// Operations under way at most; one that finds no room is not started, and counted.
    #[arg(long, requires = "pace", default_value_t = 4_096, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub in_flight_max: u32,
    /// Level of reads [default: --level].
    #[arg(long, requires = "pace", value_name = "LEVEL")]
    pub read_level: Option<Level>,
    /// Level of writes [default: --level].
    #[arg(long, requires = "pace", value_name = "LEVEL")]
    pub write_level: Option<Level>,
    /// TTL of every put in seconds.
    #[arg(
        long,
        requires = "pace",
        value_name = "SECONDS",
        conflicts_with = "verify"
    )]
    pub ttl_seconds: Option<u64>,
    /// Judge every answer while it loads, and read everything back at the end. The keyspace must
    /// hold none of the keys, and reads must meet writes.
    #[arg(long, requires = "pace")]
    pub verify: bool,
}

/// Whether keys are loaded first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FillChoice {
    /// Load what is not there, and read the contexts of what is.
    Auto,
    /// Do not.
    None,
}

/// Form of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people.
    Text,
    /// One document of JSON.
    Json,
}

impl LoadArgs {
    /// Operations before the first run of a case.
    #[must_use]
    pub fn warmup(&self) -> u64 {
        self.warmup.unwrap_or(self.ops / 10)
    }

    /// Operations that any part of it has under way.
    #[must_use]
    pub fn in_flight_max(&self) -> usize {
        let closed = self.in_flight.iter().copied().max().unwrap_or(1);
        let most = closed.max(self.fill_in_flight).max(self.open.in_flight_max);
        usize::try_from(most).unwrap_or(usize::MAX)
    }

    /// Deadline of every operation.
    #[must_use]
    pub const fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments_do_not_contradict_each_other() {
        LoadArgs::command().debug_assert();
    }

    #[test]
    fn what_only_the_open_loop_does_is_not_dropped_in_the_closed_one() {
        for option in [
            "--verify",
            "--mix=read=100",
            "--read-level=one",
            "--seconds=5",
        ] {
            let closed = LoadArgs::try_parse_from(["load", option]);
            let error = closed.expect_err(option).to_string();
            assert!(error.contains("--rate"), "{error}");
            for pace in ["--rate=100", "--ramp=1..2"] {
                let open = LoadArgs::try_parse_from(["load", option, pace]);
                assert!(open.is_ok(), "{option} {pace}");
            }
        }
    }

    #[test]
    fn cases_are_lists() {
        let args = ["load", "--reads", "0,50", "--in-flight", "1,256"];
        let args = LoadArgs::try_parse_from(args).expect("it is well formed");
        assert_eq!((args.reads, args.in_flight), (vec![0, 50], vec![1, 256]));
    }
}
