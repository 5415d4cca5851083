//! Metrics of one node: the catalogue, a recorder of the node's own, and cached handles.
//!
//! The recorder is never installed for the process, so that many nodes can live in one. Handles
//! are looked up once; what is hot is counted by value in [`Tally`] and handed over per batch.
//!
//! Invariant: what is scraped and [`CATALOGUE`] name the same metrics.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Label, Recorder, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use quorate_client::wire::KeyspaceHoldings;
use quorate_ring::MonoTime;

use super::link::LinkCounters;
use super::metrics_catalogue::{CATALOGUE, Kind, Metric};
use super::profile::Profile;
use super::serve::view::NodeView;
use crate::core::budget::Kind as WorkKind;
use crate::core::effect::Event;

/// Bounds of the latency histograms, in seconds: 50 us to 10 s.
const LATENCY_BOUNDS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0,
];

/// Bounds of the histogram of records per batch of the log.
const BATCH_BOUNDS: &[f64] = &[
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0,
];

/// What a client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A put.
    Put,
    /// A delete.
    Delete,
    /// A get.
    Get,
    /// A resolve of an unknown outcome.
    Resolve,
    /// A page of a scan.
    Scan,
    /// A batch; its items are not counted one by one.
    Batch,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 6] = [
        Self::Put,
        Self::Delete,
        Self::Get,
        Self::Resolve,
        Self::Scan,
        Self::Batch,
    ];

    /// Its label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Delete => "delete",
            Self::Get => "get",
            Self::Resolve => "resolve",
            Self::Scan => "scan",
            Self::Batch => "batch",
        }
    }
}

/// How a client's request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Applied or read.
    Ok,
    /// Not applied, or a read that failed.
    NotApplied,
    /// Unknown.
    Unknown,
}

impl Ended {
    /// Every end.
    pub const ALL: [Self; 3] = [Self::Ok, Self::NotApplied, Self::Unknown];

    /// Its label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotApplied => "not_applied",
            Self::Unknown => "unknown",
        }
    }
}

/// The recorder and the handles of one node.
#[derive(Debug)]
pub struct Metrics {
    node: String,
    profile: Arc<Profile>,
    handle: PrometheusHandle,
    recorder: Registry,
    requests: Vec<(Operation, Ended, Counter)>,
    latency: Vec<(Operation, Histogram)>,
    events: Vec<(Event, Counter)>,
    gauges: Vec<(&'static str, Gauge)>,
    log_syncs: Counter,
    log_sync_seconds: Histogram,
    log_batch_frames: Histogram,
    log_bytes_written: Counter,
    frames_refused: Counter,
    handshakes_refused: Counter,
    streams_not_opened: Counter,
    slow_readers: Counter,
    requests_unknown: Counter,
    requests_shed_at_edge: Counter,
    scrubbed_vnodes: Counter,
    scrub_faults: Counter,
    /// When the last pass of the slow read began that is complete.
    scrubbed: Mutex<MonoTime>,
    /// One scrape at a time: gauges are set and rendered together.
    scraping: Mutex<()>,
}

impl Metrics {
    /// Makes a recorder and registers every metric of the catalogue. `node` is a label of all.
    #[must_use]
    pub fn new(node: &str) -> Self {
        Self::with_profile(node, Arc::default())
    }

