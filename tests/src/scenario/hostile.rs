//! A hostile client beside honest ones: floods, slow and half-open streams, huge and tiny frames,
//! replays, connections without a certificate, garbage datagrams.
//!
//! It holds a client's certificate of the role `data`, so everything behind the handshake is within
//! its reach. Each kind of hostility keeps its own pace, because it shares the machine's cores with
//! the nodes and the honest load: what is judged is what the nodes do about it, and not how many
//! cores are left. Honest throughput may fall by a fifth, memory stays bounded, nothing panics, and
//! every kind that is refused shows in a counter.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use quorate_client::Keyspace;
use quorate_client::config::ClientConfig;
use quorate_client::link::{
    Streams, TransportOptions, node_san, open_streams, tls_client_config, transport_config,
};
use quorate_client::wire::{self, OpId, Request, encode_request};
use rand::rngs::SmallRng;
use rand::{Rng as _, RngExt, SeedableRng};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::task::JoinSet;

use crate::cluster::{Cluster, Memory, NODE_NAMES, Stopwatch, http_get};

/// Honest clients, each with a connection of its own to each node, and what each has under way.
const HONEST_CLIENTS: usize = 8;
const HONEST_IN_FLIGHT: usize = 8;
/// Reads of a burst, and the pause between two bursts.
const FLOOD_BURST: u64 = 2_000;
const FLOOD_PAUSE: Duration = Duration::from_millis(400);
/// A node may grow by this much under attack.
const MEMORY_GROWTH_MAX: u64 = 256 << 20;
/// Honest throughput under attack, of that before.
const HONEST_LEAST: f64 = 0.8;
/// Deadline of an honest operation.
const DEADLINE: Duration = Duration::from_secs(2);

/// How long each phase lasts.
#[derive(Debug, Clone, Copy)]
pub struct HostilePlan {
    /// Seconds of honest load alone, and again with the hostile client.
    pub seconds: u64,
    /// Whether the throughput is judged; on a busy machine it says nothing.
    pub judge_throughput: bool,
}

