//! Stages and threads in the text of a scrape: counters with fractions, which the recorder of the
//! other metrics does not have.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use super::threads::{self, MAIN};
use super::{Profile, Stage};
use crate::shell::metrics_catalogue::CATALOGUE;

/// CPU seconds by thread.
pub(super) const THREADS: &str = "quorate_thread_cpu_seconds_total";
/// CPU seconds by stage.
pub(super) const SECONDS: &str = "quorate_stage_seconds_total";
/// Items by stage.
pub(super) const ITEMS: &str = "quorate_stage_items_total";

impl Profile {
    /// The three families for a scrape of `node`, threads looked up now.
    #[must_use]
    pub fn render(&self, node: &str) -> String {
        let threads = threads::cpu_nanos();
        let mut text = String::new();
        let of_threads = threads.iter();
        let of_threads = of_threads.map(|(name, nanos)| (name.as_str(), seconds(*nanos)));
        family(&mut text, THREADS, (node, "thread"), of_threads);
        let of_stages = self.stage_nanos(&threads).into_iter();
        let of_stages = of_stages.map(|(stage, nanos)| (stage.name(), seconds(nanos)));
        family(&mut text, SECONDS, (node, "stage"), of_stages);
        let items = |stage: Stage| self.of(stage).items.load(Ordering::Relaxed).to_string();
        let items = Stage::ALL.map(|stage| (stage.name(), items(stage)));
        family(&mut text, ITEMS, (node, "stage"), items.into_iter());
        text
    }

    /// CPU time of each stage; they add up to that of all threads, but for what sampling misjudges.
    fn stage_nanos(&self, threads: &BTreeMap<String, u64>) -> Vec<(Stage, u64)> {
        let timed: u64 = Stage::OUTERMOST.map(|s| self.all_nanos(s)).iter().sum();
        let of_threads = |stage: Stage| -> u64 {
            let same = threads
                .iter()
                .filter(|(name, _)| Stage::of_thread(name) == stage);
            same.map(|(_, nanos)| *nanos).sum()
        };
        let newest = |stage| match stage {
            Stage::Runtime => threads
                .get(MAIN)
                .map_or(0, |main| main.saturating_sub(timed)),
            stage => self.own_nanos(stage) + of_threads(stage),
        };
        let shown = |stage| {
            let (cell, newest) = (&self.of(stage).shown_nanos, newest(stage));
            (stage, cell.fetch_max(newest, Ordering::Relaxed).max(newest))
        };
        Stage::ALL.map(shown).into()
    }

    fn all_nanos(&self, stage: Stage) -> u64 {
        self.of(stage).nanos.load(Ordering::Relaxed)
    }
}

fn seconds(nanos: u64) -> String {
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

/// Adds a family: its help and type, and a line for each value of `label`.
fn family<'a>(
    text: &mut String,
    name: &str,
    (node, label): (&str, &str),
    values: impl Iterator<Item = (&'a str, String)>,
) {
    let help = CATALOGUE.iter().find(|metric| metric.name == name);
    let help = help.map_or("", |metric| metric.help);
    let mut add = |line: std::fmt::Arguments<'_>| {
        text.write_fmt(line)
            .expect("a string takes all that is written");
    };
    add(format_args!(
        "# HELP {name} {help}\n# TYPE {name} counter\n"
    ));
    for (value, count) in values {
        add(format_args!(
            "{name}{{node=\"{node}\",{label}=\"{value}\"}} {count}\n"
        ));
    }
    add(format_args!("\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threads(of: &[(&str, u64)]) -> BTreeMap<String, u64> {
        of.iter()
            .map(|(name, nanos)| ((*name).to_owned(), *nanos))
            .collect()
    }

    #[test]
    fn stages_add_up_to_the_threads() {
        let profile = Profile::default();
        let add = |stage, nanos| profile.of(stage).nanos.fetch_add(nanos, Ordering::Relaxed);
        add(Stage::Quic, 400);
        add(Stage::UdpSend, 150);
        add(Stage::Loop, 300);
        add(Stage::Core, 200);
        let threads = threads(&[
            (MAIN, 1_000),
            ("log-commit", 70),
            ("fjall:worker", 30),
            ("engine-watch", 5),
            ("ended", 2),
        ]);
        let stages = profile.stage_nanos(&threads);
        let of = |wanted| {
            stages
                .iter()
                .find(|(stage, _)| *stage == wanted)
                .map(|(_, n)| *n)
        };
        assert_eq!(stages.iter().map(|(_, nanos)| nanos).sum::<u64>(), 1_107);
        assert_eq!(of(Stage::Runtime), Some(300));
        assert_eq!(of(Stage::Quic), Some(250));
        assert_eq!(of(Stage::Loop), Some(100));
        assert_eq!(of(Stage::Commit), Some(70));
        assert_eq!(of(Stage::EngineCompact), Some(30));
        assert_eq!(of(Stage::Other), Some(7));
    }

    #[test]
    fn a_stage_that_is_estimated_anew_does_not_fall() {
        let profile = Profile::default();
        let runtime = |profile: &Profile| {
            let stages = profile.stage_nanos(&threads(&[(MAIN, 1_000)]));
            stages
                .iter()
                .find(|(s, _)| *s == Stage::Runtime)
                .map(|(_, n)| *n)
        };
        assert_eq!(runtime(&profile), Some(1_000));
        profile
            .of(Stage::Loop)
            .nanos
            .fetch_add(64, Ordering::Relaxed);
        assert_eq!(runtime(&profile), Some(1_000));
    }

    #[test]
    fn a_scrape_has_a_line_for_every_stage() {
        let text = Profile::default().render("a");
        for stage in Stage::ALL {
            for family in [SECONDS, ITEMS] {
                let line = format!("{family}{{node=\"a\",stage=\"{}\"}} ", stage.name());
                assert!(text.contains(&line), "{line} in {text}");
            }
        }
        assert!(text.contains("quorate_thread_cpu_seconds_total{node=\"a\",thread=\"main\"} "));
    }
}
