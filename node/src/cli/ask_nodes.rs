//! Asks several nodes side by side, and waits no longer for one that is dead than it must.
//!
//! A node that is dead does not refuse: it is silent, and only a timeout tells. But its peers know:
//! whoever answers says whom it has not heard for a second. Such a node is given a short time, in
//! case only its peers cannot hear it, and is then told as unreached.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_client::wire::NodeStatus;
use quorate_client::{CallCause, CallError, Client, NodeError};
use quorate_ring::NodeId;
use tokio::task::JoinSet;

/// Time that a node is given although its peers call it dead.
const GRACE: Duration = Duration::from_millis(300);

/// Silence after which a peer's word is taken, in milliseconds; nodes call each other down after
/// it.
pub(super) const SILENT_MS_MIN: u64 = 1_000;

/// Asks each of `nodes` through `ask`; the answers come in their order.
///
/// # Cancel safety
/// Dropping the future gives all questions up; they change nothing.
pub(super) async fn ask_nodes<T, F>(
    client: &Client,
    nodes: &[String],
    ask: impl Fn(Client, String) -> F,
) -> Vec<Result<T, NodeError>>
where
    T: Send + 'static,
    F: Future<Output = Result<T, NodeError>> + Send + 'static,
{
    let mut asking = JoinSet::new();
    for (index, node) in nodes.iter().enumerate() {
        let answer = ask(client.clone(), node.clone());
        asking.spawn(async move { (index, answer.await) });
    }
    let mut views = JoinSet::new();
    for node in client.topology().ring().nodes() {
        let (client, name) = (client.clone(), node.name.to_string());
        views.spawn(async move { client.status(&name).await });
    }
    let mut answers: Vec<Option<Result<T, NodeError>>> = nodes.iter().map(|_| None).collect();
    let mut dead = BTreeMap::new();
    let grace = tokio::time::sleep(GRACE);
    tokio::pin!(grace);
    let mut over = false;
    loop {
        let waiting = nodes.iter().zip(&answers).filter(|(_, a)| a.is_none());
        let is_dead = |node: &String| number(client, node).is_some_and(|n| dead.contains_key(&n));
        if waiting.clone().next().is_none() || (over && waiting.clone().all(|(n, _)| is_dead(n))) {
            break;
        }
        tokio::select! {
            Some(Ok((index, answer))) = asking.join_next() => {
                if let Some(slot) = answers.get_mut(index) {
                    *slot = Some(answer);
                }
            }
            Some(view) = views.join_next() => note(&mut dead, view.ok().and_then(Result::ok)),
            () = grace.as_mut(), if !over => over = true,
            else => break,
        }
    }
    let answered = nodes.iter().zip(answers);
    let answer = |(node, answer): (&String, Option<_>)| {
        answer.unwrap_or_else(|| {
            let silent = number(client, node).and_then(|number| dead.get(&number));
            Err(unheard(node, silent.copied()))
        })
    };
    answered.map(answer).collect()
}

fn number(client: &Client, node: &str) -> Option<NodeId> {
    client
        .topology()
        .ring()
        .node_named(node)
        .map(|node| node.id)
}

/// Notes whom a node has not heard, with the silence in milliseconds.
fn note(dead: &mut BTreeMap<NodeId, u64>, view: Option<NodeStatus>) {
    let peers = view.into_iter().flat_map(|status| status.peers);
    for peer in peers.filter(|peer| !peer.up && peer.silent_ms >= SILENT_MS_MIN) {
        dead.insert(NodeId(peer.node), peer.silent_ms);
    }
}

fn unheard(node: &str, silent_ms: Option<u64>) -> NodeError {
    let detail = match silent_ms {
        Some(silent) => format!("its peers have not heard it for {} s", silent / 1_000),
        None => "no answer".to_owned(),
    };
    NodeError::Call {
        node: node.to_owned(),
        error: CallError::NotSent(CallCause::Unreachable { detail }),
    }
}
