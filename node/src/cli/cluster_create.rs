//! `quorate cluster create`: writes everything that a new cluster needs.

use serde_json::json;

use super::args::ClusterCreateArgs;
use super::exit::{Exit, Problem};
use super::is_json;
use super::new_cluster::NewCluster;
use super::output::{Format, print, print_json};

/// Creates the cluster's files.
///
/// # Errors
/// A [`Problem`] if nodes and keyspaces do not fit together or `--out` holds anything.
pub(super) fn run(args: ClusterCreateArgs, format: Format) -> Result<Exit, Problem> {
    let new = NewCluster {
        nodes: args.nodes,
        keyspaces: args.keyspaces,
        vnodes: args.vnodes,
        folder: ToString::to_string,
        settings: "",
    };
    let cluster = new.create(&args.out)?;
    let nodes = cluster.topology.nodes();
    let config = |name: &str| {
        args.out
            .join(name)
            .join("quorate.toml")
            .display()
            .to_string()
    };
    let client = args.out.join("client.toml").display().to_string();
    if is_json(format) {
        let node = |node: &quorate_ring::Node| {
            json!({
                "id": node.name.as_str(),
                "address": node.address,
                "config": config(node.name.as_str()),
            })
        };
        print_json(&json!({
            "schema": "cluster-create/v1",
            "cluster_id": cluster.cluster_id.to_string(),
            "nodes": nodes.iter().map(node).collect::<Vec<_>>(),
            "client": client,
        }))?;
    } else {
        let mut text = format!(
            "created cluster {}\n\nstart each node:\n",
            cluster.cluster_id
        );
        for node in nodes {
            text.push_str(&format!(
                "  quorate serve --config {}\n",
                config(node.name.as_str())
            ));
        }
        text.push_str(&format!("\nthen:\n  quorate --client {client} status\n"));
        print(text.as_bytes())?;
    }
    Ok(Exit::Ok)
}
