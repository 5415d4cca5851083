//! `quorate ring`: where data lies, and what a change would move. Offline where nodes or a cluster
//! file are given; else the cluster is asked for its topology.
//!
//! Nodes are written `ID=WEIGHT[@ZONE]`, separated by commas.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use quorate_ring::{
    Copies, Distribution, Epoch, Keyspace, KeyspaceId, KeyspaceMode, Node, NodeId, Plan, Topology,
    VnodeCount, Weight, Zone, sample_tokens,
};
use serde_json::{Value, json};

use super::args::Global;
use super::exit::{Exit, Problem};
use super::is_json;
use super::new_cluster::weight;
use super::output::{Table, print, print_json};
use super::session::connect;
use crate::config::ClusterFile;

/// Arguments of `ring`.
#[derive(Debug, Args)]
pub(super) struct RingArgs {
    /// What to show.
    #[command(subcommand)]
    pub(super) command: RingCommand,
}

/// What can be shown of a ring.
#[derive(Debug, Subcommand)]
pub(super) enum RingCommand {
    /// Show the owners of every vnode.
    #[command(after_help = "Example:\n  quorate ring show\n  quorate ring show \
                            --nodes a=1,b=2,c=0.5 --n 2")]
    Show(RingSource),
    /// Show each node's share of the data.
    #[command(
        after_help = "Example:\n  quorate ring distribution --nodes a=1,b=2,c=0.5 --n 1 \
                            --keys 10000\n  quorate ring distribution \
                            --nodes a=1@x,b=1@x,c=1@y,d=1@y,e=1@z,f=1@z --n 3"
    )]
    Distribution(RingSource),
    /// Show what a change would move; nothing is changed.
    #[command(
        after_help = "Example:\n  quorate ring plan --nodes a=1,b=1,c=1 --n 3 --add d=2\n  \
                            quorate ring plan --remove 3 --reweight 1=2"
    )]
    Plan(PlanArgs),
}

/// Which ring.
#[derive(Debug, Args)]
pub(super) struct RingSource {
    /// A ring that exists on paper only: ID=WEIGHT[@ZONE],..
    #[arg(long, value_name = "NODES", conflicts_with = "cluster_file", value_parser = parse_nodes)]
    pub(super) nodes: Option<NodeList>,
    /// The ring of a cluster.toml.
    #[arg(long, value_name = "FILE")]
    pub(super) cluster_file: Option<PathBuf>,
    /// Copies of each key [default: those of the keyspaces, or min(3, nodes)].
    #[arg(long, value_name = "COUNT")]
    pub(super) n: Option<u8>,
    /// Keys of the sample that is counted.
    #[arg(long, default_value_t = 10_000, value_name = "COUNT",
          value_parser = clap::value_parser!(u64).range(0..=100_000_000))]
    pub(super) keys: u64,
    /// Parts of a ring on paper, a power of two.
    #[arg(long, default_value_t = 256, value_name = "COUNT")]
    pub(super) vnodes: u32,
}

/// Arguments of `ring plan`.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// The ring there is.
    #[command(flatten)]
    pub(super) source: RingSource,
    /// Nodes that would join: ID=WEIGHT[@ZONE],..
    #[arg(long, value_name = "NODES", value_parser = parse_nodes)]
    pub(super) add: Option<NodeList>,
    /// Nodes that would leave: ID,..
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    pub(super) remove: Vec<String>,
    /// Nodes that would get another weight, and zone if one is given: ID=WEIGHT[@ZONE],..
    #[arg(long, value_name = "NODES", value_parser = parse_nodes)]
    pub(super) reweight: Option<NodeList>,
    /// Copies that every keyspace would keep.
    #[arg(long, value_name = "COUNT")]
    pub(super) new_n: Option<u8>,
}

/// Nodes of a ring on paper.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NodeList(Vec<(quorate_ring::NodeName, Weight, Zone)>);