    /// The same, with the counts of `profile` in every scrape.
    #[must_use]
    pub fn with_profile(node: &str, profile: Arc<Profile>) -> Self {
        let recorder = recorder(node);
        let counter = |name: &'static str, labels: Vec<Label>| {
            let key = metrics::Key::from_parts(name, labels);
            recorder.register_counter(&key, &METADATA)
        };
        let histogram = |name: &'static str, labels: Vec<Label>| {
            let key = metrics::Key::from_parts(name, labels);
            recorder.register_histogram(&key, &METADATA)
        };
        let gauge = |metric: &Metric| {
            let key = metrics::Key::from_static_name(metric.name);
            (metric.name, recorder.register_gauge(&key, &METADATA))
        };
        let label = |name: &'static str, value: &'static str| Label::new(name, value);
        let requests = Operation::ALL
            .iter()
            .flat_map(|op| Ended::ALL.iter().map(move |end| (*op, *end)));
        let info = vec![label("version", env!("CARGO_PKG_VERSION"))];
        let info = metrics::Key::from_parts("quorate_build_info", info);
        recorder.register_gauge(&info, &METADATA).set(1.0);
        Self {
            node: node.to_owned(),
            profile,
            requests: requests
                .map(|(op, end)| {
                    let labels = vec![label("op", op.name()), label("outcome", end.name())];
                    (op, end, counter("quorate_requests_total", labels))
                })
                .collect(),
            latency: Operation::ALL
                .map(|op| {
                    let labels = vec![label("op", op.name())];
                    (op, histogram("quorate_request_seconds", labels))
                })
                .into(),
            events: EVENTS
                .iter()
                .map(|event| (*event, counter(event_metric(*event), Vec::new())))
                .collect(),
            gauges: CATALOGUE
                .iter()
                .filter(|metric| metric.kind == Kind::Gauge && metric.labels.is_empty())
                .map(gauge)
                .collect(),
            log_syncs: counter("quorate_log_syncs_total", Vec::new()),
            log_sync_seconds: histogram("quorate_log_sync_seconds", Vec::new()),
            log_batch_frames: histogram("quorate_log_batch_frames", Vec::new()),
            log_bytes_written: counter("quorate_log_written_bytes_total", Vec::new()),
            frames_refused: counter("quorate_frames_refused_total", Vec::new()),
            handshakes_refused: counter("quorate_handshakes_refused_total", Vec::new()),
            streams_not_opened: counter("quorate_streams_not_opened_total", Vec::new()),
            slow_readers: counter("quorate_slow_readers_total", Vec::new()),
            requests_unknown: counter("quorate_requests_unknown_total", Vec::new()),
            requests_shed_at_edge: counter("quorate_requests_shed_at_edge_total", Vec::new()),
            scrubbed_vnodes: counter("quorate_scrubbed_vnodes_total", Vec::new()),
            scrub_faults: counter("quorate_scrub_faults_total", Vec::new()),
            scrubbed: Mutex::default(),
            handle: recorder.handle(),
            recorder: Registry(recorder),
            scraping: Mutex::new(()),
        }
    }

    /// Where the stages of the node's work are counted.
    #[must_use]
    pub const fn profile(&self) -> &Arc<Profile> {
        &self.profile
    }

    /// Counts a batch of core events and requests, and empties it.
    pub fn add(&self, tally: &mut Tally) {
        for (event, counter) in &self.events {
            let count = tally.events.iter().find(|(counted, _)| counted == event);
            if let Some((_, count)) = count {
                counter.increment(*count);
            }
        }
        tally.events.clear();
        for (operation, ended, seconds) in tally.requests.drain(..) {
            let same =
                |(op, end, _): &&(Operation, Ended, Counter)| *op == operation && *end == ended;
            if let Some((_, _, counter)) = self.requests.iter().find(same) {
                counter.increment(1);
            }
            if let Some((_, latency)) = self.latency.iter().find(|(op, _)| *op == operation) {
                latency.record(seconds);
            }
        }
    }

    /// The log was synced: bytes written since the sync before, and how long it took.
    pub fn log_synced(&self, bytes: u64, seconds: f64) {
        self.log_syncs.increment(1);
        self.log_sync_seconds.record(seconds);
        self.log_bytes_written.increment(bytes);
    }

    /// The slow read has read a vnode and found so many faults.
    pub fn scrubbed(&self, faults: u64) {
        self.scrubbed_vnodes.increment(1);
        self.scrub_faults.increment(faults);
    }

    /// The slow read has read everything once since `began`.
    pub fn scrub_passed(&self, began: MonoTime) {
        *self.scrubbed.lock().unwrap_or_else(PoisonError::into_inner) = began;
    }

    /// How long ago the last complete pass of the slow read began; since the start, if there was
    /// none.
    #[must_use]
    pub fn scrub_age(&self, now: MonoTime) -> Duration {
        now.since(*self.scrubbed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A batch of so many frames became durable.
    pub fn batch_durable(&self, frames: f64) {
        self.log_batch_frames.record(frames);
    }

    /// Takes over what the links have counted.
    pub fn links(&self, counters: &LinkCounters) {
        let refused = counters.hostile_frames.load(Ordering::Relaxed);
        self.frames_refused.absolute(refused);
        let handshakes = [
            &counters.identities_refused,
            &counters.handshakes_failed,
            &counters.connections_refused,
        ];
        let sum = handshakes
            .into_iter()
            .map(|counter| counter.load(Ordering::Relaxed))
            .sum();
        self.handshakes_refused.absolute(sum);
        let as_they_are = [
            (&self.streams_not_opened, &counters.streams_not_opened),
            (&self.slow_readers, &counters.slow_readers),
            (&self.requests_unknown, &counters.requests_unknown),
            (&self.requests_shed_at_edge, &counters.requests_shed),
        ];
        for (metric, counter) in as_they_are {
            metric.absolute(counter.load(Ordering::Relaxed));
        }
    }

    /// The text of a scrape with the gauges as they were last; for those who only want counters.
    #[must_use]
    pub fn render_counters(&self) -> String {
        self.handle.render()
    }

    /// The text of a scrape, with the gauges as `view` has them.
    #[must_use]
    pub fn render(&self, view: &NodeView) -> String {
        let _one = self.scraping.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, gauge) in &self.gauges {
            if let Some(value) = view.gauge(name) {
                gauge.set(value);
            }
        }
        let keyspaces = view.status.iter().flat_map(|status| &status.keyspaces);
        for held in keyspaces {
            self.recorder.keyspace(held);
        }
        for (kind, charged, waits) in &view.background.kinds {
            self.recorder.background(*kind, *charged, *waits);
        }
        self.handle.run_upkeep();
        let mut text = self.handle.render();
        text.push_str(&self.profile.render(&self.node));
        text
    }
}

