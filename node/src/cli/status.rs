//! `quorate status`: one screen with the nodes, a verdict, and exit code 3 if a node is down.

use quorate_antientropy::Holdings;
use quorate_client::wire::{DeclaredLost, KeyspaceInfo, NodeStatus, PairStatus};
use quorate_client::{Client, NodeError, Topology};
use quorate_ring::Node;
use serde_json::{Value, json};

use super::args::Global;
use super::ask_nodes::{SILENT_MS_MIN, ask_nodes};
use super::exit::{Exit, Problem};
use super::is_json;
use super::output::{Table, print, print_json, shown_bytes};
use super::session::{connect, unanswered};
use super::signals::{StopSignals, unless_stopped};

/// What one node said, or why it did not.
pub(super) type Answer = (Node, Result<NodeStatus, NodeError>);

/// Asks every node of the topology.
///
/// # Errors
/// A [`Problem`] if no node can be reached or the certificate has not the role.
pub(super) async fn run(global: Global) -> Result<Exit, Problem> {
    let mut signals = StopSignals::listen()?;
    let asked = async {
        let client = connect(&global).await?;
        let answers = ask_all(&client).await;
        Ok::<_, Problem>((client.topology(), answers))
    };
    let interrupted = || Problem::new(Exit::Failed, "INTERRUPTED", "interrupted");
    let (topology, answers) = unless_stopped(&mut signals, asked)
        .await
        .ok_or_else(interrupted)??;
    if let Some(problem) = refusal(&answers) {
        return Err(problem);
    }
    let has_memory = has_memory_keyspace(&topology);
    let healthy = reasons(&topology, &answers, has_memory).is_empty();
    if is_json(global.output) {
        print_json(&document(&topology, &answers, healthy))?;
    } else {
        print(text(&topology, &answers, healthy).as_bytes())?;
    }
    Ok(if healthy { Exit::Ok } else { Exit::Degraded })
}

/// Whether all is well, and what is not.
#[derive(Debug, Clone, Default)]
pub(super) struct Health {
    /// What is wrong, in sentences.
    pub(super) reasons: Vec<String>,
    /// False as long as no node was asked.
    asked: bool,
}

impl Health {
    /// Not well, for this reason.
    pub(super) fn of_reason(reason: &str) -> Self {
        Self {
            reasons: vec![reason.to_owned()],
            asked: true,
        }
    }

    /// Whether every node is up and counts for all its vnodes.
    pub(super) const fn is_healthy(&self) -> bool {
        self.asked && self.reasons.is_empty()
    }
}

/// Asks every node of the topology.
///
/// # Errors
/// A [`Problem`] if the certificate has not the role.
pub(super) async fn health_of(client: &Client) -> Result<Health, Problem> {
    let answers = ask_all(client).await;
    if let Some(problem) = refusal(&answers) {
        return Err(problem);
    }
    let topology = client.topology();
    let has_memory = has_memory_keyspace(&topology);
    Ok(Health {
        reasons: reasons(&topology, &answers, has_memory),
        asked: true,
    })
}

/// The problem of a certificate that may not ask.
pub(super) fn refusal(answers: &[Answer]) -> Option<Problem> {
    answers.iter().find_map(|(_, answer)| match answer {
        Err(error @ NodeError::Refused { .. }) => Some(unanswered(error)),
        Ok(_) | Err(_) => None,
    })
}

/// What is not well, in sentences.
fn reasons(topology: &Topology, answers: &[Answer], has_memory: bool) -> Vec<String> {
    let mut reasons = Vec::new();
    for answer in answers {
        match answer {
            (_, Err(error)) => reasons.push(error.to_string()),
            (node, Ok(status)) if !is_whole(answer) => reasons.push(format!(
                "node {} counts for {} of {} vnodes; it is still hearing from its co-replicas, or \
                 gets back what it lost",
                node.name, status.vnodes_counting, status.vnodes_owned
            )),
            (_, Ok(_)) => {}
        }
        let complaints = complaints(topology, answer, has_memory).into_iter();
        reasons.extend(complaints.map(|complaint| format!("node {} {complaint}", answer.0.name)));
    }
    reasons
}

