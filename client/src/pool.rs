//! The transport over QUIC: one connection per node, made when it is first needed and made anew
//! when it broke.
//!
//! Who finds no usable connection makes one while the others wait for it; there are no tasks of the
//! pool's own. After a failed attempt nobody dials that node for a while that doubles with each
//! failure; calls then fail at once, certainly not sent, and the SDK goes on to another node.
//!
//! Not here: frames, certificates, limits (`link`), the choice of a node (`route`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quorate_ring::MonoTime;
use tokio::net::lookup_host;
use tokio::time::timeout;

use crate::clock::Clock;
use crate::error::ConnectError;
use crate::link::{
    self, CloseCode, Connection, Credentials, Endpoint, LostReason, Target, TransportOptions,
};
use crate::transport::{BoxFuture, CallCause, CallError, NodeEndpoint, Transport};
use crate::wire::{BatchItem, Request, Response};

/// Rest after the first failed attempt to connect.
const REST_FIRST: Duration = Duration::from_millis(50);
/// Longest rest.
const REST_MAX: Duration = Duration::from_millis(500);

/// Connections to the nodes of a cluster.
#[derive(Debug)]
pub(crate) struct Pool {
    endpoint: Endpoint,
    clock: Clock,
    /// By the node's name.
    slots: Mutex<BTreeMap<String, Arc<Slot>>>,
}

/// The connection to one node.
#[derive(Debug)]
struct Slot {
    address: String,
    usable: Mutex<Option<Connection>>,
    /// Held by who dials.
    dialling: tokio::sync::Mutex<Dialling>,
}

#[derive(Debug, Default)]
struct Dialling {
    failures: u32,
    /// Until when nobody dials, and why.
    rest: Option<(MonoTime, CallCause)>,
}

/// Opens a socket; connects to nobody yet.
pub(crate) fn open(credentials: Credentials) -> Result<Arc<dyn Transport>, ConnectError> {
    let endpoint = Endpoint::new(credentials, TransportOptions::default());
    Ok(Arc::new(Pool {
        endpoint: endpoint.map_err(ConnectError::Link)?,
        clock: Clock::start(),
        slots: Mutex::default(),
    }))
}

impl Transport for Pool {
    fn call<'a>(
        &'a self,
        node: &'a NodeEndpoint,
        mut request: Request,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Response, CallError>> {
        Box::pin(async move {
            if let Some(connection) = self.ready(node) {
                let answer = connection.send(&request, deadline).await;
                let answer = answer.map_err(call_error);
                let Err(CallError::NotSent(CallCause::Closed { .. })) = answer else {
                    return answer;
                };
                // It broke since it was last used; nothing was sent.
            }
            let taken = self.clock.now();
            let until = taken + deadline;
            let connection = self.connection(node, until).await?;
            let held = self.clock.now().since(taken);
            grow_older(&mut request, held);
            let answer = connection.send(&request, deadline.saturating_sub(held));
            answer.await.map_err(call_error)
        })
    }

    fn is_connected(&self, node: &NodeEndpoint) -> bool {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = node.name.as_ref().and_then(|name| slots.get(name));
        slot.is_some_and(|slot| slot.address == node.address && slot.is_usable())
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.endpoint.shut_down())
    }
}

impl Pool {
    /// The node's connection, if there is one that is usable as far as is known.
    fn ready(&self, node: &NodeEndpoint) -> Option<Connection> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.get(node.name.as_ref()?)?;
        slot.usable().filter(|_| slot.address == node.address)
    }

    /// A connection that is usable as far as is known.
    async fn connection(
        &self,
        node: &NodeEndpoint,
        until: MonoTime,
    ) -> Result<Connection, CallError> {
        let Some(name) = &node.name else {
            // A seed given by address alone is asked once; what it says names the nodes.
            let dialled = self.dial(node, until).await;
            return dialled.map_err(CallError::NotSent);
        };
        let slot = self.slot(name, &node.address);
        if let Some(connection) = slot.usable() {
            return Ok(connection);
        }
        let wait = until.since(self.clock.now());
        let Ok(mut dialling) = timeout(wait, slot.dialling.lock()).await else {
            return Err(CallError::NotSent(CallCause::TimedOut));
        };
        if let Some(connection) = slot.usable() {
            return Ok(connection);
        }
        if let Some(cause) = dialling.rests_at(self.clock.now()) {
            let detail = cause.to_string();
            return Err(CallError::NotSent(CallCause::Resting { detail }));
        }
        let dialled = self.dial(node, until).await;
        dialling.note(self.clock.now(), dialled.as_ref().err());
        let connection = dialled.map_err(CallError::NotSent)?;
        slot.keep(connection.clone());
        Ok(connection)
    }

    fn slot(&self, name: &str, address: &str) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(name).filter(|slot| slot.address == address) {
            return Arc::clone(slot);
        }
        let slot = Arc::new(Slot {
            address: address.to_owned(),
            usable: Mutex::default(),
            dialling: tokio::sync::Mutex::default(),
        });
        // A node that moved gets a new slot; calls under way end with the old one.
        slots.insert(name.to_owned(), Arc::clone(&slot));
        slot
    }

    async fn dial(&self, node: &NodeEndpoint, until: MonoTime) -> Result<Connection, CallCause> {
        let name = node.name.as_deref().map(str::parse).transpose();
        let name = name.map_err(|error| CallCause::Address {
            detail: format!("{error}"),
        })?;
        let left = || until.since(self.clock.now());
        let addresses = timeout(left(), resolve(&node.address));
        let addresses = addresses.await.map_err(|_| CallCause::TimedOut)??;
        let mut cause = CallCause::Address {
            detail: format!("{} has no address", node.address),
        };
        let mut untried = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        for address in addresses {
            let target = Target {
                address,
                node: name.clone(),
            };
            let part = left() / untried.max(1);
            untried = untried.saturating_sub(1);
            match timeout(part, Connection::connect(&self.endpoint, &target)).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => cause = connect_cause(&error),
                Err(_) => cause = unreachable(&link::ConnectError::TimedOut),
            }
        }
        Err(cause)
    }
}