/// Counts of one batch, kept by value until [`Metrics::add`].
#[derive(Debug, Default)]
pub struct Tally {
    events: Vec<(Event, u64)>,
    requests: Vec<(Operation, Ended, f64)>,
}

impl Tally {
    /// One more of `event`.
    pub fn event(&mut self, event: Event) {
        match self
            .events
            .iter_mut()
            .find(|(counted, _)| *counted == event)
        {
            Some((_, count)) => *count += 1,
            None => self.events.push((event, 1)),
        }
    }

    /// A client's request ended after `seconds`.
    pub fn request(&mut self, operation: Operation, ended: Ended, seconds: f64) {
        self.requests.push((operation, ended, seconds));
    }
}

/// Where metrics of keyspaces are registered, which are known only as they are met.
struct Registry(PrometheusRecorder);

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Registry(..)")
    }
}

impl Registry {
    fn background(&self, kind: WorkKind, charged: u64, waits: bool) {
        let key = |name| metrics::Key::from_parts(name, vec![Label::new("kind", kind.name())]);
        let total = key("quorate_background_bytes_total");
        self.0.register_counter(&total, &METADATA).absolute(charged);
        let waiting = key("quorate_background_waiting");
        let gauge = self.0.register_gauge(&waiting, &METADATA);
        gauge.set(f64::from(u8::from(waits)));
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a gauge is a float; counts and sizes stay below 2^52"
    )]
    fn keyspace(&self, held: &KeyspaceHoldings) {
        let values = [
            ("quorate_keyspace_keys", held.keys),
            ("quorate_keyspace_tombstones", held.tombstones),
            ("quorate_keyspace_bytes", held.bytes),
        ];
        for (name, value) in values {
            let label = Label::new("keyspace", held.keyspace.clone());
            let key = metrics::Key::from_parts(name, vec![label]);
            let gauge = self.0.register_gauge(&key, &METADATA);
            gauge.set(value as f64);
        }
    }
}

const METADATA: metrics::Metadata<'static> =
    metrics::Metadata::new("quorate", metrics::Level::INFO, None);

fn recorder(node: &str) -> PrometheusRecorder {
    let mut builder = PrometheusBuilder::new().add_global_label("node", node);
    for (suffix, bounds) in [("_seconds", LATENCY_BOUNDS), ("_frames", BATCH_BOUNDS)] {
        let matcher = metrics_exporter_prometheus::Matcher::Suffix(suffix.to_owned());
        builder = builder
            .set_buckets_for_metric(matcher, bounds)
            .expect("the bounds are not empty");
    }
    let recorder = builder.build_recorder();
    for metric in CATALOGUE {
        let name = metrics::KeyName::from_const_str(metric.name);
        let unit = None::<Unit>;
        let help = metric.help.into();
        match metric.kind {
            Kind::Counter => recorder.describe_counter(name, unit, help),
            Kind::Gauge => recorder.describe_gauge(name, unit, help),
            Kind::Histogram => recorder.describe_histogram(name, unit, help),
        }
    }
    recorder
}

/// Every event of the core.
const EVENTS: &[Event] = &[
    Event::HintWanted,
    Event::HintDelivered,
    Event::ReadRepair,
    Event::DuplicateAttempt,
    Event::Forwarded,
    Event::Shed,
    Event::Expired,
    Event::PeerMessageRefused,
    Event::SiblingsRead,
    Event::EngineLoad,
    Event::LoadSpared,
    Event::ReadWidened,
    Event::WriteLookedFurther,
    Event::ExchangeDone,
    Event::ExchangeFailed,
    Event::ExchangeHealed,
    Event::ExchangeHealFailed,
    Event::Purged,
    Event::Pruned,
    Event::PurgeRound,
    Event::PurgeRoundFailed,
    Event::BelowFloorRefused,
    Event::GuestTaken,
    Event::GuestDelivered,
    Event::GuestRefused,
    Event::GuestOutdated,
    Event::SendRefused,
];