fn parse_nodes(text: &str) -> Result<NodeList, String> {
    let node = |part: &str| {
        let (name, rest) = part.split_once('=').unwrap_or((part, "1"));
        let (number, zone) = rest.split_once(['@', ':']).unwrap_or((rest, ""));
        let name = name.parse().map_err(|e| format!("{e}"))?;
        Ok((name, weight(number)?, Zone(zone.to_owned())))
    };
    text.split(',')
        .map(node)
        .collect::<Result<_, String>>()
        .map(NodeList)
}

/// Shows it.
///
/// # Errors
/// A [`Problem`] if the nodes make no ring, or the cluster cannot be reached.
pub(super) async fn run(args: RingArgs, global: Global) -> Result<Exit, Problem> {
    match args.command {
        RingCommand::Show(source) => show(&topology(&source, &global).await?, &global)?,
        RingCommand::Distribution(source) => {
            let topology = topology(&source, &global).await?;
            distribution(&topology, source.keys, &global)?;
        }
        RingCommand::Plan(args) => {
            let before = topology(&args.source, &global).await?;
            plan(&before, &args, &global)?;
        }
    }
    Ok(Exit::Ok)
}

async fn topology(source: &RingSource, global: &Global) -> Result<Topology, Problem> {
    let epoch = Epoch {
        generation: 1,
        number: 1,
    };
    let topology = if let Some(NodeList(nodes)) = &source.nodes {
        let nodes: Vec<Node> = (1..)
            .zip(nodes)
            .map(|(id, node)| paper_node(NodeId(id), node))
            .collect();
        let default = u8::try_from(nodes.len().min(3)).unwrap_or(3);
        let keyspace = Keyspace {
            id: KeyspaceId(1),
            name: "default"
                .parse()
                .map_err(|e| Problem::usage(format!("{e}")))?,
            mode: KeyspaceMode::Siblings,
            options: quorate_ring::KeyspaceOptions::default(),
            copies: copies(source.n.unwrap_or(default))?,
        };
        let vnodes = VnodeCount::new(source.vnodes).map_err(|e| Problem::usage(e.to_string()))?;
        return Topology::new(epoch, vnodes, nodes, vec![keyspace]).map_err(unusable);
    } else if let Some(path) = &source.cluster_file {
        ClusterFile::load(path)?.topology
    } else {
        connect(global).await?.topology().ring().clone()
    };
    let Some(n) = source.n else {
        return Ok(topology);
    };
    let keyspaces = topology.keyspaces().to_vec();
    let keyspaces: Result<Vec<Keyspace>, Problem> = keyspaces
        .into_iter()
        .map(|keyspace| {
            Ok(Keyspace {
                copies: copies(n)?,
                ..keyspace
            })
        })
        .collect();
    let nodes = topology.nodes().to_vec();
    Topology::new(topology.epoch(), topology.vnode_count(), nodes, keyspaces?).map_err(unusable)
}

/// A weight as people read it, also if it is very large or small.
fn weight_text(weight: f64) -> String {
    if (1e-3..=1e6).contains(&weight) {
        weight.to_string()
    } else {
        format!("{weight:e}")
    }
}

fn paper_node(id: NodeId, (name, weight, zone): &(quorate_ring::NodeName, Weight, Zone)) -> Node {
    Node {
        id,
        name: name.clone(),
        address: format!("{name}:7400"),
        weight: *weight,
        zone: zone.clone(),
    }
}

fn copies(n: u8) -> Result<Copies, Problem> {
    Copies::new(n).map_err(|e| Problem::usage(e.to_string()))
}

fn unusable(error: quorate_ring::TopologyError) -> Problem {
    Problem::usage(error.to_string())
}

