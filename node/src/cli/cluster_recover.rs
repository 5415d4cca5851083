//! `cluster recover --lost NODE..`: the operator's word that disks are gone for good; `--accept
//! NODE..`: that what may be lost on a node is known.
//!
//! A node that lost what it acknowledged waits for its co-replicas, each of which may hold the only
//! other copy of a write. Of one whose disk will not come back nothing can be waited for: the
//! others note that, count again with what is there, and `status` tells where something may be
//! lost. A node that came back with an empty disk may be named too: then what nobody else has a
//! copy of (a keyspace with N=1) is given up there.
//!
//! A node that is up and lost nothing is refused. Telling it twice changes nothing; a node that is
//! heard again is no longer taken as lost.

use quorate_client::wire::Code;
use quorate_client::{Client, NodeError};
use quorate_ring::{Node, NodeId};
use serde_json::json;

use super::args::{ClusterRecoverArgs, Global};
use super::exit::{Exit, Problem};
use super::is_json;
use super::output::{Table, print, print_json};
use super::session::{connect, unanswered};
use super::signals::{StopSignals, unless_stopped};
use super::status::{Answer, ask_all, refusal};

/// What became of it at one node.
struct Told {
    node: Node,
    lost: Vec<Node>,
    result: Result<(), NodeError>,
}

/// Tells every node that is up.
///
/// # Errors
/// A [`Problem`] if a node is unknown, or up and whole, none answers, the certificate has not the
/// role, or on Ctrl-C.
pub(super) async fn run(args: ClusterRecoverArgs, global: Global) -> Result<Exit, Problem> {
    let mut signals = StopSignals::listen()?;
    if !args.accept.is_empty() {
        let accepting = accept(&args.accept, &global);
        return unless_stopped(&mut signals, accepting)
            .await
            .ok_or_else(interrupted)?;
    }
    let telling = async {
        let client = connect(&global).await?;
        let told = tell(&args, &client).await;
        client.close().await;
        told
    };
    let told = unless_stopped(&mut signals, telling).await;
    let (told, silent) = told.ok_or_else(interrupted)??;
    if is_json(global.output) {
        print_json(&document(&told, &silent))?;
    } else {
        print(text(&told, &silent).as_bytes())?;
    }
    let is_refused = told.iter().any(|told| {
        let error = told.result.as_ref().err();
        error.is_some_and(|error| error.code() == Code::NodeUp)
    });
    let is_complete = silent.is_empty() && told.iter().all(|told| told.result.is_ok());
    Ok(match (is_complete, is_refused) {
        (true, _) => Exit::Ok,
        (false, true) => Exit::Refused,
        (false, false) => Exit::Degraded,
    })
}

fn interrupted() -> Problem {
    let what = "interrupted; some nodes may have been told: run it again";
    Problem::new(Exit::Failed, "INTERRUPTED", what)
}

/// Tells nodes that what may be lost on them is known.
async fn accept(names: &[String], global: &Global) -> Result<Exit, Problem> {
    let client = connect(global).await?;
    let told = accept_at(names, &client).await;
    client.close().await;
    told?;
    if is_json(global.output) {
        print_json(&json!({ "schema": "cluster-recover/v1", "accepted": names }))?;
    } else {
        let names = names.join(", ");
        print(format!("{names}: what may be lost there is told no more\n").as_bytes())?;
    }
    Ok(Exit::Ok)
}

async fn accept_at(names: &[String], client: &Client) -> Result<(), Problem> {
    check_names(names, client)?;
    for name in names {
        let told = client.accept_losses(name).await;
        told.map_err(|error| unanswered(&error))?;
    }
    Ok(())
}

fn check_names(names: &[String], client: &Client) -> Result<(), Problem> {
    let topology = client.topology();
    let nodes = topology.ring().nodes();
    for name in names {
        if !nodes.iter().any(|node| node.name.as_str() == name) {
            let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
            let problem = Problem::usage(format!("there is no node `{name}`"));
            return Err(problem.because(format!("the nodes are {}", names.join(", "))));
        }
    }
    Ok(())
}