pub(super) async fn ask_all(client: &Client) -> Vec<Answer> {
    let nodes = client.topology().ring().nodes().to_vec();
    let names: Vec<String> = nodes.iter().map(|node| node.name.to_string()).collect();
    let ask = |client: Client, node: String| async move { client.status(&node).await };
    let answers = ask_nodes(client, &names, ask).await;
    nodes.into_iter().zip(answers).collect()
}

fn is_whole((_, answer): &Answer) -> bool {
    answer
        .as_ref()
        .is_ok_and(|status| status.vnodes_counting == status.vnodes_owned)
}

fn state(answer: &Answer) -> &'static str {
    match answer {
        (_, Err(_)) => "down",
        (_, Ok(_)) if is_whole(answer) => "up",
        (_, Ok(_)) => "catching-up",
    }
}

fn document(topology: &Topology, answers: &[Answer], healthy: bool) -> Value {
    let node = |answer: &Answer| {
        let (node, said) = answer;
        let mut document = json!({
            "id": node.name.as_str(),
            "number": node.id.to_string(),
            "address": node.address,
            "weight": node.weight.value(),
            "zone": node.zone.0,
            "state": state(answer),
        });
        let more = match said {
            Ok(status) => numbers(topology, status),
            Err(error) => json!({ "reason": error.to_string() }),
        };
        if let (Some(document), Value::Object(more)) = (document.as_object_mut(), more) {
            document.extend(more);
        }
        document
    };
    let info = topology.info();
    let keyspaces = info.keyspaces.iter().map(|keyspace| {
        let total = total(answers, &keyspace.name);
        json!({
            "id": keyspace.id.to_string(),
            "name": keyspace.name,
            "mode": keyspace.mode,
            "n": keyspace.copies,
            "durability": keyspace.durability,
            "read_level": level_of(keyspace.read_level),
            "write_level": level_of(keyspace.write_level),
            "ttl_ms": (keyspace.ttl_ms > 0).then_some(keyspace.ttl_ms),
            "keys": total.map(|total| total.keys),
            "tombstones": total.map(|total| total.tombstones),
            "bytes": total.map(|total| total.bytes),
            "approximate": total.is_some() && is_approximate(answers),
        })
    });
    json!({
        "schema": "status/v1",
        "cluster_id": topology.cluster_id().to_string(),
        "epoch": topology.ring().epoch().to_string(),
        "vnodes": info.vnodes,
        "healthy": healthy,
        "keyspaces": keyspaces.collect::<Vec<_>>(),
        "nodes": answers.iter().map(node).collect::<Vec<_>>(),
    })
}