/// What happened.
#[derive(Debug, Clone, Default)]
pub struct HostileFigures {
    /// Honest operations per second before.
    pub honest_before: f64,
    /// And under attack.
    pub honest_under_attack: f64,
    /// Honest operations that failed under attack.
    pub honest_failed: u64,
    /// Hostile actions by kind.
    pub actions: Vec<(&'static str, u64)>,
    /// What nodes counted, by metric, over all of them.
    pub refusals: Vec<(&'static str, u64)>,
    /// Greatest resident memory of a node before and after, in bytes.
    pub memory: (u64, u64),
}

/// Counters, of which each must rise.
const REFUSALS: [&str; 6] = [
    "quorate_frames_refused_total",
    "quorate_handshakes_refused_total",
    "quorate_streams_not_opened_total",
    "quorate_slow_readers_total",
    "quorate_requests_unknown_total",
    "quorate_duplicate_attempts_total",
];

/// Carries it out on a new cluster.
///
/// # Errors
/// At the end, with everything that is not as it must be.
///
/// # Cancel safety
/// The cluster is ended.
pub async fn hostile(plan: HostilePlan) -> Result<HostileFigures> {
    let mut cluster = Cluster::run()?;
    let mut clients = Vec::new();
    for _ in 0..HONEST_CLIENTS {
        clients.push(cluster.client().await?);
    }
    let keyspaces = clients.iter().map(|client| client.keyspace("default"));
    let keyspaces: Vec<Keyspace> = keyspaces.collect();
    prepare(&keyspaces[0]).await?;
    let length = Duration::from_secs(plan.seconds);
    let mut figures = HostileFigures::default();
    let (done, _) = honest(&keyspaces, length).await?;
    figures.honest_before = done as f64 / length.as_secs_f64();
    figures.memory.0 = peak(&mut cluster)?;
    let before = counters(&cluster)?;

    let stop = Arc::new(AtomicBool::new(false));
    let attacker = Attacker::new(&cluster)?;
    let counts: Vec<Arc<AtomicU64>> = KINDS.iter().map(|_| Arc::default()).collect();
    let attack = attacker.begin(&stop, &counts)?;
    let (done, failed) = honest(&keyspaces, length).await?;
    stop.store(true, Ordering::Relaxed);
    let ended = attack
        .join()
        .map_err(|_| anyhow::anyhow!("the attacker panicked"))?;
    ended?;
    figures.honest_under_attack = done as f64 / length.as_secs_f64();
    figures.honest_failed = failed;
    let actions = KINDS.iter().zip(&counts);
    figures.actions = actions
        .map(|((name, _), count)| (*name, count.load(Ordering::Relaxed)))
        .collect();
    figures.memory.1 = peak(&mut cluster)?;
    let after = counters(&cluster)?;
    let risen = REFUSALS.iter().zip(before.iter().zip(&after));
    figures.refusals = risen
        .map(|(name, (before, after))| (*name, after.saturating_sub(*before)))
        .collect();
    for client in clients {
        client.close().await;
    }
    judge(&mut cluster, plan, &figures)?;
    Ok(figures)
}

fn judge(cluster: &mut Cluster, plan: HostilePlan, figures: &HostileFigures) -> Result<()> {
    let mut wrong = Vec::new();
    if figures.honest_failed > 0 {
        wrong.push(format!(
            "{} honest operations failed",
            figures.honest_failed
        ));
    }
    let share = figures.honest_under_attack / figures.honest_before;
    if plan.judge_throughput && share < HONEST_LEAST {
        wrong.push(format!("honest throughput falls to {:.0} %", 100.0 * share));
    }
    let (before, after) = figures.memory;
    if after > before + MEMORY_GROWTH_MAX {
        wrong.push(format!("a node grew from {before} to {after} bytes"));
    }
    for (name, risen) in &figures.refusals {
        if *risen == 0 {
            wrong.push(format!("{name} did not rise"));
        }
    }
    for (node, name) in NODE_NAMES.iter().enumerate() {
        let process = cluster.node(node)?.as_mut();
        let process = process.context("a node runs")?;
        if let Some(status) = process.ended()? {
            wrong.push(format!("node {name} ended with {status}"));
        }
        if process.said().contains("panicked") {
            wrong.push(format!("node {name} panicked:\n{}", process.said()));
        }
    }
    ensure!(wrong.is_empty(), "{}\n{figures:?}", wrong.join("\n"));
    Ok(())
}

fn peak(cluster: &mut Cluster) -> Result<u64> {
    let mut most = 0;
    for node in 0..NODE_NAMES.len() {
        let Memory { resident, .. } = cluster.memory(node)?;
        most = most.max(resident);
    }
    Ok(most)
}

/// What all nodes together have counted, in the order of [`REFUSALS`].
fn counters(cluster: &Cluster) -> Result<Vec<u64>> {
    let mut sums = vec![0; REFUSALS.len()];
    for port in cluster.http_ports() {
        let answer = http_get(port, "/metrics")?;
        for (sum, name) in sums.iter_mut().zip(REFUSALS) {
            let lines = answer.body.lines().filter(|line| line.starts_with(name));
            let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            *sum += Duration::from_secs_f64(values.sum()).as_secs();
        }
    }
    Ok(sums)
}

async fn prepare(keyspace: &Keyspace) -> Result<()> {
    // Answers that a client who does not read them is choked with.
    keyspace.put_blind("large", vec![7; 200_000]).await?;
    for number in 0..1_000_u32 {
        let put = keyspace.put_blind(format!("honest-{number}"), "value");
        put.deadline(DEADLINE).await?;
    }
    Ok(())
}

/// Reads and writes in a closed loop; how many were done and how many failed.
async fn honest(keyspaces: &[Keyspace], length: Duration) -> Result<(u64, u64)> {
    let watch = Stopwatch::start();
    let mut tasks = JoinSet::new();
    for worker in 0..HONEST_CLIENTS * HONEST_IN_FLIGHT {
        let keyspace = keyspaces[worker % keyspaces.len()].clone();
        tasks.spawn(async move {
            let mut random = SmallRng::seed_from_u64(worker as u64);
            let (mut done, mut failed) = (0, 0);
            while watch.elapsed() < length {
                let key = format!("honest-{}", random.random_range(0..1_000));
                let is_done = if random.random() {
                    let read = keyspace.get(key).deadline(DEADLINE).await;
                    read.is_ok()
                } else {
                    let update = keyspace.get(key.clone()).deadline(DEADLINE).await;
                    match update {
                        Ok(read) => {
                            let put = keyspace.put(key, "value").after(&read);
                            put.deadline(DEADLINE).await.is_ok()
                        }
                        Err(_) => false,
                    }
                };
                done += u64::from(is_done);
                failed += u64::from(!is_done);
            }
            (done, failed)
        });
    }
    let mut sums = (0, 0);
    while let Some(ended) = tasks.join_next().await {
        let (done, failed) = ended?;
        sums = (sums.0 + done, sums.1 + failed);
    }
    Ok(sums)
}

/// What the attacker knows: a client's certificate, and where the nodes are.
struct Attacker {
    authority: CertificateDer<'static>,
    chain: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    cluster: quorate_client::link::ClusterId,
    nodes: Vec<(String, SocketAddr)>,
}

/// Kinds of hostility, each with its pause between two actions.
const KINDS: [(&str, u64); 11] = [
    ("flood of reads", 0),
    ("garbage behind the handshake", 200),
    ("frame with a huge length", 200),
    ("tiny frames of unknown kinds", 200),
    ("flood of answers that nobody reads", 1_000),
    ("frame at a byte a time", 100),
    ("connection without streams", 200),
    ("replay of one write", 100),
    ("no certificate", 500),
    ("garbage datagrams", 5),
    ("streams that are reset", 200),
];

impl Attacker {
    fn new(cluster: &Cluster) -> Result<Self> {
        let folder = cluster.path();
        let mut command =
            cluster.command(["certs", "client", "--role", "data", "--name", "mallory"])?;
        let out = folder.join("mallory");
        command.arg("--dir").arg(&folder).arg("--out").arg(&out);
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "no certificate was made: {said}");
        let config = ClientConfig::read(out.join("client.toml"))?;
        let pem = |path: &std::path::Path| std::fs::read(path);
        let nodes = config.seeds.iter().map(|seed| {
            let address = seed.address.parse()?;
            Ok((seed.name.clone(), address))
        });
        Ok(Self {
            authority: CertificateDer::from_pem_slice(&pem(&config.ca)?)?,
            chain: CertificateDer::from_pem_slice(&pem(&config.cert)?)?,
            key: PrivateKeyDer::from_pem_slice(&pem(&config.key)?)?,
            cluster: config.cluster_id,
            nodes: nodes.collect::<Result<_>>()?,
        })
    }

    /// Acts on a thread of its own, so that it takes none of the honest clients' time.
    fn begin(
        self,
        stop: &Arc<AtomicBool>,
        counts: &[Arc<AtomicU64>],
    ) -> Result<JoinHandle<Result<()>>> {
        let (stop, counts) = (Arc::clone(stop), counts.to_vec());
        let thread = std::thread::Builder::new().name("attacker".to_owned());
        Ok(thread.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(Arc::new(self).attack(stop, counts))
        })?)
    }

    async fn attack(
        self: Arc<Self>,
        stop: Arc<AtomicBool>,
        counts: Vec<Arc<AtomicU64>>,
    ) -> Result<()> {
        let mut tasks = JoinSet::new();
        for (number, ((name, pause_ms), count)) in KINDS.into_iter().zip(counts).enumerate() {
            let (this, stop) = (Arc::clone(&self), Arc::clone(&stop));
            tasks.spawn(async move {
                let mut random = SmallRng::seed_from_u64(number as u64);
                while !stop.load(Ordering::Relaxed) {
                    // What the nodes do about it is judged, not whether it worked.
                    let _refused = this.act(name, &mut random).await;
                    count.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended?;
        }
        Ok(())
    }

    async fn act(&self, kind: &str, random: &mut SmallRng) -> Result<()> {
        let node = &self.nodes[random.random_range(0..self.nodes.len())];
        if kind == "garbage datagrams" {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            let mut bytes = vec![0; random.random_range(1..1_400)];
            random.fill_bytes(&mut bytes);
            socket.send_to(&bytes, node.1)?;
            return Ok(());
        }
        let (_endpoint, connection) = self.dial(node, kind != "no certificate").await?;
        if kind == "connection without streams" {
            // Until the node has had enough.
            connection.closed().await;
            return Ok(());
        }
        let mut streams = open_streams(&connection).await?;
        let small = &mut streams.small.send;
        match kind {
            "garbage behind the handshake" => {
                let mut bytes = vec![0xff; 4_000];
                random.fill_bytes(&mut bytes[..200]);
                small.write_all(&bytes).await?;
            }
            "frame with a huge length" => {
                small.write_all(&u32::MAX.to_le_bytes()).await?;
                small.write_all(b"x").await?;
            }
            "flood of reads" => return self.flood(streams).await,
            "tiny frames of unknown kinds" => return self.unknown_kinds(streams).await,
            "flood of answers that nobody reads" => return self.choke(&connection, streams).await,
            "frame at a byte a time" => {
                let frame = get_frame(1, "large")?;
                for byte in frame.iter().take(20) {
                    small.write_all(&[*byte]).await?;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                return Ok(());
            }
            "replay of one write" => return self.replay(streams).await,
            "streams that are reset" => {
                small.write_all(&get_frame(1, "large")?[..7]).await?;
                small.reset(7_u32.into())?;
            }
            other => bail!("{other} is no kind of hostility"),
        }
        let _closed = tokio::time::timeout(DEADLINE, connection.closed()).await;
        Ok(())
    }

    /// Bursts of reads on one connection, far more than one client may have in flight; their
    /// answers are read and thrown away.
    async fn flood(&self, streams: Streams) -> Result<()> {
        let Streams { mut small, .. } = streams;
        let drain = async {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(Some(_)) = small.recv.read(&mut buffer).await {}
        };
        let ask = async {
            for burst in 0..50_u64 {
                let mut frames = Vec::new();
                for number in 0..FLOOD_BURST {
                    let id = burst * FLOOD_BURST + number;
                    frames.extend_from_slice(&get_frame(id, "honest-1")?);
                }
                small.send.write_all(&frames).await?;
                tokio::time::sleep(FLOOD_PAUSE).await;
            }
            Ok(())
        };
        tokio::select! {
            () = drain => Ok(()),
            asked = ask => asked,
        }
    }

    /// Frames whose kind no release knows, each with an id: they are answered.
    async fn unknown_kinds(&self, mut streams: Streams) -> Result<()> {
        for id in 0..50 {
            let mut frame = get_frame(id, "large")?.to_vec();
            if let Some(kind) = frame.get_mut(4) {
                *kind = 60;
            }
            streams.small.send.write_all(&frame).await?;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(())
    }

    /// Asks for far more than it reads.
    async fn choke(&self, connection: &quinn::Connection, mut streams: Streams) -> Result<()> {
        for id in 0..400 {
            let frame = get_frame(id, "large")?;
            streams.small.send.write_all(&frame).await?;
        }
        let _closed = tokio::time::timeout(4 * DEADLINE, connection.closed()).await;
        Ok(())
    }

    /// One put, recorded and sent again and again: all are the same operation.
    async fn replay(&self, mut streams: Streams) -> Result<()> {
        let request = Request::Put(wire::Put {
            keyspace: "default".to_owned(),
            key: Bytes::from_static(b"replayed"),
            value: Bytes::from_static(b"once"),
            context: None,
            level: wire::Level::Quorum,
            op_id: OpId(*b"mallory's put 01"),
            attempt: 2,
            age_ms: 0,
            stamp: None,
            ttl_ms: None,
        });
        for id in 0..20 {
            let mut frame = BytesMut::new();
            encode_request(&mut frame, id, 1_000, &request)?;
            streams.small.send.write_all(&frame).await?;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        Ok(())
    }

    async fn dial(
        &self,
        (name, address): &(String, SocketAddr),
        shows: bool,
    ) -> Result<(quinn::Endpoint, quinn::Connection)> {
        let alpn = wire::ALPN_CLIENT;
        let mut tls = tls_client_config(
            std::slice::from_ref(&self.authority),
            vec![self.chain.clone()],
            self.key.clone_key(),
            alpn,
        )?;
        if !shows {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(self.authority.clone())?;
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            tls = rustls::ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&[&rustls::version::TLS13])?
                .with_root_certificates(roots)
                .with_no_client_auth();
            tls.alpn_protocols = vec![alpn.to_vec()];
        }
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls)?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        let options = TransportOptions::default();
        config.transport_config(transport_config(options, address.ip()));
        let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
        let san = node_san(self.cluster, &name.parse()?);
        let connecting = endpoint.connect_with(config, *address, &san)?;
        let connection = tokio::time::timeout(DEADLINE, connecting).await??;
        Ok((endpoint, connection))
    }
}

fn get_frame(id: u64, key: &'static str) -> Result<Bytes> {
    let request = Request::Get(wire::Get {
        keyspace: "default".to_owned(),
        key: Bytes::from_static(key.as_bytes()),
        level: wire::Level::One,
    });
    let mut frame = BytesMut::new();
    encode_request(&mut frame, id, 2_000, &request)?;
    Ok(frame.freeze())
}
