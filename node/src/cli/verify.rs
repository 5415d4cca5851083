//! `quorate verify`: every record of the nodes' stores is read and judged, vnode by vnode.
//!
//! One node after the other, one vnode at a time, no faster than asked: the nodes go on serving.
//! What is wrong is listed; nothing is changed. Exit code 1 if anything is wrong or a node did not
//! answer.
//!
//! Not here: the judgement (`core::verify`), repair.

use std::time::Duration;

use quorate_client::wire::{Code, Verified, VerifyFault};
use quorate_client::{Client, NodeError};
use quorate_ring::{Keyspace, MonoTime, VnodeId};
use serde_json::{Value, json};

use super::args::{Global, VerifyArgs};
use super::exit::{Exit, Problem};
use super::is_json;
use super::output::{encode, note, print, print_json, shown_bytes, stdout_is_terminal};
use super::session::{connect, unanswered};
use super::signals::{StopSignals, unless_stopped};
use crate::shell::seam::Clock;
use crate::shell::system::SystemClock;

/// Faults that are listed of a node; of more only the number.
const FAULTS_SHOWN_MAX: usize = 100;

/// When a node that verifies for somebody else is asked again, and for how long.
const BUSY_AFTER: Duration = Duration::from_millis(200);
const BUSY_MAX: Duration = Duration::from_secs(60);

/// Records between two notes of progress on a terminal.
const NOTE_EVERY: u64 = 100_000;

/// A fault with where it is.
struct Found {
    keyspace: String,
    fault: VerifyFault,
}

/// What was found on a node.
#[derive(Default)]
struct OfNode {
    name: String,
    records: u64,
    bytes: u64,
    moving: u64,
    faults: Vec<Found>,
    faults_total: u64,
    /// Why the rest was not read.
    error: Option<NodeError>,
}

impl OfNode {
    fn is_sound(&self) -> bool {
        self.faults_total == 0 && self.error.is_none()
    }

    fn add(&mut self, keyspace: &Keyspace, verified: Verified) {
        self.records += verified.records;
        self.bytes += verified.bytes;
        self.moving += u64::from(verified.moving);
        self.faults_total += verified.faults_total;
        let room = FAULTS_SHOWN_MAX.saturating_sub(self.faults.len());
        let found = verified.faults.into_iter().map(|fault| Found {
            keyspace: keyspace.name.to_string(),
            fault,
        });
        self.faults.extend(found.take(room));
    }
}

/// Verifies the nodes' stores.
///
/// # Errors
/// A [`Problem`] if no node can be reached, there is no such node, or on Ctrl-C.
pub(super) async fn run(args: VerifyArgs, global: Global) -> Result<Exit, Problem> {
    let mut signals = StopSignals::listen()?;
    let verifying = async {
        let client = connect(&global).await?;
        let nodes = chosen(&args, &client)?;
        let mut found = Vec::new();
        for node in nodes {
            let of_node = verify_node(&client, node, args.records_per_second).await;
            // All of them would refuse this certificate.
            if let Some(error) = &of_node.error
                && error.code() == Code::RoleRefused
            {
                return Err(unanswered(error));
            }
            found.push(of_node);
        }
        client.close().await;
        Ok::<_, Problem>(found)
    };
    let verified = unless_stopped(&mut signals, verifying).await;
    let interrupted = || {
        Problem::new(
            Exit::Failed,
            "INTERRUPTED",
            "interrupted; nothing was changed",
        )
    };
    let nodes = verified.ok_or_else(interrupted)??;
    let is_sound = nodes.iter().all(OfNode::is_sound);
    if is_json(global.output) {
        print_json(&json!({
            "schema": "verify/v1",
            "sound": is_sound,
            "nodes": nodes.iter().map(document).collect::<Vec<_>>(),
        }))?;
    } else {
        let text: String = nodes.iter().map(text).collect();
        print(text.as_bytes())?;
    }
    if is_sound {
        return Ok(Exit::Ok);
    }
    note(
        "nothing was changed; what one node cannot read the other owners of the key still hold: \
         `quorate whereis KEY` shows them",
    );
    Ok(Exit::Failed)
}