fn show(topology: &Topology, global: &Global) -> Result<(), Problem> {
    let label = |id: &NodeId| {
        let node = topology.node(*id);
        node.map_or_else(|| id.to_string(), |node| node.name.to_string())
    };
    let owners = |vnode, n| {
        topology
            .owners(vnode, n)
            .iter()
            .map(label)
            .collect::<Vec<_>>()
    };
    let all = || topology.vnode_count().vnodes();
    if is_json(global.output) {
        let assignments = topology.assignments().map(|(n, _)| {
            let vnodes = all().map(|vnode| json!({ "id": vnode.0, "owners": owners(vnode, n) }));
            json!({ "n": n.get(), "vnodes": vnodes.collect::<Vec<_>>() })
        });
        return print_json(&json!({
            "schema": "ring/v1",
            "epoch": topology.epoch().to_string(),
            "vnodes": topology.vnode_count().get(),
            "assignments": assignments.collect::<Vec<_>>(),
        }));
    }
    let mut text = String::new();
    for (n, _) in topology.assignments() {
        let mut table = Table::new(&["vnode", "owners in order"]);
        for vnode in all() {
            table.row(vec![vnode.0.to_string(), owners(vnode, n).join(" ")]);
        }
        text.push_str(&format!("N={n}\n{}\n", table.text()));
    }
    print(text.as_bytes())
}

fn distribution(topology: &Topology, keys: u64, global: &Global) -> Result<(), Problem> {
    let mut reports = Vec::new();
    for (n, _) in topology.assignments() {
        let keyspace = topology
            .keyspaces()
            .iter()
            .find(|keyspace| keyspace.copies == n);
        let id = keyspace.map_or(KeyspaceId(1), |keyspace| keyspace.id);
        reports.extend(Distribution::of(topology, n, sample_tokens(id, keys)));
    }
    if is_json(global.output) {
        return print_json(&json!({
            "schema": "ring-distribution/v1",
            "reports": reports.iter().map(report_json).collect::<Vec<_>>(),
        }));
    }
    print(
        reports
            .iter()
            .map(report_text)
            .collect::<String>()
            .as_bytes(),
    )
}