fn numbers(topology: &Topology, status: &NodeStatus) -> Value {
    let peer = |peer: &quorate_client::wire::PeerStatus| {
        json!({
            "id": topology.node_label(quorate_ring::NodeId(peer.node)),
            "up": peer.up,
            "silent_ms": peer.silent_ms,
        })
    };
    let pair = |pair: &PairStatus| {
        json!({
            "id": topology.node_label(quorate_ring::NodeId(pair.node)),
            "age_ms": pair.age_ms,
            "keys_differing": pair.keys,
            "keys_healed": pair.healed,
        })
    };
    let holdings = |held: &quorate_client::wire::KeyspaceHoldings| {
        json!({
            "name": held.keyspace,
            "keys": held.keys,
            "tombstones": held.tombstones,
            "bytes": held.bytes,
        })
    };
    let declared = |declared: &DeclaredLost| {
        let node = topology.node_label(quorate_ring::NodeId(declared.node));
        json!({ "node": node, "at_ms": declared.at_ms })
    };
    json!({
        "version": status.version,
        "pid": status.pid,
        "incarnation": format!("{:016x}", status.incarnation),
        "durable_lsn": status.durable_lsn.to_string(),
        "applied_lsn": status.applied_lsn.to_string(),
        "vnodes_owned": status.vnodes_owned,
        "vnodes_counting": status.vnodes_counting,
        "table_records": status.table_records,
        "table_bytes": status.table_bytes,
        "cache_bytes": status.cache_bytes,
        "log_bytes": status.log_bytes,
        "engine_backlog": status.engine_backlog,
        "disk_free_bytes": status.disk_free_bytes,
        "disk_total_bytes": status.disk_total_bytes,
        "uptime_ms": status.uptime_us / 1_000,
        "requests_in_flight": status.requests_in_flight,
        "hints_wanted": status.hints_wanted,
        "guest_records": status.guest_records,
        "guest_bytes": status.guest_bytes,
        "guest_bytes_max": status.guest_bytes_max,
        "disk_full": status.disk_full,
        "memory_lost": status.memory_lost,
        "lost_why": status.lost_why,
        "copies_lacking": status.copies_lacking,
        "only_copies_lacking": status.only_copies_lacking,
        "copies_in_doubt": status.copies_in_doubt,
        "memory_copies_in_doubt": status.memory_copies_in_doubt,
        "declared_lost": status.declared_lost.iter().map(declared).collect::<Vec<_>>(),
        "purge": {
            "waiting": status.purge.waiting,
            "oldest_ms": status.purge.oldest_ms,
            "blocked_by": status.purge.blocked_by,
            "purged": status.purge.purged,
        },
        "clock_off": status.clock_off,
        "peers": status.peers.iter().map(peer).collect::<Vec<_>>(),
        "keyspaces": status.keyspaces.iter().map(holdings).collect::<Vec<_>>(),
        "compared": status.pairs.iter().map(pair).collect::<Vec<_>>(),
    })
}

fn text(topology: &Topology, answers: &[Answer], healthy: bool) -> String {
    let headings = [
        "node",
        "state",
        "address",
        "zone",
        "vnodes",
        "counts",
        "log",
        "disk free",
        "up for",
    ];
    let mut table = Table::new(&headings);
    for answer in answers {
        let (node, said) = answer;
        let mut row = vec![
            node.name.to_string(),
            state(answer).to_owned(),
            node.address.clone(),
            if node.zone.0.is_empty() {
                "-".to_owned()
            } else {
                node.zone.0.clone()
            },
        ];
        match said {
            Ok(status) => row.extend([
                status.vnodes_owned.to_string(),
                status.vnodes_counting.to_string(),
                shown_bytes(status.log_bytes),
                shown_bytes(status.disk_free_bytes),
                format!("{} s", status.uptime_us / 1_000_000),
            ]),
            Err(_) => row.extend(["-"; 5].map(str::to_owned)),
        }
        table.row(row);
    }
    let mut text = format!(
        "cluster {}  epoch {}  {} vnodes\n\n{}\n{}",
        topology.cluster_id(),
        topology.ring().epoch(),
        topology.info().vnodes,
        keyspace_table(topology, answers).text(),
        table.text()
    );
    text.push_str(&compared(topology, answers));
    text.push_str(&purge(topology, answers));
    text.push_str(&guests(topology, answers));
    let has_memory = has_memory_keyspace(topology);
    if healthy {
        text.push_str("\nhealthy: every node is up and counts for all its vnodes\n");
        return text;
    }
    text.push_str("\ndegraded:\n");
    for reason in reasons(topology, answers, has_memory) {
        text.push_str(&format!("  {reason}\n"));
    }
    text
}

/// How many deleted keys wait to be purged, for how long, and for whom; nothing if none does.
fn purge(topology: &Topology, answers: &[Answer]) -> String {
    let told = answers.iter().filter_map(|(_, said)| said.as_ref().ok());
    let told: Vec<_> = told.map(|status| &status.purge).collect();
    let waiting: u64 = told.iter().map(|purge| purge.waiting).sum();
    if waiting == 0 {
        return String::new();
    }
    let oldest = told.iter().filter_map(|purge| purge.oldest_ms).max();
    let oldest = oldest.map_or(String::new(), |oldest_ms| {
        format!(", the oldest for {} s", oldest_ms / 1_000)
    });
    let blocking: std::collections::BTreeSet<String> = told
        .iter()
        .flat_map(|purge| &purge.blocked_by)
        .map(|node| topology.node_label(quorate_ring::NodeId(*node)))
        .collect();
    let blocking: Vec<String> = blocking.into_iter().collect();
    let blocking = if blocking.is_empty() {
        String::new()
    } else {
        format!("; not while {} cannot take part", blocking.join(", "))
    };
    format!("deleted keys that wait to be purged: {waiting}{oldest}{blocking}\n")
}