/// Gives what was told, and the nodes that should hear it and did not answer.
async fn tell(
    args: &ClusterRecoverArgs,
    client: &Client,
) -> Result<(Vec<Told>, Vec<Node>), Problem> {
    check_names(&args.lost, client)?;
    let answers = ask_all(client).await;
    if let Some(problem) = refusal(&answers) {
        return Err(problem);
    }
    let is_named = |node: &Node| args.lost.iter().any(|name| node.name.as_str() == name);
    let is_up = |(_, status): &&Answer| status.is_ok();
    for (node, status) in answers.iter().filter(is_up) {
        let is_whole = status
            .as_ref()
            .is_ok_and(|status| status.lost_why.is_none());
        if is_named(node) && is_whole {
            let what = format!("{} is up and lacks nothing that it acknowledged", node.name);
            let problem = Problem::new(Exit::Refused, Code::NodeUp.name(), what);
            return Err(problem.then("stop it first if its disk is to be given up"));
        }
    }
    // A node that another one hears is only out of reach from here.
    for (node, _) in answers
        .iter()
        .filter(|answer| is_named(&answer.0) && !is_up(answer))
    {
        let hears = |(_, status): &&Answer| {
            let mut peers = status.iter().flat_map(|status| &status.peers);
            peers.any(|peer| peer.node == node.id.0 && peer.up)
        };
        if let Some((other, _)) = answers.iter().find(hears) {
            let what = format!("{} is up: {} hears it", node.name, other.name);
            let problem = Problem::new(Exit::Refused, Code::NodeUp.name(), what);
            return Err(problem.then("stop it first if its disk is to be given up"));
        }
    }
    let down: Vec<Node> = answers
        .iter()
        .filter(|answer| is_named(&answer.0) && !is_up(answer))
        .map(|(node, _)| node.clone())
        .collect();
    let mut told = Vec::new();
    for (node, _) in answers.iter().filter(is_up) {
        let mut lost = down.clone();
        if is_named(node) {
            lost.push(node.clone());
        }
        if lost.is_empty() {
            continue;
        }
        let numbers: Vec<NodeId> = lost.iter().map(|node| node.id).collect();
        let result = client.declare_lost(node.name.as_str(), &numbers).await;
        if let Err(error) = &result
            && error.code() == Code::RoleRefused
        {
            return Err(unanswered(error));
        }
        told.push(Told {
            node: node.clone(),
            lost,
            result,
        });
    }
    let silent = answers
        .iter()
        .filter(|answer| !down.is_empty() && !is_named(&answer.0) && !is_up(answer));
    let silent = silent.map(|(node, _)| node.clone()).collect();
    Ok((told, silent))
}

fn names(nodes: &[Node]) -> String {
    let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    names.join(", ")
}

fn document(told: &[Told], silent: &[Node]) -> serde_json::Value {
    let one = |told: &Told| {
        let lost: Vec<&str> = told.lost.iter().map(|node| node.name.as_str()).collect();
        json!({
            "node": told.node.name.as_str(),
            "lost": lost,
            "error": told.result.as_ref().err().map(ToString::to_string),
        })
    };
    let silent: Vec<&str> = silent.iter().map(|node| node.name.as_str()).collect();
    json!({
        "schema": "cluster-recover/v1",
        "told": told.iter().map(one).collect::<Vec<_>>(),
        "not_reached": silent,
    })
}

fn text(told: &[Told], silent: &[Node]) -> String {
    let mut table = Table::new(&["node", "takes as lost", "noted"]);
    for told in told {
        let noted = told
            .result
            .as_ref()
            .map_or_else(ToString::to_string, |()| "yes".to_owned());
        table.row(vec![told.node.name.to_string(), names(&told.lost), noted]);
    }
    let mut text = table.text();
    if !silent.is_empty() {
        text.push_str(&format!(
            "not reached: {}; run it again when they are up\n",
            names(silent)
        ));
    }
    text.push_str("`quorate status` tells where something may be lost\n");
    text
}
