//! `quorate repair`: the nodes compare their copies pair by pair, and bring together what differs.
//!
//! The same that nodes do by themselves at their interval, now and told. With `--dry-run` keys that
//! differ are counted and left as they are. Interrupted, nothing is undone: what was brought
//! together stays so, and a node ends the comparison that it is at.
//!
//! Not here: the comparison (`core::exchange`).

use std::time::Duration;

use quorate_client::wire::{Code, Repaired};
use quorate_client::{Client, NodeError};
use quorate_ring::{Node, VnodeId};
use serde_json::{Value, json};

use super::args::{Global, RepairArgs};
use super::exit::{Exit, Problem};
use super::is_json;
use super::output::{Table, note, print, print_json, shown_bytes, stdout_is_terminal};
use super::session::{connect, unanswered};
use super::signals::{StopSignals, unless_stopped};
use crate::shell::seam::Clock;
use crate::shell::system::SystemClock;

/// When a node that compares for others is asked again, and for how long.
const BUSY_AFTER: Duration = Duration::from_millis(200);
const BUSY_MAX: Duration = Duration::from_secs(60);

/// What two nodes' copies showed.
struct OfPair {
    nodes: [String; 2],
    found: Repaired,
    /// Why the rest was not compared.
    error: Option<NodeError>,
}

impl OfPair {
    fn is_good(&self, dry_run: bool) -> bool {
        let left = if dry_run {
            self.found.keys
        } else {
            self.found.failed
        };
        left == 0 && self.error.is_none()
    }
}

/// Compares the copies of all pairs of nodes.
///
/// # Errors
/// A [`Problem`] if no node can be reached, there is no such node, the certificate has not the
/// role, or on Ctrl-C.
pub(super) async fn run(args: RepairArgs, global: Global) -> Result<Exit, Problem> {
    let mut signals = StopSignals::listen()?;
    let repairing = async {
        let client = connect(&global).await?;
        let mut pairs = Vec::new();
        for (one, other) in chosen(&args, &client)? {
            let pair = compare(&client, &one, &other, args.dry_run).await;
            // All of them would refuse this certificate.
            if let Some(error) = &pair.error
                && error.code() == Code::RoleRefused
            {
                return Err(unanswered(error));
            }
            pairs.push(pair);
        }
        client.close().await;
        Ok::<_, Problem>(pairs)
    };
    let interrupted = || {
        Problem::new(
            Exit::Failed,
            "INTERRUPTED",
            "interrupted; what was brought together stays so",
        )
    };
    let repaired = unless_stopped(&mut signals, repairing).await;
    let pairs = repaired.ok_or_else(interrupted)??;
    let is_good = pairs.iter().all(|pair| pair.is_good(args.dry_run));
    if is_json(global.output) {
        print_json(&json!({
            "schema": "repair/v1",
            "dry_run": args.dry_run,
            "good": is_good,
            "pairs": pairs.iter().map(document).collect::<Vec<_>>(),
        }))?;
    } else {
        print(text(&pairs).as_bytes())?;
    }
    Ok(if is_good { Exit::Ok } else { Exit::Failed })
}

/// The pairs of nodes to compare, each once.
fn chosen(args: &RepairArgs, client: &Client) -> Result<Vec<(Node, Node)>, Problem> {
    let topology = client.topology();
    let nodes = topology.ring().nodes();
    let is_known = |name: &&String| nodes.iter().any(|node| node.name.as_str() == name.as_str());
    if let Some(unknown) = args.node.iter().find(|name| !is_known(name)) {
        let known: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
        return Err(Problem::new(
            Exit::Usage,
            "NODE_UNKNOWN",
            format!(
                "there is no node {unknown}; the nodes are {}",
                known.join(", ")
            ),
        ));
    }
    let is_chosen = |node: &Node| {
        let mut chosen = args.node.iter();
        args.node.is_empty() || chosen.any(|name| name.as_str() == node.name.as_str())
    };
    let mut pairs = Vec::new();
    for (number, one) in nodes.iter().enumerate() {
        for other in nodes.iter().skip(number + 1) {
            if is_chosen(one) || is_chosen(other) {
                pairs.push((one.clone(), other.clone()));
            }
        }
    }
    Ok(pairs)
}