fn chosen(args: &VerifyArgs, client: &Client) -> Result<Vec<String>, Problem> {
    let topology = client.topology();
    let known: Vec<String> = topology
        .ring()
        .nodes()
        .iter()
        .map(|node| node.name.to_string())
        .collect();
    if args.node.is_empty() {
        return Ok(known);
    }
    match args.node.iter().find(|name| !known.contains(name)) {
        Some(unknown) => Err(Problem::new(
            Exit::Usage,
            "NODE_UNKNOWN",
            format!(
                "there is no node {unknown}; the nodes are {}",
                known.join(", ")
            ),
        )),
        None => Ok(args.node.clone()),
    }
}

async fn verify_node(client: &Client, name: String, records_per_second: u64) -> OfNode {
    let topology = client.topology();
    let mut node = OfNode {
        name,
        ..OfNode::default()
    };
    let clock = SystemClock::start();
    for keyspace in topology.ring().keyspaces() {
        let mut next = Some(VnodeId(0));
        let mut asked_at = clock.now();
        while let Some(vnode) = next {
            match client.verify(&node.name, keyspace.id, vnode).await {
                Ok(verified) => {
                    let before = node.records;
                    next = verified.next.map(VnodeId);
                    node.add(keyspace, verified);
                    if stdout_is_terminal() && before / NOTE_EVERY != node.records / NOTE_EVERY {
                        note(&format!("node {}: {} records", node.name, node.records));
                    }
                }
                // Another one verifies this node: it is asked again until that one has its answer.
                Err(NodeError::Refused {
                    code: Code::Overloaded,
                    ..
                }) if clock.now() < asked_at + BUSY_MAX => {
                    clock.sleep_until(clock.now() + BUSY_AFTER).await;
                    continue;
                }
                Err(error) => {
                    node.error = Some(error);
                    return node;
                }
            }
            let rate = u32::try_from(records_per_second).unwrap_or(u32::MAX);
            let due = Duration::from_secs(node.records) / rate.max(1);
            clock.sleep_until(MonoTime::ZERO + due).await;
            asked_at = clock.now();
        }
    }
    node
}

fn document(node: &OfNode) -> Value {
    let fault = |found: &Found| {
        json!({
            "keyspace": found.keyspace,
            "vnode": found.fault.vnode,
            "key_b64": found.fault.key.as_ref().map(|key| encode(key)),
            "what": found.fault.what,
        })
    };
    json!({
        "id": node.name,
        "records": node.records,
        "bytes": node.bytes,
        "buckets_moving": node.moving,
        "faults_total": node.faults_total,
        "faults": node.faults.iter().map(fault).collect::<Vec<_>>(),
        "error": node.error.as_ref().map(ToString::to_string),
    })
}

fn text(node: &OfNode) -> String {
    let mut text = format!(
        "node {}: {} records, {}, {}\n",
        node.name,
        node.records,
        shown_bytes(node.bytes),
        match node.faults_total {
            0 if node.error.is_some() => "not read to its end".to_owned(),
            0 => "nothing wrong".to_owned(),
            1 => "1 fault".to_owned(),
            faults => format!("{faults} faults"),
        }
    );
    if node.moving > 0 {
        text.push_str(&format!(
            "  {} buckets were written meanwhile and not compared with their sums\n",
            node.moving
        ));
    }
    for Found { keyspace, fault } in &node.faults {
        let place = match &fault.key {
            Some(key) => format!("{keyspace}/{}", key.escape_ascii()),
            None => format!("{keyspace}, vnode {}", fault.vnode),
        };
        text.push_str(&format!("  {place}: {}\n", fault.what));
    }
    let untold = node.faults_total.saturating_sub(node.faults.len() as u64);
    if untold > 0 {
        text.push_str(&format!("  and {untold} more\n"));
    }
    if let Some(error) = &node.error {
        text.push_str(&format!("  {error}\n"));
    }
    text
}