impl Slot {
    fn is_usable(&self) -> bool {
        let kept = self.usable.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().is_some_and(Connection::is_usable)
    }

    fn usable(&self) -> Option<Connection> {
        let kept = self.usable.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().filter(|kept| kept.is_usable()).cloned()
    }

    fn keep(&self, connection: Connection) {
        let mut kept = self.usable.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Some(connection);
    }
}

impl Dialling {
    fn rests_at(&self, now: MonoTime) -> Option<&CallCause> {
        let (until, cause) = self.rest.as_ref()?;
        (now < *until).then_some(cause)
    }

    fn note(&mut self, now: MonoTime, failed: Option<&CallCause>) {
        let Some(cause) = failed else {
            *self = Self::default();
            return;
        };
        let rest = (REST_FIRST * (1 << self.failures.min(8))).min(REST_MAX);
        self.failures = self.failures.saturating_add(1);
        self.rest = Some((now + rest, cause.clone()));
    }
}

/// Adds the time that a write was held for want of a connection: nodes must never take an attempt
/// for younger than it is.
fn grow_older(request: &mut Request, held: Duration) {
    let held_ms = u32::try_from(held.as_millis()).unwrap_or(u32::MAX);
    let grow = |age_ms: &mut u32| *age_ms = age_ms.saturating_add(held_ms);
    match request {
        Request::Put(put) => grow(&mut put.age_ms),
        Request::Delete(delete) => grow(&mut delete.age_ms),
        Request::Batch(items) => items.iter_mut().for_each(|item| match item {
            BatchItem::Put(put) => grow(&mut put.age_ms),
            BatchItem::Delete(delete) => grow(&mut delete.age_ms),
            BatchItem::Get(_) | BatchItem::SessionGet(_) => {}
        }),
        Request::Get(_)
        | Request::Scan(_)
        | Request::Topology
        | Request::Status
        | Request::ReadLocal(_)
        | Request::DumpLocal(_)
        | Request::Verify(_)
        | Request::Repair(_)
        | Request::DeclareLost(_)
        | Request::Resolve(_)
        | Request::SessionGet(_) => {}
    }
}

/// The addresses of `HOST:PORT`, IPv4 first, as nodes listen there by default.
async fn resolve(address: &str) -> Result<Vec<SocketAddr>, CallCause> {
    if let Ok(address) = address.parse() {
        return Ok(vec![address]);
    }
    let found = lookup_host(address).await;
    let found = found.map_err(|error| CallCause::Address {
        detail: error.to_string(),
    })?;
    let mut found: Vec<_> = found.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    Ok(found)
}

fn unreachable(error: &link::ConnectError) -> CallCause {
    let detail = error.to_string();
    CallCause::Unreachable { detail }
}

fn connect_cause(error: &link::ConnectError) -> CallCause {
    let detail = error.to_string();
    match error {
        link::ConnectError::Address { .. } => CallCause::Address { detail },
        link::ConnectError::NodeUntrusted { .. }
        | link::ConnectError::CertificateRefused { .. }
        | link::ConnectError::NoCommonProtocol => CallCause::Handshake { detail },
        link::ConnectError::Refused(CloseCode::Identity) => CallCause::Refused { detail },
        link::ConnectError::TimedOut
        | link::ConnectError::Refused(_)
        | link::ConnectError::Failed { .. } => CallCause::Unreachable { detail },
    }
}

fn lost_cause(reason: &LostReason) -> CallCause {
    let detail = reason.to_string();
    match reason {
        LostReason::ClosedByNode(CloseCode::Identity) => CallCause::Refused { detail },
        LostReason::ClosedHere
        | LostReason::ClosedByNode(_)
        | LostReason::Silent
        | LostReason::Reset
        | LostReason::Protocol(_)
        | LostReason::Failed { .. } => CallCause::Closed { detail },
    }
}

fn call_error(error: link::CallError) -> CallError {
    match error {
        link::CallError::NotSent(reason) => CallError::NotSent(match reason {
            link::NotSent::Gone(reason) => lost_cause(&reason),
            link::NotSent::TooManyInFlight { .. } | link::NotSent::QueueFull => CallCause::Full,
            link::NotSent::Frame(_) => CallCause::TooLong,
        }),
        link::CallError::Lost(reason) => CallError::Lost(lost_cause(&reason)),
        link::CallError::TimedOut => CallError::Lost(CallCause::TimedOut),
        link::CallError::UnknownAnswer { .. } => CallError::Lost(CallCause::Malformed),
    }
}