const fn event_metric(event: Event) -> &'static str {
    match event {
        Event::HintWanted => "quorate_hints_wanted_total",
        Event::HintDelivered => "quorate_hints_delivered_total",
        Event::GuestTaken => "quorate_guests_taken_total",
        Event::GuestDelivered => "quorate_guests_delivered_total",
        Event::GuestRefused => "quorate_guests_refused_total",
        Event::GuestOutdated => "quorate_guests_outdated_total",
        Event::ReadRepair => "quorate_read_repairs_total",
        Event::DuplicateAttempt => "quorate_duplicate_attempts_total",
        Event::Forwarded => "quorate_requests_forwarded_total",
        Event::Shed => "quorate_requests_shed_total",
        Event::Expired => "quorate_messages_expired_total",
        Event::PeerMessageRefused => "quorate_peer_messages_refused_total",
        Event::SiblingsRead => "quorate_sibling_reads_total",
        Event::EngineLoad => "quorate_engine_loads_total",
        Event::LoadSpared => "quorate_engine_loads_spared_total",
        Event::ReadWidened => "quorate_reads_widened_total",
        Event::WriteLookedFurther => "quorate_writes_looked_further_total",
        Event::ExchangeDone => "quorate_exchanges_total",
        Event::ExchangeFailed => "quorate_exchanges_failed_total",
        Event::ExchangeHealed => "quorate_exchange_keys_healed_total",
        Event::ExchangeHealFailed => "quorate_exchange_keys_failed_total",
        Event::Purged => "quorate_purged_total",
        Event::Pruned => "quorate_pruned_total",
        Event::PurgeRound => "quorate_purge_rounds_total",
        Event::PurgeRoundFailed => "quorate_purge_rounds_failed_total",
        Event::BelowFloorRefused => "quorate_below_floor_total",
        Event::SendRefused => "quorate_sends_refused_total",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of the families of a scrape.
    fn families(text: &str) -> Vec<&str> {
        let mut names: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .filter_map(|line| line.split(' ').next())
            .collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn what_is_scraped_is_the_catalogue() {
        let metrics = Metrics::new("a");
        let mut tally = Tally::default();
        for event in EVENTS {
            tally.event(*event);
        }
        tally.request(Operation::Put, Ended::Ok, 0.002);
        tally.request(Operation::Get, Ended::Ok, 0.001);
        tally.request(Operation::Delete, Ended::Unknown, 2.0);
        metrics.add(&mut tally);
        metrics.log_synced(4096, 0.001);
        metrics.batch_durable(3.0);
        metrics.links(&LinkCounters::default());
        metrics.recorder.keyspace(&KeyspaceHoldings {
            keyspace: "default".to_owned(),
            keys: 1,
            tombstones: 2,
            bytes: 3,
            first_keys: 0,
            first_tombstones: 0,
            first_bytes: 0,
        });
        metrics.recorder.background(WorkKind::Hint, 1, true);
        let text = metrics.render(&NodeView::starting("a"));
        let mut want: Vec<&str> = CATALOGUE.iter().map(|metric| metric.name).collect();
        want.sort_unstable();
        assert_eq!(families(&text), want, "{text}");
    }

    #[test]
    fn a_batch_counts_each_event_as_often_as_it_happened() {
        let metrics = Metrics::new("a");
        let mut tally = Tally::default();
        for _ in 0..3 {
            tally.event(Event::ReadRepair);
        }
        metrics.add(&mut tally);
        metrics.add(&mut tally);
        let text = metrics.render(&NodeView::starting("a"));
        assert!(
            text.contains("quorate_read_repairs_total{node=\"a\"} 3"),
            "{text}"
        );
    }

    #[test]
    fn two_nodes_of_one_process_count_apart() {
        let (a, b) = (Metrics::new("a"), Metrics::new("b"));
        let counters = LinkCounters::default();
        LinkCounters::count(&counters.hostile_frames);
        a.links(&counters);
        let counted = |m: &Metrics, node: &str| {
            let text = m.render(&NodeView::starting(node));
            text.contains(&format!(
                "quorate_frames_refused_total{{node=\"{node}\"}} 1"
            ))
        };
        assert!(counted(&a, "a") && !counted(&b, "b"));
    }
}
