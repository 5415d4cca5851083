//! `quorate dev`: a cluster of real processes on this machine, in the foreground.
//!
//! The cluster is created once under `--data-dir` and comes back with its data. A child that ends
//! stays down, so that the fault can be watched; `dev` stays up until none of its children is left.
//! Children end with `dev`: it stops them when it is asked to stop, and the system kills them when
//! it is killed ([`super::system::end_with_parent`]).

mod children;
mod layout;
mod probe;

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::args::DevArgs;
use super::exit::{Exit, Problem};
use super::output::{Format, note, print, print_json};
use super::signals::{StopSignals, unless_stopped};
use children::Children;
use layout::{DevNode, Layout};

/// How often nodes are asked whether they are ready.
const PROBE_EVERY: Duration = Duration::from_millis(20);

/// How often children are looked at once the cluster is ready.
const WATCH_EVERY: Duration = Duration::from_millis(200);

/// How long children may take to stop before they are killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// Runs the cluster until a signal comes.
///
/// # Errors
/// A [`Problem`] if the directory has another cluster, a port is taken, or every node has ended.
pub(super) async fn run(args: DevArgs, format: Format) -> Result<Exit, Problem> {
    let mut signals = StopSignals::listen()?;
    let layout = Layout::open_or_create(&args)?;
    layout.refuse_taken_ports()?;
    let mut children = Children::start(&layout)?;
    let watched = unless_stopped(&mut signals, watch(&layout, &mut children, format)).await;
    let stopped = children.stop(STOP_TIMEOUT).await;
    match watched {
        Some(Err(problem)) => Err(problem),
        Some(Ok(never)) => match never {},
        None => {
            stopped?;
            Ok(Exit::Ok)
        }
    }
}

/// Tells when the cluster is ready, and whenever a child ends. Returns only when none is left, or
/// nothing can be told.
async fn watch(
    layout: &Layout,
    children: &mut Children,
    format: Format,
) -> Result<std::convert::Infallible, Problem> {
    let mut is_ready = false;
    loop {
        for ended in children.ended() {
            let node = &ended.node;
            let why = match ended.last_line.as_deref().filter(|_| !is_ready) {
                Some(line) => format!("\n  why: {line}"),
                None => String::new(),
            };
            let wait = if is_ready {
                ""
            } else {
                "\n  the cluster is not ready without it"
            };
            note(&format!(
                "node {} does not serve: it ended ({}) and stays down{why}{wait}\n  its log: {}\n  start it again: quorate serve \
                 --config {}",
                node.name,
                ended.how,
                node.log().display(),
                node.config().display(),
            ));
        }
        if children.is_empty() {
            return Err(none_left(layout));
        }
        if !is_ready && probe::all_count(&layout.nodes).await {
            is_ready = true;
            tell_ready(layout, format)?;
        }
        sleep(if is_ready { WATCH_EVERY } else { PROBE_EVERY }).await;
    }
}

fn none_left(layout: &Layout) -> Problem {
    let problem = Problem::new(
        Exit::Failed,
        "NODES_ENDED",
        "every node of the cluster has ended",
    );
    let problem = layout.nodes.iter().fold(problem, |problem, node| {
        let log = node.log();
        problem.because(format!(
            "the log of node {} is {}",
            node.name,
            log.display()
        ))
    });
    problem.then("mend what the logs tell, then run `quorate dev` again; the data is kept")
}

fn tell_ready(layout: &Layout, format: Format) -> Result<(), Problem> {
    let client = layout.client_file();
    let client = client.display();
    match format {
        Format::Text => {
            let mut text = format!(
                "ready: {} nodes, keyspaces {}, data in {}\n",
                layout.nodes.len(),
                layout.keyspaces.join(", "),
                layout.data_dir.display()
            );
            for node in &layout.nodes {
                text.push_str(&format!(
                    "  node {:<2}  quic {}  http http://{}  pid {}\n",
                    node.name,
                    node.quic,
                    node.http,
                    node.folder.join("pid").display(),
                ));
            }
            let option = if layout.is_default() {
                String::new()
            } else {
                format!("--client {client} ")
            };
            let http = layout.nodes.first().map(|node| node.http.to_string());
            text.push_str(&format!(
                "try, in another terminal:\n  quorate {option}put hello world\n  \
                 quorate {option}get hello\n  quorate {option}whereis hello\n  \
                 quorate {option}status\n  curl http://{}/metrics\n  \
                 kill -9 $(cat {})   # then read again\n",
                http.unwrap_or_default(),
                layout.nodes.last().map_or_else(String::new, |node| {
                    node.folder.join("pid").display().to_string()
                }),
            ));
            print(text.as_bytes())
        }
        Format::Json => {
            let node = |node: &DevNode| {
                json!({
                    "id": node.name,
                    "quic": node.quic.to_string(),
                    "http": node.http.to_string(),
                    "folder": node.folder.display().to_string(),
                })
            };
            print_json(&json!({
                "schema": "dev-ready/v1",
                "nodes": layout.nodes.iter().map(node).collect::<Vec<_>>(),
                "keyspaces": layout.keyspaces,
                "client": client.to_string(),
            }))
        }
    }
}
