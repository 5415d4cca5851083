//! `quorate hints`: which nodes missed which number of writes, and where these wait for them.
//!
//! What a sloppy write counted is told apart: there the records themselves are kept, and none is
//! let go.
//!
//! Exit code 3 if a node did not answer. Hints that wait are no fault: they are delivered once
//! their target is up, and what they do not bring an exchange brings.

use quorate_client::wire::HintStatus;
use quorate_client::{Client, NodeError};
use quorate_ring::{Node, NodeId};
use serde_json::{Value, json};

use super::args::Global;
use super::exit::{Exit, Problem};
use super::is_json;
use super::output::{Table, print, print_json, shown_bytes};
use super::session::connect;
use super::signals::{StopSignals, unless_stopped};
use super::status::{ask_all, refusal};

/// What one node keeps for others.
struct OfNode {
    node: Node,
    hints: Result<Vec<HintStatus>, NodeError>,
}

/// Asks every node what it keeps for others.
///
/// # Errors
/// A [`Problem`] if no node can be reached, the certificate has not the role, or on Ctrl-C.
pub(super) async fn run(global: Global) -> Result<Exit, Problem> {
    let mut signals = StopSignals::listen()?;
    let asked = async {
        let client = connect(&global).await?;
        let answers = ask_all(&client).await;
        if let Some(problem) = refusal(&answers) {
            return Err(problem);
        }
        let told = answers.into_iter().map(|(node, status)| OfNode {
            node,
            hints: status.map(|status| status.hints),
        });
        Ok::<_, Problem>((client, told.collect::<Vec<_>>()))
    };
    let interrupted = || Problem::new(Exit::Failed, "INTERRUPTED", "interrupted");
    let (client, nodes) = unless_stopped(&mut signals, asked)
        .await
        .ok_or_else(interrupted)??;
    if is_json(global.output) {
        print_json(&json!({
            "schema": "hints/v1",
            "nodes": nodes.iter().map(|of| document(&client, of)).collect::<Vec<_>>(),
        }))?;
    } else {
        print(text(&client, &nodes).as_bytes())?;
    }
    let all_told = nodes.iter().all(|of| of.hints.is_ok());
    Ok(if all_told { Exit::Ok } else { Exit::Degraded })
}

fn name(client: &Client, node: u32) -> String {
    let topology = client.topology();
    let known = topology
        .ring()
        .nodes()
        .iter()
        .find(|of| of.id == NodeId(node));
    known.map_or_else(|| format!("number {node}"), |node| node.name.to_string())
}

fn document(client: &Client, OfNode { node, hints }: &OfNode) -> Value {
    let hint = |hint: &HintStatus| {
        json!({
            "for": name(client, hint.node),
            "keys": hint.keys,
            "bytes": hint.bytes,
            "oldest_ms": hint.oldest_ms,
            "let_go": hint.let_go,
            "counted": hint.counted,
        })
    };
    match hints {
        Ok(hints) => json!({
            "node": node.name.as_str(),
            "hints": hints.iter().map(hint).collect::<Vec<_>>(),
        }),
        Err(error) => json!({ "node": node.name.as_str(), "error": error.to_string() }),
    }
}

fn text(client: &Client, nodes: &[OfNode]) -> String {
    let mut table = Table::new(&[
        "kept on", "for", "kind", "keys", "bytes", "oldest", "let go",
    ]);
    let (mut rows, mut errors) = (0, String::new());
    for OfNode { node, hints } in nodes {
        match hints {
            Ok(hints) => {
                for hint in hints {
                    rows += 1;
                    table.row(vec![
                        node.name.to_string(),
                        name(client, hint.node),
                        if hint.counted { "counted" } else { "missed" }.to_owned(),
                        hint.keys.to_string(),
                        shown_bytes(hint.bytes),
                        format!("{} s", hint.oldest_ms / 1_000),
                        hint.let_go.to_string(),
                    ]);
                }
            }
            Err(error) => {
                errors.push_str(&format!("{error}\n"));
            }
        }
    }
    let told = if rows == 0 {
        "no node keeps anything for another\n".to_owned()
    } else {
        table.text()
    };
    told + &errors
}
