//! The real node: certificates, sockets, the store's threads, the loops, and their end.
//!
//! ```text
//! certificates -> directory lock -> ports -> store (on a thread) -> loops -> listen -> ready
//! stop signal -> stop accepting -> drain -> clean-stop frame -> close connections -> exit
//! ```
//! Tasks live in one `JoinSet` that ends with the node. A loop that ends by itself stops the node.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quorate_antientropy::{DigestSecret, RETRY_TIME_MAX};
use quorate_client::link::TransportOptions;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use super::admin::Admin;
use super::certs::{NodeCertificates, NodeTls};
use super::drive::Ending;
use super::inbox::Inbox;
use super::link::{LinkCounters, Peer, PeerLinks, PeerLinksConfig};
use super::metered_disk::MeteredDisk;
use super::metrics::Metrics;
use super::node::{self, NodeHandle, NodeParts, OpenNode};
use super::node_error::NodeError;
use super::pid_file::PidFile;
use super::profile::{Profile, Stage, Timed};
use super::scrub::Scrubber;
use super::seam::{BoxFuture, Clock, Disk, Engine, Rand};
use super::serve::http::{HttpPort, Shown};
use super::serve::view::{NodeView, Readiness, ViewCell};
use super::serve::{ClientLimits, ClientServer, ClientServerConfig, NodeEndpoint};
use super::store::disk::RealDisk;
use super::store::engine::{EngineConfig, FjallEngine};
use super::store::{
    OpenError, OpenOptions, Owner, StoreConfig, StoreId, StoreThreads, set_aside_if_marked,
};
use super::system::{SystemRand, draw_incarnation};
use crate::config::NodeConfig;
use crate::core::budget::BudgetLimits;
use crate::core::continuity::{KEEP_ALIVE, SILENT_MAX};
use crate::core::effect::StopReason;
use crate::core::hints::HintLimits;
use crate::core::input::{Input, StoreEvent};
use crate::core::seal::SealKey;
use crate::core::shard::{Limits, SPARE_MAX, ShardConfig};
use crate::core::table::TableLimits;

/// How often the view that HTTP shows is made anew.
const VIEW_EVERY: Duration = Duration::from_millis(50);
/// How often the store's threads are looked after.
const WATCH_EVERY: Duration = Duration::from_millis(100);
/// Answers that were just made reach their clients within this.
const FLUSH: Duration = Duration::from_millis(50);
/// Log bytes since the last freeze, for one byte of table, at which a generation is frozen.
const LOG_BYTES_PER_TABLE_BYTE: u64 = 2;

/// Runs the node until `stop` completes.
///
/// # Errors
/// [`NodeError`] if it cannot serve, or must not any more.
///
/// # Cancel safety
/// Dropping it stops the node as a crash would.
pub async fn run(
    config: NodeConfig,
    clock: Arc<dyn Clock>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), NodeError> {
    let node = Assembly::new(config, clock).await?;
    node.run(stop).await
}

/// A node with its ports, before its store is open.
struct Assembly {
    config: NodeConfig,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    counters: Arc<LinkCounters>,
    inbox: Arc<Inbox>,
    view: ViewCell,
    tls: NodeTls,
    transport: TransportOptions,
    endpoint: NodeEndpoint,
    http: HttpPort,
    disk: Arc<dyn Disk>,
    pid_file: PidFile,
}