fn report_json(report: &Distribution) -> Value {
    let node = |row: &quorate_ring::NodeShare| {
        json!({
            "id": row.name.as_str(),
            "zone": row.zone.0,
            "weight": row.weight.value(),
            "vnodes": row.vnodes,
            "first_places": row.first_places,
            "keys": row.keys,
            "wanted": row.wanted,
            "reachable": row.reachable,
            "reached": row.reached,
            "reached_in_keys": row.reached_in_keys,
            "deviation": row.deviation,
        })
    };
    json!({
        "n": report.copies.get(),
        "keys": report.keys,
        "nodes": report.nodes.iter().map(node).collect::<Vec<_>>(),
        "warnings": report.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn report_text(report: &Distribution) -> String {
    let headings = [
        "node", "zone", "weight", "vnodes", "first", "keys", "share", "of keys", "wanted", "off by",
    ];
    let mut table = Table::new(&headings);
    for row in &report.nodes {
        table.row(vec![
            row.name.to_string(),
            if row.zone.0.is_empty() {
                "-".to_owned()
            } else {
                row.zone.0.clone()
            },
            weight_text(row.weight.value()),
            row.vnodes.to_string(),
            row.first_places.to_string(),
            row.keys.to_string(),
            percent(row.reached),
            percent(row.reached_in_keys),
            percent(row.wanted),
            format!("{:+.2}%", row.deviation * 100.0),
        ]);
    }
    let warnings = report
        .warnings
        .iter()
        .map(|warning| format!("warning: {warning}\n"));
    format!(
        "N={}, {} keys\n{}{}\n",
        report.copies,
        report.keys,
        table.text(),
        warnings.collect::<String>()
    )
}

fn percent(share: f64) -> String {
    format!("{:.2}%", share * 100.0)
}

fn plan(before: &Topology, args: &PlanArgs, global: &Global) -> Result<(), Problem> {
    let after = changed(before, args)?;
    let Some(plan) = Plan::between(before, &after) else {
        return Err(Problem::usage("the number of vnodes cannot be changed"));
    };
    let sampled = |change: &quorate_ring::CopiesChange| {
        let id = change.keyspaces.first().copied().unwrap_or(KeyspaceId(1));
        change.keys_moved(sample_tokens(id, args.source.keys))
    };
    if is_json(global.output) {
        let change = |change: &quorate_ring::CopiesChange| {
            let node = |row: &quorate_ring::NodeChange| {
                json!({
                    "id": row.name.as_str(),
                    "before": row.before,
                    "after": row.after,
                    "gained": row.gained,
                    "lost": row.lost,
                })
            };
            let keys = sampled(change);
            json!({
                "n_before": change.copies_before.get(),
                "n_after": change.copies_after.get(),
                "moves": change.moves,
                "moves_least": change.moves_least,
                "keys": keys.keys,
                "keys_moved": keys.moved,
                "copies_made": keys.copies,
                "deviation_before": change.deviation_before,
                "deviation_after": change.deviation_after,
                "nodes": change.nodes.iter().map(node).collect::<Vec<_>>(),
                "warnings": change.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
            })
        };
        return print_json(&json!({
            "schema": "ring-plan/v1",
            "moves": plan.moves(),
            "moves_least": plan.moves_least(),
            "changes": plan.changes.iter().map(change).collect::<Vec<_>>(),
        }));
    }
    let mut text = String::new();
    for change in &plan.changes {
        let mut table = Table::new(&["node", "before", "after", "gains", "drops"]);
        for row in &change.nodes {
            let counts = [row.before, row.after, row.gained, row.lost];
            let name = std::iter::once(row.name.to_string());
            table.row(name.chain(counts.map(|count| count.to_string())).collect());
        }
        let keys = sampled(change);
        text.push_str(&format!(
            "N={} -> N={}: {} vnodes move, {} at least\n{}keys: {} of {} move, {} copies are \
             made\nbalance: off by {} before, {} after\n",
            change.copies_before,
            change.copies_after,
            change.moves,
            change.moves_least,
            table.text(),
            keys.moved,
            keys.keys,
            keys.copies,
            percent(change.deviation_before),
            percent(change.deviation_after),
        ));
        for warning in &change.warnings {
            text.push_str(&format!("warning: {warning}\n"));
        }
    }
    print(text.as_bytes())
}

fn changed(before: &Topology, args: &PlanArgs) -> Result<Topology, Problem> {
    let mut nodes = before.nodes().to_vec();
    let unknown = |name: &str| Problem::usage(format!("there is no node `{name}`"));
    for name in &args.remove {
        let at = nodes.iter().position(|node| node.name.as_str() == name);
        nodes.remove(at.ok_or_else(|| unknown(name))?);
    }
    for (name, weight, zone) in args.reweight.iter().flat_map(|list| &list.0) {
        let node = nodes.iter_mut().find(|node| node.name == *name);
        let node = node.ok_or_else(|| unknown(name.as_str()))?;
        node.weight = *weight;
        if !zone.0.is_empty() {
            node.zone = zone.clone();
        }
    }
    let added = args.add.iter().flat_map(|list| &list.0);
    for (id, node) in (before.next_node_id().0..).zip(added) {
        nodes.push(paper_node(NodeId(id), node));
    }
    let mut keyspaces = before.keyspaces().to_vec();
    if let Some(n) = args.new_n {
        let n = copies(n)?;
        keyspaces
            .iter_mut()
            .for_each(|keyspace| keyspace.copies = n);
    }
    let epoch = Epoch {
        number: before.epoch().number.saturating_add(1),
        ..before.epoch()
    };
    before.evolve(epoch, nodes, keyspaces).map_err(unusable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_have_a_weight_and_perhaps_a_zone() {
        let NodeList(nodes) = parse_nodes("a=1@x,b=0.5,c").expect("good nodes");
        let shown: Vec<_> = nodes
            .iter()
            .map(|(n, w, z)| (n.as_str(), w.value(), &z.0[..]))
            .collect();
        assert_eq!(shown, [("a", 1.0, "x"), ("b", 0.5, ""), ("c", 1.0, "")]);
        for text in ["", "a=", "a=0", "A=1", "a=1,,b=1", "a=inf"] {
            assert!(parse_nodes(text).is_err(), "{text}");
        }
    }
}