async fn compare(client: &Client, one: &Node, other: &Node, dry_run: bool) -> OfPair {
    let mut pair = OfPair {
        nodes: [one.name.to_string(), other.name.to_string()],
        found: nothing(),
        error: None,
    };
    let clock = SystemClock::start();
    let mut asked_at = clock.now();
    let mut next = Some(VnodeId(0));
    while let Some(vnode) = next {
        let name = one.name.to_string();
        match client.repair(&name, other.id, vnode, dry_run).await {
            Ok(found) => {
                next = found.next.map(VnodeId);
                add(&mut pair.found, &found);
                if stdout_is_terminal() && found.keys > 0 {
                    let keys = pair.found.keys;
                    note(&format!("{name} and {}: {keys} keys differed", other.name));
                }
                asked_at = clock.now();
            }
            // It compares for others: it is asked again until it has room.
            Err(NodeError::Refused {
                code: Code::Overloaded,
                ..
            }) if clock.now() < asked_at + BUSY_MAX => {
                clock.sleep_until(clock.now() + BUSY_AFTER).await;
            }
            Err(error) => {
                pair.error = Some(error);
                return pair;
            }
        }
    }
    pair
}

const fn nothing() -> Repaired {
    Repaired {
        vnodes: 0,
        vnodes_differing: 0,
        buckets: 0,
        keys: 0,
        bytes: 0,
        healed: 0,
        failed: 0,
        next: None,
    }
}

const fn add(sum: &mut Repaired, found: &Repaired) {
    sum.vnodes += found.vnodes;
    sum.vnodes_differing += found.vnodes_differing;
    sum.buckets += found.buckets;
    sum.keys += found.keys;
    sum.bytes += found.bytes;
    sum.healed += found.healed;
    sum.failed += found.failed;
}

fn document(pair: &OfPair) -> Value {
    json!({
        "nodes": pair.nodes,
        "vnodes": pair.found.vnodes,
        "vnodes_differing": pair.found.vnodes_differing,
        "buckets_differing": pair.found.buckets,
        "keys_differing": pair.found.keys,
        "bytes_differing": pair.found.bytes,
        "keys_healed": pair.found.healed,
        "keys_failed": pair.found.failed,
        "error": pair.error.as_ref().map(ToString::to_string),
    })
}

fn text(pairs: &[OfPair]) -> String {
    let mut table = Table::new(&[
        "nodes", "vnodes", "differ", "keys", "bytes", "healed", "failed",
    ]);
    for OfPair { nodes, found, .. } in pairs {
        table.row(vec![
            nodes.join(", "),
            found.vnodes.to_string(),
            found.vnodes_differing.to_string(),
            found.keys.to_string(),
            shown_bytes(found.bytes),
            found.healed.to_string(),
            found.failed.to_string(),
        ]);
    }
    let mut text = table.text();
    for pair in pairs {
        if let Some(error) = &pair.error {
            let why = match error.code() {
                Code::Unavailable => ": one of them is not up, went away or cannot take writes",
                Code::DeadlineExceeded => ": there is more to do; repair again",
                _ => "",
            };
            text.push_str(&format!("{}: {error}{why}\n", pair.nodes.join(", ")));
        }
    }
    let keys = match pairs.iter().map(|pair| pair.found.failed).sum() {
        0_u64 => return text,
        1 => "1 key".to_owned(),
        failed => format!("{failed} keys"),
    };
    text.push_str(&format!(
        "{keys} could not be brought together: a node that holds them refused or was too slow\n  \
         next: look at `quorate status` for a node with a full disk or one that is not up, then run \
         `quorate repair` again\n"
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_could_not_be_brought_together_are_explained() {
        let pair = |failed| OfPair {
            nodes: ["a".to_owned(), "b".to_owned()],
            found: Repaired {
                failed,
                ..nothing()
            },
            error: None,
        };
        assert!(!text(&[pair(0)]).contains("brought together"));
        assert!(text(&[pair(0), pair(1)]).contains("\n1 key could not be"));
        let told = text(&[pair(3), pair(40)]);
        assert!(told.contains("\n43 keys could not be"), "{told}");
        assert!(told.contains("next: look at `quorate status`"), "{told}");
    }
}
