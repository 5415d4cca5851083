//! One node of the probe, in a process of its own: the coordinator, or one that does as it says.
//!
//! It ends when its standard input does, so never after the process that started it.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::Builder;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use clap::Args;
use quinn::RecvStream;
use quorate_client::link::node_san;
use quorate_node::shell::certs::NodeTls;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::certificates::{CLUSTER, node_name, node_tls};
use super::committer::{Committer, lock};
use super::frames::{Frames, Kind};
use super::links::{Outbox, accept, dial, node_endpoint, piece};
use super::{Mode, NODES};

/// How a node is told what to do.
#[derive(Debug, Clone, Args)]
pub struct NodeArgs {
    /// Its certificates, and its file.
    #[arg(long)]
    pub folder: PathBuf,
    /// Its number.
    #[arg(long)]
    pub number: usize,
    /// The other nodes, if it is the coordinator.
    #[arg(long, value_delimiter = ',')]
    pub peers: Vec<SocketAddr>,
    /// Touch no file.
    #[arg(long)]
    pub no_sync: bool,
}

type Tasks = JoinSet<Result<()>>;

/// What a node does with what comes in.
#[derive(Debug)]
struct Node {
    mode: Mode,
    /// Towards who asks: the client, or the coordinator.
    asker: Outbox,
    /// Towards the other nodes; none unless it is the coordinator.
    peers: Vec<Arc<Outbox>>,
    committer: Option<Arc<Committer>>,
    /// How many nodes are done with a request.
    done: Mutex<BTreeMap<u64, usize>>,
}

/// Runs a node until standard input ends; says `ready PORT` when it can be asked.
///
/// # Errors
/// If certificates, sockets or the file cannot be used, or a connection breaks.
pub fn run(args: &NodeArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(args))
}

async fn serve(args: &NodeArgs) -> Result<()> {
    let stopped = stop_at_end_of_input()?;
    let mode = if args.no_sync {
        Mode::Read
    } else {
        Mode::Write
    };
    let tls = node_tls(&args.folder, args.number)?;
    let endpoint = node_endpoint(&tls)?;
    let mut tasks = Tasks::new();
    tasks.spawn(async move { Ok(stopped.await?) });
    // Before any connection: while the file is filled nothing is answered.
    let committer = match mode {
        Mode::Write => Some(Committer::start(&args.folder)?),
        Mode::Read => None,
    };
    let (peers, answers) = dial_peers(&endpoint, &tls, &args.peers, &mut tasks).await?;
    let node = Arc::new(Node {
        mode,
        asker: Outbox::default(),
        peers,
        committer,
        done: Mutex::default(),
    });
    for recv in answers {
        tasks.spawn(read_answers(Arc::clone(&node), recv));
    }
    if let Some(committer) = &node.committer {
        tasks.spawn(tell_durable(Arc::clone(&node), Arc::clone(committer)));
    }
    let port = endpoint.local_addr()?.port();
    writeln!(std::io::stdout(), "ready {port}")?;
    let own = Arc::clone(&node);
    tasks.spawn(async move {
        let incoming = endpoint.accept().await.context("the socket is open")?;
        let connection = incoming.await?;
        tls.identify(&connection)?;
        let (send, recv) = accept(&connection).await?;
        let reads = read_requests(Arc::clone(&own), recv);
        tokio::try_join!(own.asker.write_to(send), reads)?;
        Ok(())
    });
    // The first that ends ends the node: the input, or a connection that broke.
    tasks.join_next().await.context("there are tasks")??
}

async fn dial_peers(
    endpoint: &quinn::Endpoint,
    tls: &NodeTls,
    peers: &[SocketAddr],
    tasks: &mut Tasks,
) -> Result<(Vec<Arc<Outbox>>, Vec<RecvStream>)> {
    ensure!(peers.is_empty() || peers.len() == NODES - 1, "two peers");
    let (mut outboxes, mut answers) = (Vec::new(), Vec::new());
    for (number, address) in (1..).zip(peers) {
        let name = node_san(CLUSTER, &node_name(number)?);
        let (connection, send, recv) = dial(endpoint, tls.dialler(), *address, &name).await?;
        let outbox: Arc<Outbox> = Arc::default();
        let own = Arc::clone(&outbox);
        tasks.spawn(async move {
            // The connection lives as long as its writer.
            let _connection = connection;
            own.write_to(send).await
        });
        outboxes.push(outbox);
        answers.push(recv);
    }
    Ok((outboxes, answers))
}

async fn read_requests(node: Arc<Node>, mut recv: RecvStream) -> Result<()> {
    let mut frames = Frames::new(Kind::Request(node.mode));
    while let Some(piece) = piece(&mut recv).await? {
        frames.push(&piece);
        while let Some((number, frame)) = frames.next() {
            node.requested(number, frame);
        }
    }
    Ok(())
}

async fn read_answers(node: Arc<Node>, mut recv: RecvStream) -> Result<()> {
    let mut frames = Frames::new(Kind::PeerAnswer);
    while let Some(piece) = piece(&mut recv).await? {
        frames.push(&piece);
        while let Some((number, _)) = frames.next() {
            node.is_done(number);
        }
    }
    Ok(())
}

async fn tell_durable(node: Arc<Node>, committer: Arc<Committer>) -> Result<()> {
    loop {
        for number in committer.durable().await? {
            node.is_done(number);
        }
    }
}

impl Node {
    fn requested(&self, number: u64, frame: Bytes) {
        match self.mode {
            Mode::Write => self.peers.iter().for_each(|peer| peer.push(&frame)),
            Mode::Read => match self.peers.first() {
                Some(peer) => peer.push(&frame),
                // Another node holds what it is asked for.
                None => self.asker.put(Kind::PeerAnswer, number),
            },
        }
        if let Some(committer) = &self.committer {
            committer.push(number, frame);
        }
    }

    /// This node, or another, has done what `number` asks.
    fn is_done(&self, number: u64) {
        if self.peers.is_empty() {
            self.asker.put(Kind::PeerAnswer, number);
            return;
        }
        let (wanted, all) = match self.mode {
            Mode::Write => (NODES / 2 + 1, NODES),
            Mode::Read => (1, 1),
        };
        let mut done = lock(&self.done);
        let count = done.entry(number).or_default();
        *count += 1;
        let count = *count;
        if count == all {
            done.remove(&number);
        }
        drop(done);
        if count == wanted {
            self.asker.put(Kind::Answer(self.mode), number);
        }
    }
}

fn stop_at_end_of_input() -> Result<oneshot::Receiver<()>> {
    let (send, receive) = oneshot::channel();
    let wait = move || {
        // An input that cannot be read has ended too.
        let _read = std::io::stdin().read_to_end(&mut Vec::new());
        // Who waits has gone with the node.
        let _told = send.send(());
    };
    Builder::new().name("input".to_owned()).spawn(wait)?;
    Ok(receive)
}