impl Assembly {
    async fn new(config: NodeConfig, clock: Arc<dyn Clock>) -> Result<Self, NodeError> {
        let cluster = quorate_client::link::ClusterId(config.cluster.cluster_id.0);
        let now_s = clock.wall_micros() / 1_000_000;
        let certificates = NodeCertificates::load(&config.tls_dir, cluster, &config.name, now_s);
        let certificates = certificates.map_err(|e| NodeError::Certificate {
            path: config.tls_dir.clone(),
            reason: e.to_string(),
        })?;
        let unusable = |reason: String| NodeError::Certificate {
            path: config.tls_dir.clone(),
            reason,
        };
        let tls = NodeTls::new(cluster, &certificates).map_err(|e| unusable(e.to_string()))?;
        let disk = RealDisk::open_locked(&config.data_dir).map_err(|e| refused(&config, e))?;
        let set_aside = set_aside_if_marked(&disk).await;
        if let Some((folder, why)) = set_aside.map_err(|e| refused(&config, e))? {
            tracing::warn!(folder = %folder.display(), why, "a damaged store was set aside");
        }
        let pid_file = PidFile::write(&config.folder)?;
        let http = HttpPort::bind(config.http_listen).await?;
        let counters: Arc<LinkCounters> = Arc::default();
        let transport = TransportOptions {
            mtu_max: config.limits.mtu_bytes_max,
            ..TransportOptions::default()
        };
        let profile = Arc::new(if config.profile {
            Profile::on(Arc::clone(&clock))
        } else {
            Profile::default()
        });
        let endpoint = NodeEndpoint::bind(
            config.listen,
            tls.clone(),
            transport,
            Arc::clone(&counters),
            &profile,
        );
        let endpoint = endpoint.map_err(|e| NodeError::Listen {
            address: config.listen,
            source: e,
        })?;
        let metrics = Arc::new(Metrics::with_profile(config.name.as_str(), profile));
        Ok(Self {
            view: ViewCell::new(NodeView::starting(config.name.as_str())),
            inbox: Arc::default(),
            disk: Arc::new(disk),
            config,
            clock,
            metrics,
            counters,
            tls,
            transport,
            endpoint,
            http,
            pid_file,
        })
    }

    async fn run(self, stop: impl Future<Output = ()> + Send + 'static) -> Result<(), NodeError> {
        let mut tasks = JoinSet::new();
        let Self {
            config,
            clock,
            metrics,
            counters,
            inbox,
            view,
            tls,
            transport,
            endpoint,
            http,
            disk,
            pid_file: _until_the_end,
        } = self;
        let shown = Shown {
            view: view.clone(),
            metrics: Arc::clone(&metrics),
        };
        tasks.spawn(async move {
            if let Err(error) = http.serve(shown, std::future::pending()).await {
                tracing::error!(%error, "the HTTP port failed");
            }
        });
        let profile = Arc::clone(metrics.profile());
        let topology = Arc::new(config.cluster.topology.clone());
        let peers = topology.nodes().iter().map(|node| Peer {
            id: node.id,
            name: node.name.clone(),
            address: node.address.clone(),
        });
        let links = Arc::new(PeerLinks::new(PeerLinksConfig {
            own: config.id,
            peers: peers.collect(),
            quic: endpoint.quic(),
            tls,
            // Silent for a second is down: then the link is given up and made anew.
            options: TransportOptions {
                idle_timeout: SILENT_MAX,
                keep_alive: KEEP_ALIVE,
                ..transport
            },
            inbox: Arc::clone(&inbox),
            counters: Arc::clone(&counters),
            clock: Arc::clone(&clock),
            profile: Arc::clone(&profile),
        }));
        // The listener needs who answers for the node, and the node needs where answers go.
        let admin = Arc::new(AdminCell::default());
        let clients = Arc::new(ClientServer::new(ClientServerConfig {
            inbox: Arc::clone(&inbox),
            admin: Arc::clone(&admin) as _,
            clock: Arc::clone(&clock),
            counters: Arc::clone(&counters),
            profile: Arc::clone(&profile),
            limits: ClientLimits {
                connections_max: config.limits.connections_max,
                connections_per_principal_max: config.limits.connections_max.div_ceil(2),
                ..ClientLimits::default()
            },
        }));
        let disk: Arc<dyn Disk> = Arc::new(MeteredDisk::new(
            disk,
            Arc::clone(&clock),
            Arc::clone(&metrics),
        ));
        let parts = NodeParts {
            shard: shard_config(&config, &topology),
            store: store_options(&config, &clock, &disk, &inbox)?,
            inbox: Arc::clone(&inbox),
            clock: Arc::clone(&clock),
            links: Arc::clone(&links) as _,
            clients: Arc::clone(&clients) as _,
            metrics: Arc::clone(&metrics),
        };
        // fjall may panic on what a flipped bit makes of its files: that is damage, too.
        let opened = on_thread("store-open", Box::pin(node::open(parts))).await;
        let opened = opened.map_err(|e| damaged(format!("opening it ended with: {e}")))?;
        let OpenNode {
            drive,
            space,
            store_loops,
            handle,
        } = opened.map_err(|error| refused(&config, error))?;
        let mut threads = StoreThreads::start(store_loops).map_err(|e| NodeError::System {
            doing: "starting the store's threads",
            reason: e.to_string(),
        })?;
        let me = Arc::new(Admin {
            me: config.id,
            cluster_id: config.cluster.cluster_id.0,
            topology,
            digest: digest_secret(&config),
            handle: handle.clone(),
            disk,
            clock: Arc::clone(&clock),
            log_bytes_max: config.limits.log_bytes_max,
            backlog: watch_backlog(&handle)?,
            verifying: Arc::new(Semaphore::new(1)),
        });
        admin.fill(Arc::clone(&me));
        tasks.spawn(space);
        tasks.spawn(Arc::clone(&links).run());
        tasks.spawn(
            endpoint
                .clone()
                .serve(Arc::clone(&links), Arc::clone(&clients)),
        );
        if let Some(interval) = config.scrub_interval {
            let scrubber = Scrubber {
                me: config.id,
                topology: Arc::clone(&me.topology),
                digest: me.digest,
                handle: handle.clone(),
                inbox: Arc::clone(&inbox),
                clock: Arc::clone(&clock),
                metrics: Arc::clone(&metrics),
                verifying: Arc::clone(&me.verifying),
                interval,
            };
            tasks.spawn(scrubber.run());
        }
        let name = config.name.to_string();
        tasks.spawn(publish(
            name,
            me,
            view,
            metrics,
            counters,
            Arc::clone(&clock),
        ));
        tracing::info!(node = %config.name, listen = %config.listen, "the node listens");

        let mut driving = JoinSet::new();
        driving.spawn(Timed::new(profile, Stage::Loop, drive));
        let asked = async {
            stop.await;
            tracing::info!("stopping: finishing what is in flight");
            endpoint.stop_accepting();
            handle.drain();
            clock
                .sleep_until(clock.now() + config.limits.drain_timeout)
                .await;
        };
        let broken = async {
            while !threads.any_ended() {
                clock.sleep_until(clock.now() + WATCH_EVERY).await;
            }
            // A loop that failed has told the shard why, which stops the node for that reason.
            clock.sleep_until(clock.now() + WATCH_EVERY).await;
        };
        let ending = tokio::select! {
            biased;
            ending = driving.join_next() => ended(ending),
            ended = tasks.join_next() => Err(NodeError::System {
                doing: "serving",
                reason: format!("a task that runs as long as the node ended: {ended:?}"),
            }),
            () = broken => match handle.store().preparer_failure() {
                Some(error) => Err(NodeError::Stopped(StopReason::StoreFailed {
                    reason: error.to_string(),
                })),
                None => Err(damaged(threads.how_ended())),
            },
            () = asked => {
                tracing::warn!("requests are still in flight after the drain timeout");
                Ok(())
            }
        };
        if ending.is_ok() {
            clock.sleep_until(clock.now() + FLUSH).await;
            endpoint.shut_down().await;
            handle.stop_store();
            let joined = on_thread("store-stop", Box::pin(async move { threads.join() })).await?;
            joined.map_err(|e| NodeError::System {
                doing: "stopping the store",
                reason: e.to_string(),
            })?;
            tracing::info!("stopped cleanly");
        }
        ending
    }
}