/// What nodes hold in place of owners that could not be had.
fn guests(topology: &Topology, answers: &[Answer]) -> String {
    let told = answers
        .iter()
        .filter_map(|(node, said)| Some((node, said.as_ref().ok()?)));
    let holding = told.filter(|(_, status)| status.guest_records > 0);
    let line = |(node, status): (&Node, &NodeStatus)| {
        let waiting = status.hints.iter().filter(|hint| hint.counted);
        let owners = waiting.map(|hint| topology.node_label(quorate_ring::NodeId(hint.node)));
        let owners: Vec<String> = owners.collect();
        format!(
            "{} holds {} records ({}) in place of {}\n",
            node.name,
            status.guest_records,
            shown_bytes(status.guest_bytes),
            owners.join(", ")
        )
    };
    holding.map(line).collect()
}

/// When the copies of which nodes were compared last, and how many keys differed.
fn compared(topology: &Topology, answers: &[Answer]) -> String {
    let statuses = answers
        .iter()
        .filter_map(|(node, said)| Some((node, said.as_ref().ok()?)));
    let pairs =
        statuses.flat_map(|(node, status)| status.pairs.iter().map(move |pair| (node, pair)));
    let mut text = String::new();
    for (node, pair) in pairs {
        let other = topology.node_label(quorate_ring::NodeId(pair.node));
        let when = pair.age_ms.map_or("not yet".to_owned(), |age_ms| {
            format!("{} s ago, {} keys differed", age_ms / 1_000, pair.keys)
        });
        text.push_str(&format!(
            "copies of {} and {other} compared: {when}\n",
            node.name
        ));
    }
    if text.is_empty() {
        text
    } else {
        format!("\n{text}")
    }
}

/// The keyspaces with what they hold, each key counted once.
fn keyspace_table(topology: &Topology, answers: &[Answer]) -> Table {
    let mut table = Table::new(&["keyspace", "mode", "n", "keys", "tombstones", "bytes"]);
    for keyspace in &topology.info().keyspaces {
        let memory = if is_memory(keyspace) { ", memory" } else { "" };
        let total = total(answers, &keyspace.name);
        let about = if is_approximate(answers) { "~" } else { "" };
        let shown = |number: Option<u64>| number.map_or("?".to_owned(), |n| format!("{about}{n}"));
        table.row(vec![
            keyspace.name.clone(),
            format!("{}{memory}", keyspace.mode),
            keyspace.copies.to_string(),
            shown(total.map(|total| total.keys)),
            shown(total.map(|total| total.tombstones)),
            total.map_or("?".to_owned(), |total| {
                format!("{about}{}", shown_bytes(total.bytes))
            }),
        ]);
    }
    table
}

/// What a keyspace holds, each key counted at the first of its owners that is up; `None` while a
/// node has not answered that others still wait for.
fn total(answers: &[Answer], keyspace: &str) -> Option<Holdings> {
    let statuses = || answers.iter().filter_map(|(_, said)| said.as_ref().ok());
    let is_given_up = |node: u32| {
        let mut peers = statuses().flat_map(|status| &status.peers);
        peers.all(|peer| peer.node != node || peer.silent_ms >= SILENT_MS_MIN)
    };
    let mut silent = answers.iter().filter(|(_, said)| said.is_err());
    if statuses().next().is_none() || !silent.all(|(node, _)| is_given_up(node.id.0)) {
        return None;
    }
    let of_node = |status: &NodeStatus| {
        let mut held = status.keyspaces.iter();
        let held = held.find(|held| held.keyspace == keyspace);
        held.map_or(Holdings::default(), |held| Holdings {
            keys: held.first_keys,
            tombstones: held.first_tombstones,
            bytes: held.first_bytes,
        })
    };
    let totals = statuses().map(of_node);
    Some(totals.fold(Holdings::default(), Holdings::and))
}

