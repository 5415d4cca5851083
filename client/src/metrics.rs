//! Counters and times of a client's operations, on the `metrics` facade.
//!
//! The handles are made once per client, so an operation costs a few atomic additions; without a
//! recorder they do nothing. The recorder is the one given to [`crate::ClientBuilder::metrics`],
//! else the one that the process installed before it connected.
//!
//! | metric | kind | labels |
//! | --- | --- | --- |
//! | `quorate_client_operations_total` | counter | `operation`, `outcome` |
//! | `quorate_client_operation_seconds` | histogram | `operation` |
//! | `quorate_client_requests_total` | counter | none: requests sent to nodes, retries included |
//! | `quorate_client_hedges_total` | counter | none: those of them that joined a late one |
//!
//! Outcomes are `ok`, `not_applied` (a read that failed too) and `unknown`. What the SDK refuses
//! before it asks for a node, such as an empty key, is not counted.
//!
//! Not here: what one call went through ([`crate::Diagnostics`]), spans (`client::perform`).

use std::time::Duration;

use metrics::{Counter, Histogram, Key, Label, Level, Metadata, Recorder, Unit};

use crate::error::OperationKind;
use crate::wire::Outcome;

const METADATA: Metadata<'static> = Metadata::new("quorate_client", Level::INFO, None);

const OPERATIONS: &str = "quorate_client_operations_total";
const SECONDS: &str = "quorate_client_operation_seconds";
const REQUESTS: &str = "quorate_client_requests_total";
const HEDGES: &str = "quorate_client_hedges_total";

/// The handles of one client.
#[derive(Debug, Clone)]
pub(crate) struct ClientMetrics {
    kinds: Vec<(OperationKind, OfKind)>,
    requests: Counter,
    hedges: Counter,
}

#[derive(Debug, Clone)]
struct OfKind {
    ok: Counter,
    not_applied: Counter,
    unknown: Counter,
    seconds: Histogram,
}

impl ClientMetrics {
    /// Handles of the recorder that the process installed; without one they do nothing.
    pub(crate) fn of_process() -> Self {
        metrics::with_recorder(Self::of)
    }

    pub(crate) fn of(recorder: &dyn Recorder) -> Self {
        let describe = |name: &'static str, help: &'static str| {
            recorder.describe_counter(name.into(), Some(Unit::Count), help.into());
        };
        describe(OPERATIONS, "Operations that ended, by what became of them.");
        describe(
            REQUESTS,
            "Requests sent to nodes, retries and hedges included.",
        );
        describe(HEDGES, "Requests sent beside one whose answer was late.");
        let help = "Time of an operation from the call to its end, retries included.";
        recorder.describe_histogram(SECONDS.into(), Some(Unit::Seconds), help.into());
        let kinds = OperationKind::ALL.iter();
        let kinds = kinds.map(|kind| (*kind, OfKind::of(recorder, *kind)));
        Self {
            kinds: kinds.collect(),
            requests: recorder.register_counter(&Key::from_static_name(REQUESTS), &METADATA),
            hedges: recorder.register_counter(&Key::from_static_name(HEDGES), &METADATA),
        }
    }

    /// A request goes to a node.
    pub(crate) fn sent(&self) {
        self.requests.increment(1);
    }

    /// A second request goes out beside one whose answer is late.
    pub(crate) fn hedged(&self) {
        self.hedges.increment(1);
    }

    /// An operation ended; `failed` is the outcome of one that failed.
    pub(crate) fn ended(&self, kind: OperationKind, failed: Option<Outcome>, took: Duration) {
        let Some((_, of_kind)) = self.kinds.iter().find(|(known, _)| *known == kind) else {
            return;
        };
        let counter = match failed {
            None | Some(Outcome::Applied) => &of_kind.ok,
            Some(Outcome::NotApplied) => &of_kind.not_applied,
            Some(Outcome::Unknown) => &of_kind.unknown,
        };
        counter.increment(1);
        of_kind.seconds.record(took.as_secs_f64());
    }
}

impl OfKind {
    fn of(recorder: &dyn Recorder, kind: OperationKind) -> Self {
        let operation = Label::new("operation", kind.name());
        let counter = |outcome: &'static str| {
            let labels = vec![operation.clone(), Label::new("outcome", outcome)];
            recorder.register_counter(&Key::from_parts(OPERATIONS, labels), &METADATA)
        };
        let seconds = Key::from_parts(SECONDS, vec![operation.clone()]);
        Self {
            ok: counter("ok"),
            not_applied: counter("not_applied"),
            unknown: counter("unknown"),
            seconds: recorder.register_histogram(&seconds, &METADATA),
        }
    }
}