/// Looks the engine's backlog up on a thread of its own, because the engine may block; the thread
/// ends with the node.
fn watch_backlog(handle: &NodeHandle) -> Result<Arc<AtomicU64>, NodeError> {
    let backlog: Arc<AtomicU64> = Arc::default();
    let (shown, engine) = (Arc::downgrade(&backlog), Arc::clone(&handle.store().engine));
    let watch = move || {
        while let Some(shown) = shown.upgrade() {
            shown.store(engine.backlog(), Ordering::Relaxed);
            drop(shown);
            std::thread::park_timeout(WATCH_EVERY);
        }
    };
    let started = std::thread::Builder::new()
        .name("engine-watch".to_owned())
        .spawn(watch);
    started.map(|_| backlog).map_err(|e| NodeError::System {
        doing: "starting the engine's watch",
        reason: e.to_string(),
    })
}

fn engine_damaged(reason: String) -> NodeError {
    NodeError::Stopped(StopReason::EngineDamaged { reason })
}

fn damaged(reason: String) -> NodeError {
    NodeError::Stopped(StopReason::Damaged { reason })
}

fn ended(ending: Option<Result<Ending, tokio::task::JoinError>>) -> Result<(), NodeError> {
    match ending {
        Some(Ok(Ending::Drained)) => Ok(()),
        Some(Ok(Ending::Stopped(reason))) => Err(NodeError::Stopped(reason)),
        Some(Err(error)) => Err(NodeError::System {
            doing: "running the shard's loop",
            reason: error.to_string(),
        }),
        None => Err(NodeError::System {
            doing: "running the shard's loop",
            reason: "it was never started".to_owned(),
        }),
    }
}