/// Whether totals may be off: a node that does not count for all its vnodes may lack writes, and be
/// the first owner of what it lacks.
fn is_approximate(answers: &[Answer]) -> bool {
    answers
        .iter()
        .any(|answer| answer.1.is_ok() && !is_whole(answer))
}

fn is_memory(keyspace: &KeyspaceInfo) -> bool {
    keyspace.durability == "memory"
}

/// Whether a keyspace has durability `memory`.
fn has_memory_keyspace(topology: &Topology) -> bool {
    topology.info().keyspaces.iter().any(is_memory)
}

/// What a node that is up cannot do.
fn complaints(topology: &Topology, (node, answer): &Answer, has_memory: bool) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(status) = answer else {
        return found;
    };
    if status.disk_full {
        let percent = status.disk_free_bytes.saturating_mul(100) / status.disk_total_bytes.max(1);
        found.push(format!(
            "takes no writes: its disk has {percent} % free ({}), less than `disk_free_percent_min`; free \
             space there, or add some",
            shown_bytes(status.disk_free_bytes)
        ));
    }
    let guests_max = status.guest_bytes_max;
    if guests_max > 0 && status.guest_bytes >= guests_max / 10 * 9 && status.guest_bytes > 0 {
        found.push(format!(
            "holds {} in place of owners that are down, of {} that it may (`guest_bytes_max`), and will \
             refuse sloppy writes: bring the owners back, or let it hold more",
            shown_bytes(status.guest_bytes),
            shown_bytes(status.guest_bytes_max)
        ));
    }
    if has_memory && status.memory_lost {
        found.push(format!(
            "ended without a clean stop and may have forgotten what memory keyspaces acknowledged; it \
             counts for none of their copies that were not compared yet ({} in all)",
            status.copies_lacking
        ));
    }
    if let Some(why) = &status.lost_why {
        let only = status.only_copies_lacking;
        let shared = status.copies_lacking.saturating_sub(only);
        if shared > 0 || only == 0 {
            found.push(format!(
                "lost writes that it had acknowledged and gets them back from the others; {shared} \
                 copies are not whole yet. Why: {why}"
            ));
        }
        if only > 0 {
            found.push(format!(
                "lost {only} copies that no other node has, and reads none of them before they are \
                 given up by `quorate cluster recover --lost` with its name. Why: {why}"
            ));
        }
    }
    if status.copies_in_doubt > 0 {
        found.push(format!(
            "had too few whole neighbours when it got back what it lost: possible loss in {} copies; once you \
             know what that means for you, `quorate cluster recover --accept {}` ends this word",
            status.copies_in_doubt, node.name
        ));
    }
    if !status.declared_lost.is_empty() {
        let lost = status.declared_lost.iter();
        let lost = lost.map(|lost| topology.node_label(quorate_ring::NodeId(lost.node)));
        let lost: Vec<String> = lost.collect();
        found.push(format!(
            "was told that the disks of {} are lost for good and waits for nothing that only they held",
            lost.join(", ")
        ));
    }
    if status.clock_off {
        found.push(
            "has a clock that is over 500 ms off its peers' clocks, or is not compared with them \
             yet; it takes no write with a TTL"
                .to_owned(),
        );
    }
    found
}

fn level_of(level: quorate_client::wire::Level) -> String {
    use quorate_client::wire::Level;
    match level {
        Level::One => "one".to_owned(),
        Level::Two => "two".to_owned(),
        Level::Quorum => "quorum".to_owned(),
        Level::All => "all".to_owned(),
        Level::Exactly(count) => count.to_string(),
        Level::Sloppy(level) => format!("{}+sloppy", level_of(level.into())),
    }
}
