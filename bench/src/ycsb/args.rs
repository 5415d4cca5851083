//! What can be typed.

use std::path::PathBuf;

use clap::Parser;

use super::{DataSet, Letter};
use crate::args::Form;

/// The core workloads of YCSB, A to F, on a cluster of this machine: operations per second, CPU
/// time per operation, latencies by operation, every answer checked.
#[derive(Debug, Parser)]
#[command(
    name = "ycsb",
    version,
    after_help = "Records have ten fields of 100 bytes. A to D share one cluster, with their \
                  records in the keyspace `lww`; E has one of its own, `lww`; F has one of its \
                  own, `default` (siblings). All is measured from rest to rest, so the engines' \
                  later work counts.\nExit codes: 0 every operation was done, 1 some were not, or \
                  an answer was wrong, 2 usage.\n\nExamples:\n  ycsb --spawn 3\n  ycsb --workloads \
                  A,F --records 20000 --seconds 10 --runs 5 -o json"
)]
pub struct YcsbArgs {
    /// Start clusters of this many nodes in a temporary folder, one after another.
    #[arg(long, default_value_t = 3, value_name = "NODES",
          value_parser = clap::value_parser!(u16).range(1..=99))]
    pub spawn: u16,
    /// The program that is started [default: quorate beside this program].
    #[arg(long, value_name = "FILE")]
    pub binary: Option<PathBuf>,
    /// Folder in which each cluster has its own, on the disk that is to be measured
    /// [default: the system's for temporary files].
    #[arg(long, value_name = "DIR")]
    pub data_parent: Option<PathBuf>,
    /// Which workloads; they run in the order A to F.
    #[arg(
        long,
        value_enum,
        default_value = "A,B,C,D,E,F",
        value_delimiter = ',',
        ignore_case = true,
        value_name = "LETTERS"
    )]
    pub workloads: Vec<Letter>,
    /// Records of A to D, and of F.
    #[arg(long, default_value_t = 1_000_000, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub records: u32,
    /// Records of E.
    #[arg(long, default_value_t = 100_000, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub scan_records: u32,
    /// Seconds of one run.
    #[arg(long, default_value_t = 60, value_name = "COUNT",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    /// Operations under way at once.
    #[arg(long, default_value_t = 64, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub in_flight: u32,
    /// Runs of each workload; the report has their medians.
    #[arg(long, default_value_t = 1, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub runs: u32,
    /// Longest wait before and after a run for the engines to come to rest, in seconds.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub rest_seconds_max: u64,
    /// What is drawn follows from it.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub seed: u64,
    /// Form of the report.
    #[arg(short = 'o', long, value_enum, default_value_t = Form::Text, value_name = "FORM")]
    pub output: Form,
}

impl YcsbArgs {
    /// The workloads that share `data`, each once, in their order.
    #[must_use]
    pub fn letters_of(&self, data: DataSet) -> Vec<Letter> {
        let asked = self.workloads.iter().copied();
        let mut letters: Vec<Letter> = asked
            .filter(|letter| letter.definition().data == data)
            .collect();
        letters.sort_unstable();
        letters.dedup();
        letters
    }

    /// How many records of `data` are loaded.
    #[must_use]
    pub const fn records_of(&self, data: DataSet) -> u32 {
        match data {
            DataSet::Lww | DataSet::Siblings => self.records,
            DataSet::Scanned => self.scan_records,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments_do_not_contradict_each_other() {
        YcsbArgs::command().debug_assert();
    }

    #[test]
    fn all_six_run_unless_some_are_named() {
        let all = YcsbArgs::try_parse_from(["ycsb"]).expect("it is well formed");
        let letters = DataSet::ALL.map(|data| all.letters_of(data));
        let want = [
            vec![Letter::A, Letter::B, Letter::C, Letter::D],
            vec![Letter::E],
            vec![Letter::F],
        ];
        assert_eq!(letters, want);
        let some = ["ycsb", "--workloads", "f,B,A,b"];
        let some = YcsbArgs::try_parse_from(some).expect("it is well formed");
        let letters = DataSet::ALL.map(|data| some.letters_of(data));
        assert_eq!(
            letters,
            [vec![Letter::A, Letter::B], vec![], vec![Letter::F]]
        );
        assert_eq!(some.records_of(DataSet::Scanned), 100_000);
        assert!(YcsbArgs::try_parse_from(["ycsb", "--workloads", "G"]).is_err());
    }
}