/// Runs something that blocks on a thread of its own, so that the sockets stay served. Once nobody
/// waits for it, it ends where it waits next.
pub(super) async fn on_thread<T: Send + 'static>(
    name: &'static str,
    work: BoxFuture<'static, T>,
) -> Result<T, NodeError> {
    let failed = |reason: String| NodeError::System {
        doing: name,
        reason,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|e| failed(e.to_string()))?;
    let (mut done, result) = oneshot::channel();
    let work = async move {
        let result = tokio::select! {
            biased;
            result = work => result,
            () = done.closed() => return,
        };
        // Who asked may have gone: then nobody misses the result.
        drop(done.send(result));
    };
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || runtime.block_on(work))
        .map_err(|e| failed(e.to_string()))?;
    result
        .await
        .map_err(|_| failed("the thread panicked".to_owned()))
}

fn digest_secret(config: &NodeConfig) -> DigestSecret {
    let digest = &config.secrets.digest_secret;
    let word = |at: usize| {
        let bytes = digest
            .get(at..at + 8)
            .and_then(|bytes| bytes.try_into().ok());
        u64::from_le_bytes(bytes.unwrap_or_default())
    };
    DigestSecret {
        key: word(0),
        record: word(8),
    }
}

fn shard_config(config: &NodeConfig, topology: &Arc<quorate_ring::Topology>) -> ShardConfig {
    let limits = &config.limits;
    // One generation fills while the one before it is fed to the engine. Small ones cost
    // compaction: each is a run over all keys.
    let generation_bytes = limits.table_bytes;
    let generation_log_bytes =
        (generation_bytes * LOG_BYTES_PER_TABLE_BYTE).min(limits.log_bytes_max / 5);
    ShardConfig {
        me: config.id,
        cluster_id: config.cluster.cluster_id.0,
        topology: Arc::clone(topology),
        seal: SealKey::new(config.secrets.context_key),
        digest: digest_secret(config),
        table: TableLimits {
            generation_bytes,
            generation_log_bytes,
            cache_bytes: limits.cache_bytes,
            digest_cache_bytes: limits.digest_cache_bytes,
        },
        limits: Limits {
            requests_max: limits.requests_in_flight_max,
            request_bytes_max: usize::try_from(limits.request_bytes_in_flight_max)
                .unwrap_or(usize::MAX),
            disk_free_min_percent: limits.disk_free_percent_min,
            guest_bytes_max: usize::try_from(limits.guest_bytes_max).unwrap_or(usize::MAX),
            background: BudgetLimits {
                rate_max: limits.background_rate_max,
                latency_target: limits.background_latency_target,
            },
            ..Limits::default()
        },
        exchange_interval: config.exchange_interval,
        hints: HintLimits {
            bytes_max: usize::try_from(limits.hint_bytes_max).unwrap_or(usize::MAX),
            age_max: limits.hint_age_max,
        },
        purge_rest: 2 * RETRY_TIME_MAX,
        spare_max: SPARE_MAX,
    }
}

fn store_options(
    config: &NodeConfig,
    clock: &Arc<dyn Clock>,
    disk: &Arc<dyn Disk>,
    inbox: &Arc<Inbox>,
) -> Result<OpenOptions, NodeError> {
    let mut rand = SystemRand;
    let engine = EngineConfig::new(config.data_dir.join("engine"));
    let segment_bytes = config.limits.segment_bytes;
    let segments_max = config.limits.log_bytes_max / segment_bytes.max(1);
    let events = Arc::clone(inbox);
    let folder = RealDisk::open(&config.folder).map_err(|e| refused(config, e))?;
    Ok(OpenOptions {
        folder: Arc::new(folder),
        disk: Arc::clone(disk),
        engine: Box::new(move || {
            let opened = FjallEngine::open_giving_way(engine);
            let opened = opened.map(|e| Arc::new(e) as Arc<dyn Engine>);
            Box::pin(std::future::ready(opened))
        }),
        clock: Arc::clone(clock),
        owner: Owner {
            cluster_id: config.cluster.cluster_id.0,
            node: config.id,
            name: config.name.clone(),
        },
        store_id_if_new: StoreId(u128::from(rand.bits()) << 64 | u128::from(rand.bits())),
        incarnation: draw_incarnation(clock.wall_micros(), &mut rand),
        config: StoreConfig {
            segment_bytes,
            first_segment_bytes: segment_bytes.min(StoreConfig::default().first_segment_bytes),
            segments_max: usize::try_from(segments_max).unwrap_or(usize::MAX),
            // Everything that the table lets be in flight, and the record that crosses its bound.
            queue_bytes_max: usize::try_from(2 * config.limits.table_bytes)
                .unwrap_or(usize::MAX)
                .max(StoreConfig::default().queue_bytes_max),
            ..StoreConfig::default()
        },
        events: Arc::new(move |event: StoreEvent| events.push(Input::Store(event))),
    })
}

