//! Where the nodes' CPU time goes, from their own counters: what a run added to each stage.
//!
//! The nodes must run with `profile = true`, and their HTTP ports must be where they are by
//! default. Of a run the counters are read before its first operation and once the cluster is at
//! rest again, as the rest of its cost.

mod scrape;
mod table;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use quorate_client::Client;
use quorate_node::config::HTTP_PORT_OFFSET;

pub use table::{stages_json, write_stages};

/// A stage that every operation goes through: without items there, nothing is profiled.
const ALWAYS: &str = "core";

/// What a stage used and handled, over all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StageUse {
    /// CPU time.
    pub cpu: Duration,
    /// Items, of the stage's own kind.
    pub items: u64,
}

/// The stages by name, since the nodes' start or of one run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stages {
    /// In the order of the nodes' work.
    pub stages: Vec<(String, StageUse)>,
}

impl Stages {
    /// Reads the counters of all nodes of the client's topology.
    ///
    /// # Errors
    /// If a node does not answer, or does not tell its stages.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn look(client: &Client) -> Result<Self> {
        let topology = client.topology();
        let mut sum = Self::default();
        for node in topology.ring().nodes() {
            let text = scrape::metrics(&http_address(&node.address)?).await;
            let text = text.with_context(|| format!("node {} shows no metrics", node.name))?;
            sum.add(&Self::of_text(&text)?);
        }
        Ok(sum)
    }

    /// The stages in the text of a scrape.
    ///
    /// # Errors
    /// If there are none.
    fn of_text(text: &str) -> Result<Self> {
        let seconds = scrape::values(text, "quorate_stage_seconds_total", "stage");
        let items = scrape::values(text, "quorate_stage_items_total", "stage");
        ensure!(!seconds.is_empty(), "the node does not tell its stages");
        let items: BTreeMap<String, f64> = items.into_iter().collect();
        let stage = |(name, seconds): (String, f64)| {
            let cpu = Duration::try_from_secs_f64(seconds).unwrap_or_default();
            let items = whole(items.get(&name).copied().unwrap_or_default());
            (name, StageUse { cpu, items })
        };
        Ok(Self {
            stages: seconds.into_iter().map(stage).collect(),
        })
    }

    fn add(&mut self, other: &Self) {
        for (name, used) in &other.stages {
            match self.stages.iter_mut().find(|(known, _)| known == name) {
                Some((_, sum)) => {
                    sum.cpu += used.cpu;
                    sum.items += used.items;
                }
                None => self.stages.push((name.clone(), *used)),
            }
        }
    }

    /// What was added since `before`.
    ///
    /// # Errors
    /// If the nodes do not profile.
    pub fn since(&self, before: &Self) -> Result<Self> {
        let earlier = |name: &str| {
            let found = before.stages.iter().find(|(known, _)| known == name);
            found.map_or_else(StageUse::default, |(_, used)| *used)
        };
        let grown = |(name, used): &(String, StageUse)| {
            let earlier = earlier(name);
            let used = StageUse {
                cpu: used.cpu.saturating_sub(earlier.cpu),
                items: used.items.saturating_sub(earlier.items),
            };
            (name.clone(), used)
        };
        let stages: Vec<_> = self.stages.iter().map(grown).collect();
        ensure!(
            stages
                .iter()
                .any(|(name, used)| name == ALWAYS && used.items > 0),
            "the nodes do not profile; start them with profile = true"
        );
        Ok(Self { stages })
    }

    /// CPU time of all stages.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        self.stages.iter().map(|(_, used)| used.cpu).sum()
    }
}

/// HTTP is on loopback, at the QUIC port and an offset, unless the node was told otherwise.
fn http_address(quic: &str) -> Result<String> {
    let port = quic
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse::<u16>().ok());
    let http = port.and_then(|port| port.checked_add(HTTP_PORT_OFFSET));
    let http = http.with_context(|| format!("{quic} is no address of a node"))?;
    Ok(format!("127.0.0.1:{http}"))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count of a scrape is whole; what is negative or too large saturates"
)]
const fn whole(count: f64) -> u64 {
    count as u64
}

#[cfg(test)]
pub(crate) fn stages_of_test(of: &[(&str, u64, u64)]) -> Stages {
    let stage = |(name, micros, items): &(&str, u64, u64)| {
        let cpu = Duration::from_micros(*micros);
        ((*name).to_owned(), StageUse { cpu, items: *items })
    };
    Stages {
        stages: of.iter().map(stage).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_what_was_added_meanwhile() {
        let before = stages_of_test(&[("core", 100, 10), ("commit", 5, 1)]);
        let mut after = stages_of_test(&[("core", 160, 14), ("commit", 5, 1)]);
        after.add(&stages_of_test(&[("commit", 3, 2), ("new", 1, 1)]));
        let run = after.since(&before).expect("core has grown");
        let want = stages_of_test(&[("core", 60, 4), ("commit", 3, 2), ("new", 1, 1)]);
        assert_eq!(run, want);
        assert_eq!(run.cpu(), Duration::from_micros(64));
    }

    #[test]
    fn nodes_that_do_not_profile_are_told_to() {
        let same = stages_of_test(&[("core", 0, 0), ("commit", 5, 0)]);
        let error = same.since(&same).expect_err("nothing was counted");
        assert!(error.to_string().contains("profile = true"), "{error}");
    }

    #[test]
    fn the_stages_of_a_scrape_are_read() {
        let text = "# TYPE quorate_stage_seconds_total counter\n\
                    quorate_stage_seconds_total{node=\"a\",stage=\"core\"} 1.500000000\n\
                    quorate_stage_seconds_total{node=\"a\",stage=\"commit\"} 0.000002000\n\n\
                    quorate_stage_items_total{node=\"a\",stage=\"core\"} 7\n";
        let want = stages_of_test(&[("core", 1_500_000, 7), ("commit", 2, 0)]);
        assert_eq!(Stages::of_text(text).expect("two stages"), want);
        assert!(Stages::of_text("quorate_ready{node=\"a\"} 1\n").is_err());
    }

    #[test]
    fn http_is_beside_quic() {
        assert_eq!(
            http_address("127.0.0.1:7401").expect("a port"),
            "127.0.0.1:7501"
        );
        assert!(http_address("127.0.0.1").is_err());
        assert!(http_address("127.0.0.1:65535").is_err());
    }
}