/// Makes the view that HTTP shows, again and again.
async fn publish(
    name: String,
    admin: Arc<Admin>,
    view: ViewCell,
    metrics: Arc<Metrics>,
    counters: Arc<LinkCounters>,
    clock: Arc<dyn Clock>,
) {
    let mut was_full = false;
    loop {
        metrics.links(&counters);
        let (Ok(shard), Ok(status)) = (admin.handle.status().await, admin.status().await) else {
            let mut last = (*view.newest()).clone();
            last.readiness = Readiness::NotReady("stopping".to_owned());
            view.publish(last);
            return;
        };
        if status.disk_full != was_full {
            was_full = status.disk_full;
            let (free, total) = (status.disk_free_bytes, status.disk_total_bytes);
            if was_full {
                tracing::warn!(
                    free,
                    total,
                    "the disk has less free space than `disk_free_percent_min`: no writes are taken"
                );
            } else {
                tracing::info!(free, total, "the disk has room again: writes are taken");
            }
        }
        let counting = shard.vnodes.iter().filter(|(_, counts)| *counts);
        view.publish(NodeView {
            name: name.clone(),
            readiness: Readiness::Ready,
            vnodes_owned: shard.vnodes.iter().map(|(vnode, _)| *vnode).collect(),
            vnodes_counting: counting.map(|(vnode, _)| *vnode).collect(),
            status: Some(status),
            background: shard.background,
            scrub_age: metrics.scrub_age(clock.now()),
        });
        clock.sleep_until(clock.now() + VIEW_EVERY).await;
    }
}

/// What the store's refusal means for the node.
fn refused(config: &NodeConfig, error: OpenError) -> NodeError {
    let path = config.data_dir.clone();
    match error {
        OpenError::Locked { .. } => NodeError::DirectoryLocked { path },
        OpenError::ForeignCluster => NodeError::DirectoryForeign {
            path,
            found: "another cluster".to_owned(),
            expected: format!("cluster {}", config.cluster.cluster_id),
        },
        OpenError::ForeignNode { found, expected } => NodeError::DirectoryForeign {
            path,
            found: format!("node `{found}`"),
            expected: format!("node `{expected}`"),
        },
        OpenError::OtherFormat {
            file,
            found,
            supported,
        } => NodeError::DirectoryFormat {
            path: path.join(file),
            found,
            supported,
        },
        OpenError::DamagedAgain { why, folder } => NodeError::DamagedAgain { path, why, folder },
        // The refusal of a damaged store says so itself.
        OpenError::Damaged { what } => engine_damaged(what),
        error if error.is_loss() => engine_damaged(error.to_string()),
        error if error.is_refusal() => damaged(error.to_string()),
        error => NodeError::System {
            doing: "opening the store",
            reason: error.to_string(),
        },
    }
}

/// Answers for the node once there is one.
#[derive(Debug, Default)]
struct AdminCell {
    admin: std::sync::OnceLock<Arc<Admin>>,
}

impl AdminCell {
    fn fill(&self, admin: Arc<Admin>) {
        // Only the one assembly fills it, once.
        drop(self.admin.set(admin));
    }
}

impl super::serve::AdminHandler for AdminCell {
    fn answer(
        &self,
        request: super::serve::AdminRequest,
    ) -> BoxFuture<'_, quorate_client::wire::Response> {
        match self.admin.get() {
            Some(admin) => admin.answer(request),
            None => Box::pin(std::future::ready(super::admin::not_ready())),
        }
    }
}
