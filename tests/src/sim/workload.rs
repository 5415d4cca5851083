//! What clients do in a run: the real SDK over the simulated network, every step in the history.
//!
//! A value is text: the index of the write, the elements that a set holds, and filler; all of it
//! follows from the history, so that a read is compared byte for byte.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quorate_client::WriteError;
use quorate_client::wire::Outcome as WireOutcome;
use quorate_client::{Client, Context, GetError, Keyspace, Read, Resolution, Session, Transport};
use quorate_ring::ConsistencyLevel;

use super::clock::Machine;
use super::plan::{Plan, Workload};
use super::rand::SimRand;
use super::sched::Scheduler;
use super::trace::Trace;
use crate::check::{
    Action, Ending, History, KeyIndex, LwwFacts, OpIndex, Operation, Outcome, Returned,
};

/// Keys of a keyspace that are written seldom.
const COLD_KEYS: usize = 40;

/// Median pause of a client in a hurry.
const HURRIED_THINK_US: u64 = 2_000;

/// What all clients of a run share: the history and the names of its keys.
#[derive(Debug)]
pub struct Ledger {
    history: History,
    keys: BTreeMap<(usize, String), KeyIndex>,
    targets: Vec<Target>,
    pub(super) lww: BTreeMap<OpIndex, LwwFacts>,
    filler: (u64, u64),
}

/// A key that was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Index of its keyspace in the topology.
    pub keyspace: usize,
    /// The key.
    pub key: String,
    /// Which workload uses it.
    pub workload: Workload,
}

impl Ledger {
    /// An empty ledger.
    #[must_use]
    pub fn new(filler: (u64, u64)) -> Self {
        Self {
            history: History::default(),
            keys: BTreeMap::new(),
            targets: Vec::new(),
            lww: BTreeMap::new(),
            filler,
        }
    }

    /// The history so far.
    #[must_use]
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// Every key that was used, by its index.
    #[must_use]
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// What was told of operations on lww keys.
    #[must_use]
    pub const fn lww_facts(&self) -> &BTreeMap<OpIndex, LwwFacts> {
        &self.lww
    }

    fn key(&mut self, target: &Target, keyspace: &str) -> KeyIndex {
        let name = (target.keyspace, target.key.clone());
        if let Some(known) = self.keys.get(&name) {
            return *known;
        }
        let index = self.history.add_key(format!("{keyspace}/{}", target.key));
        self.targets.push(target.clone());
        self.keys.insert(name, index);
        index
    }

    fn value(&self, write: OpIndex) -> Option<Vec<u8>> {
        match &self.history.operation(write)?.action {
            Action::Put { elements } => Some(value_of(write, elements, self.filler)),
            Action::Delete | Action::Get => None,
        }
    }

    /// Finds out which writes wrote these values.
    #[must_use]
    pub fn recognise(&self, values: &[Bytes]) -> Returned {
        let mut returned = Returned::default();
        for value in values {
            let end = value.iter().position(|b| *b == b'|').unwrap_or(value.len());
            let digits = value.get(..end).and_then(|d| std::str::from_utf8(d).ok());
            let write = digits.and_then(|d| d.parse().ok()).map(OpIndex);
            match write.filter(|w| self.value(*w).is_some_and(|v| v == value.as_ref())) {
                Some(write) => returned.values.push(write),
                None => returned.altered.push(value.escape_ascii().to_string()),
            }
        }
        returned
    }
}

fn value_of(write: OpIndex, elements: &BTreeSet<OpIndex>, filler: (u64, u64)) -> Vec<u8> {
    let mut text = format!("{}|", write.0);
    for element in elements {
        // Writing to a string cannot fail.
        write!(text, "{},", element.0).unwrap_or_default();
    }
    text.push('|');
    let filler = SimRand::derive(write.0 as u64, 0, "filler").between(filler.0, filler.1);
    let filler = usize::try_from(filler).unwrap_or(0);
    text.push_str(&"x".repeat(filler));
    text.into_bytes()
}

/// Shared by the clients and the run.
#[derive(Clone, Debug)]
pub struct Recorder {
    ledger: Arc<Mutex<Ledger>>,
    time: Scheduler,
    pub(super) trace: Trace,
    pub(super) healed: Arc<AtomicBool>,
}

impl Recorder {
    /// Records into a new ledger.
    #[must_use]
    pub fn new(time: Scheduler, trace: Trace, filler: (u64, u64)) -> Self {
        Self {
            ledger: Arc::new(Mutex::new(Ledger::new(filler))),
            time,
            trace,
            healed: Arc::default(),
        }
    }

    /// The ledger; not to be held over an await.
    pub fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn invoke(
        &self,
        client: usize,
        target: &Target,
        action: Action,
        context: Option<OpIndex>,
        call: &Call,
    ) -> (OpIndex, Option<Vec<u8>>) {
        let mut ledger = self.lock();
        let key = ledger.key(target, &call.keyspace);
        let op = ledger.history.invoke(Operation {
            client,
            key,
            action,
            context,
            replicas: call.replicas,
            copies: call.copies,
            session: call.session,
            ttl_us: call.ttl_us,
            deadline_us: u64::try_from(call.deadline.as_micros()).unwrap_or(u64::MAX),
            invoked_event: 0,
            invoked_us: self.time.now_us(),
            ending: None,
        });
        let value = ledger.value(op);
        drop(ledger);
        let (level, ctx) = (call.level, context.map(|c| c.0));
        self.trace
            .event("invoke", &[op.0 as u64, key.0 as u64], || {
                let ledger = self.lock();
                let action = ledger.history.operation(op).map(|o| o.action.clone());
                format!(
                    "#{} client {client} {action:?} of {} at {level} after {ctx:?}",
                    op.0,
                    ledger.history.key_name(key)
                )
            });
        (op, value)
    }

    /// Notes what was told of an operation on an lww key; nothing for other keys.
    fn note_lww(&self, op: OpIndex, stamp: Option<u64>, fact: LwwFacts) {
        if stamp.is_some() {
            let mut ledger = self.lock();
            let known = ledger.lww.entry(op).or_default();
            known.stamp = stamp;
            known.superseded |= fact.superseded;
            drop(ledger);
            if fact.superseded {
                self.trace
                    .count("state.lww write told that it was superseded");
            }
        }
    }

    pub(super) fn now_us(&self) -> u64 {
        self.time.now_us()
    }

    /// From now on clients' clocks do not jump.
    pub fn heal_clocks(&self) {
        self.healed.store(true, Ordering::Relaxed);
    }

    pub(super) fn end(
        &self,
        op: OpIndex,
        outcome: Outcome,
        returned: Returned,
        error: String,
        attempts: usize,
    ) {
        let values: Vec<u64> = returned.values.iter().map(|v| v.0 as u64).collect();
        let mut words = vec![op.0 as u64, outcome as u64];
        words.extend(&values);
        let text = error.clone();
        let ending = Ending {
            event: 0,
            at_us: self.time.now_us(),
            outcome,
            returned,
            error,
            attempts,
        };
        self.lock().history.end(op, ending);
        self.trace.event("end", &words, || {
            format!("#{} {outcome:?} {values:?} {text}", op.0)
        });
    }
}

/// How one operation is asked.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) keyspace: String,
    pub(super) ttl_us: Option<u64>,
    pub(super) level: ConsistencyLevel,
    pub(super) replicas: u8,
    pub(super) copies: u8,
    pub(super) deadline: Duration,
    pub(super) session: Option<u64>,
}

/// How much clients think between two operations: as the plan says, or hardly at all while a fault
/// needs many writes under way.
#[derive(Debug, Clone, Default)]
pub struct Pace(Arc<AtomicBool>);

impl Pace {
    /// Clients hurry, or do not.
    pub fn set_hurry(&self, hurry: bool) {
        self.0.store(hurry, Ordering::Relaxed);
    }

    fn think_us(&self, usual: u64) -> u64 {
        if self.0.load(Ordering::Relaxed) {
            HURRIED_THINK_US.min(usual)
        } else {
            usual
        }
    }
}

/// How a client reaches the nodes, and its machine.
#[derive(Debug)]
pub struct Way {
    /// The SDK.
    pub client: Client,
    /// What is below the SDK, for what it would not send.
    pub transport: Arc<dyn Transport>,
    /// The client's wall clock.
    pub machine: Machine,
}

/// One client.
#[derive(Debug)]
pub struct SimClient {
    pub(super) number: usize,
    pub(super) plan: Arc<Plan>,
    pub(super) way: Way,
    pub(super) recorder: Recorder,
    pace: Pace,
    pub(super) rand: SimRand,
    /// What the client last saw of a key.
    pub(super) contexts: BTreeMap<(usize, String), (OpIndex, Context)>,
    pub(super) unique: u64,
    /// The session under way, and its number over all clients.
    session: Option<(u64, Session)>,
    sessions_begun: u64,
}

impl SimClient {
    /// Client `number` of a run.
    #[must_use]
    pub fn new(number: usize, plan: Arc<Plan>, way: Way, recorder: Recorder, pace: Pace) -> Self {
        let rand = SimRand::derive(plan.seed, number as u64, "client");
        Self {
            number,
            plan,
            way,
            recorder,
            pace,
            rand,
            contexts: BTreeMap::new(),
            unique: 0,
            session: None,
            sessions_begun: 0,
        }
    }

    /// Carries out one step of the workload, then thinks.
    pub async fn step(&mut self, think: bool) {
        if self.plan.scans && self.rand.chance(0.05) {
            self.scan_some().await;
        }
        if self.plan.batches && self.rand.chance(0.1) {
            self.batch_some().await;
        }
        let workloads = &self.plan.workloads;
        let workload = self.rand.pick(workloads).copied().unwrap_or(Workload::Sets);
        match workload {
            Workload::UniqueKeys => self.unique_key().await,
            Workload::Sets => self.set().await,
            Workload::Blind => self.blind().await,
            Workload::Chained => self.chained().await,
            Workload::Deletes => self.deletes().await,
            Workload::Sessions => self.sessions().await,
            Workload::Lww => self.lww().await,
            Workload::WrongMode => self.wrong_mode().await,
            Workload::Expiring => self.expiring().await,
            Workload::Overload => self.overload().await,
        }
        if think {
            let think_us = self.pace.think_us(self.plan.think_us);
            let pause = self.rand.exponential(think_us);
            tokio::time::sleep(Duration::from_micros(pause)).await;
        }
    }

    fn keyspace_drawn(&mut self) -> usize {
        self.rand.index(self.plan.sibling_keyspaces)
    }

    pub(super) fn hot(&mut self, workload: Workload, prefix: &str) -> Target {
        let keyspace = self.keyspace_drawn();
        let number = self.rand.index(self.plan.hot_keys);
        Target {
            keyspace,
            key: format!("{prefix}-{number}"),
            workload,
        }
    }

    /// Where deleted keys are purged, the number of a key that is written so seldom that what was
    /// deleted stays so for longer than a round rests; half of the time.
    pub(super) fn cold(&mut self) -> Option<usize> {
        (self.plan.purges && self.rand.chance(0.5)).then(|| self.rand.index(COLD_KEYS))
    }

    async fn unique_key(&mut self) {
        let keyspace = self.keyspace_drawn();
        let written = self.unique;
        let again = written > 0 && self.rand.chance(0.4);
        let number = if again {
            self.rand.below(written)
        } else {
            written
        };
        let target = Target {
            keyspace,
            key: format!("u-{}-{number}", self.number),
            workload: Workload::UniqueKeys,
        };
        if again {
            self.get(&target).await;
        } else {
            self.unique += 1;
            self.put(&target, None, BTreeSet::new()).await;
        }
    }

    async fn set(&mut self) {
        let target = self.hot(Workload::Sets, "set");
        let Some((read, context, values)) = self.get(&target).await else {
            return;
        };
        let elements = self.elements_with(&values);
        self.put(&target, Some((read, context)), elements).await;
    }

    /// The elements of a set whose values are these: they themselves, and what they held.
    pub(super) fn elements_with(&self, values: &[OpIndex]) -> BTreeSet<OpIndex> {
        let mut elements: BTreeSet<OpIndex> = values.iter().copied().collect();
        let ledger = self.recorder.lock();
        for op in values.iter().filter_map(|v| ledger.history.operation(*v)) {
            if let Action::Put { elements: held } = &op.action {
                elements.extend(held.iter().copied());
            }
        }
        elements
    }

    async fn blind(&mut self) {
        let target = self.hot(Workload::Blind, "blind");
        match self.rand.below(20) {
            0..=11 => {
                self.put(&target, None, BTreeSet::new()).await;
            }
            12..=16 => {
                self.get(&target).await;
            }
            _ => self.resolve(&target).await,
        }
    }

    async fn resolve(&mut self, target: &Target) {
        if let Some((read, context, _)) = self.get(target).await {
            self.put(target, Some((read, context)), BTreeSet::new())
                .await;
        }
    }

    async fn chained(&mut self) {
        let mut target = self.hot(Workload::Chained, "chain");
        if self.plan.own_chains {
            target.key = format!("{}-of-{}", target.key, self.number);
        }
        let last = self
            .contexts
            .get(&(target.keyspace, target.key.clone()))
            .cloned();
        match self.rand.below(20) {
            0..=2 => {
                self.get(&target).await;
            }
            3..=4 if self.plan.own_chains => {
                self.get(&target).await;
            }
            3..=4 => {
                self.put(&target, None, BTreeSet::new()).await;
            }
            _ => {
                self.put(&target, last, BTreeSet::new()).await;
            }
        }
    }

    async fn deletes(&mut self) {
        let mut target = self.hot(Workload::Deletes, "del");
        if let Some(cold) = self.cold() {
            target.key = format!("del-c{cold}");
        }
        match self.rand.below(20) {
            0..=3 => {
                self.put(&target, None, BTreeSet::new()).await;
            }
            4..=8 => self.resolve(&target).await,
            9..=12 => {
                if let Some((read, context, _)) = self.get(&target).await {
                    self.delete(&target, Some((read, context))).await;
                }
            }
            13 => self.delete(&target, None).await,
            _ => {
                self.get(&target).await;
            }
        }
    }

    /// One client writes a key, all read it, each in sessions that come and go and travel.
    async fn sessions(&mut self) {
        let target = self.hot(Workload::Sessions, "reg");
        let key = target.key.bytes().map(usize::from).sum::<usize>() + target.keyspace;
        let writes = key % self.plan.clients == self.number;
        self.go_on_with_session();
        let puts = writes && self.rand.chance(0.6);
        let call = Call {
            session: self.session.as_ref().map(|(number, _)| *number),
            ..self.call(&target, puts)
        };
        if !puts {
            self.get_with(&target, call).await;
            return;
        }
        let name = (target.keyspace, target.key.clone());
        let last = self.contexts.get(&name).cloned();
        self.put_in_session(&target, last, call).await;
    }

    /// Begins a session, or carries the present one through its text.
    fn go_on_with_session(&mut self) {
        let ends = self.rand.chance(0.05);
        let travels = self.rand.chance(0.2);
        match self.session.take().filter(|_| !ends) {
            Some((number, session)) if travels => {
                let text = session.token().map(|token| token.to_string());
                let token = text.and_then(|text| text.parse());
                let resumed = token.and_then(|token| self.way.client.resume_session(&token));
                self.session = resumed.ok().map(|session| (number, session));
                self.recorder.trace.count("state.session travelled");
            }
            Some(session) => self.session = Some(session),
            None => {}
        }
        if self.session.is_none() {
            self.sessions_begun += 1;
            let number = self.number as u64 * 1_000_000 + self.sessions_begun;
            self.session = Some((number, self.way.client.session()));
        }
    }

    /// A put whose unknown outcome is resolved: what is told *applied* then is held to it like what
    /// was acknowledged at once.
    async fn put_in_session(
        &mut self,
        target: &Target,
        context: Option<(OpIndex, Context)>,
        call: Call,
    ) {
        let elements = BTreeSet::new();
        let seen = context.as_ref().map(|(op, _)| *op);
        let recorded = Call {
            deadline: call.deadline * 2,
            ..call.clone()
        };
        let action = Action::Put { elements };
        let (op, value) = self
            .recorder
            .invoke(self.number, target, action, seen, &recorded);
        let keyspace = self.keyspace_of_call(target, &call);
        let (key, value) = (target.key.clone(), value.unwrap_or_default());
        let asked = match context {
            Some((_, context)) => keyspace.put(key.clone(), value).after(context),
            None => keyspace.put_blind(key.clone(), value),
        };
        let mut asked = asked.level(call.level).deadline(call.deadline);
        if self.rand.chance(0.5) {
            // One short attempt: outcomes are unknown as often as can be.
            let short = Duration::from_millis(self.rand.between(10, 150));
            asked = asked.attempts_max(1).attempt_deadline(short);
        }
        let written = asked.await;
        let open = written.as_ref().err().and_then(|error| match error {
            WriteError::NotApplied(_) => None,
            WriteError::Unknown(failure) => failure.op_id,
        });
        let Some(op_id) = open else {
            return self.note_written(target, op, written);
        };
        let question = keyspace.resolve(key, op_id).level(call.level);
        match question.deadline(call.deadline).await {
            Resolution::Applied(resolved) => {
                self.recorder.trace.count("state.unknown put resolved");
                if let Some(context) = resolved.context() {
                    let name = (target.keyspace, target.key.clone());
                    self.contexts.insert(name, (op, context.clone()));
                }
                let attempts = written.map_or_else(
                    |error| error.failure().attempts.len(),
                    |written| usize::from(written.attempts()),
                );
                let returned = Returned::default();
                self.recorder
                    .end(op, Outcome::Ok, returned, String::new(), attempts);
            }
            Resolution::Unknown(_) => self.note_written(target, op, written),
        }
    }

    fn keyspace_of_call(&self, target: &Target, call: &Call) -> Keyspace {
        let keyspace = self.keyspace_of(target);
        match (&self.session, call.session) {
            (Some((_, session)), Some(_)) => keyspace.in_session(session),
            (Some(_) | None, _) => keyspace,
        }
    }

    pub(super) fn keyspace_of(&self, target: &Target) -> Keyspace {
        let keyspaces = self.plan.topology.keyspaces();
        let name = keyspaces.get(target.keyspace).map(|k| k.name.to_string());
        self.way.client.keyspace(name.unwrap_or_default())
    }

    pub(super) fn call(&mut self, target: &Target, write: bool) -> Call {
        let keyspaces = self.plan.topology.keyspaces();
        let copies = keyspaces[target.keyspace].copies;
        let name = keyspaces[target.keyspace].name.to_string();
        let exact = u8::try_from(self.rand.between(1, copies.get().into())).unwrap_or(1);
        let level = match self.rand.below(20) {
            0..=2 => ConsistencyLevel::One,
            3..=4 if copies.get() >= 2 => ConsistencyLevel::Two,
            5..=6 => ConsistencyLevel::All,
            7..=9 if write => ConsistencyLevel::Write(exact),
            7..=9 => ConsistencyLevel::Read(exact),
            _ => ConsistencyLevel::Quorum,
        };
        // What one copy alone acknowledged is gone with it, and a node that forgot answers at no
        // level.
        let level = if self.plan.loses() {
            ConsistencyLevel::Quorum
        } else {
            level
        };
        let needed = if write {
            level.replicas_for_write(copies)
        } else {
            level.replicas_for_read(copies)
        };
        // What a sloppy operation reached other levels need not meet.
        let (level, needed) = if self.plan.sloppy && self.rand.chance(0.5) {
            (level.sloppy(), Ok(0))
        } else {
            (level, needed)
        };
        Call {
            keyspace: name,
            ttl_us: None,
            level,
            replicas: needed.unwrap_or(0),
            copies: copies.get(),
            deadline: Duration::from_millis(self.rand.between(300, 3000)),
            session: None,
        }
    }

    pub(super) async fn get(
        &mut self,
        target: &Target,
    ) -> Option<(OpIndex, Context, Vec<OpIndex>)> {
        let call = self.call(target, false);
        self.get_with(target, call).await
    }

    async fn get_with(
        &mut self,
        target: &Target,
        call: Call,
    ) -> Option<(OpIndex, Context, Vec<OpIndex>)> {
        let (op, _) = self
            .recorder
            .invoke(self.number, target, Action::Get, None, &call);
        let keyspace = self.keyspace_of_call(target, &call);
        let asked = keyspace
            .get(target.key.clone())
            .level(call.level)
            .deadline(call.deadline);
        let read = asked.await;
        self.note_read(target, op, read)
    }

    pub(super) fn note_read(
        &mut self,
        target: &Target,
        op: OpIndex,
        read: Result<Read, GetError>,
    ) -> Option<(OpIndex, Context, Vec<OpIndex>)> {
        match read {
            Ok(read) => {
                let returned = self.recorder.lock().recognise(read.values());
                let values = returned.values.clone();
                self.recorder
                    .note_lww(op, read.stamp(), LwwFacts::default());
                self.recorder
                    .end(op, Outcome::Ok, returned, String::new(), 1);
                let name = (target.keyspace, target.key.clone());
                self.contexts.insert(name, (op, read.context().clone()));
                Some((op, read.context().clone(), values))
            }
            Err(error) => {
                let text = format!("{}: {error}", error.code());
                self.recorder
                    .end(op, Outcome::Fail, Returned::default(), text, 1);
                None
            }
        }
    }

    /// Reads at `all`, which repairs; for the audit.
    pub async fn audit_read(&mut self, target: &Target) -> bool {
        let keyspace = &self.plan.topology.keyspaces()[target.keyspace];
        let (copies, name) = (keyspace.copies, keyspace.name.to_string());
        let copies = copies.get();
        let call = Call {
            keyspace: name,
            ttl_us: None,
            level: ConsistencyLevel::All,
            replicas: copies,
            copies,
            deadline: Duration::from_secs(5),
            session: None,
        };
        self.get_with(target, call).await.is_some()
    }

    pub(super) async fn put(
        &mut self,
        target: &Target,
        context: Option<(OpIndex, Context)>,
        elements: BTreeSet<OpIndex>,
    ) {
        let call = self.call(target, true);
        self.put_with(target, context, elements, call).await;
    }

    pub(super) async fn put_with(
        &mut self,
        target: &Target,
        context: Option<(OpIndex, Context)>,
        elements: BTreeSet<OpIndex>,
        call: Call,
    ) {
        let action = Action::Put { elements };
        let seen = context.as_ref().map(|(op, _)| *op);
        let (op, value) = self
            .recorder
            .invoke(self.number, target, action, seen, &call);
        let keyspace = self.keyspace_of(target);
        let (key, value) = (target.key.clone(), value.unwrap_or_default());
        let asked = match context {
            Some((_, context)) => keyspace.put(key, value).after(context),
            None => keyspace.put_blind(key, value),
        };
        let mut asked = asked.level(call.level).deadline(call.deadline);
        if let Some(ttl_us) = call.ttl_us {
            asked = asked.ttl(Duration::from_micros(ttl_us));
        }
        let written = asked.await;
        self.note_written(target, op, written);
    }

    async fn delete(&mut self, target: &Target, context: Option<(OpIndex, Context)>) {
        let call = self.call(target, true);
        let seen = context.as_ref().map(|(op, _)| *op);
        let (op, _) = self
            .recorder
            .invoke(self.number, target, Action::Delete, seen, &call);
        let keyspace = self.keyspace_of(target);
        let asked = match context {
            Some((_, context)) => keyspace.delete(target.key.clone()).after(context),
            None => keyspace.delete_blind(target.key.clone()),
        };
        let written = asked.level(call.level).deadline(call.deadline).await;
        self.note_written(target, op, written);
    }

    pub(super) fn note_written(
        &mut self,
        target: &Target,
        op: OpIndex,
        written: Result<quorate_client::Written, WriteError>,
    ) {
        match written {
            Ok(written) => {
                let fact = LwwFacts {
                    superseded: written.is_superseded(),
                    ..LwwFacts::default()
                };
                self.recorder.note_lww(op, written.stamp(), fact);
                if let Some(context) = written.context() {
                    let name = (target.keyspace, target.key.clone());
                    self.contexts.insert(name, (op, context.clone()));
                }
                if written.attempts() > 1 {
                    self.recorder.trace.count("state.write applied by a retry");
                }
                let attempts = usize::from(written.attempts());
                self.recorder.end(
                    op,
                    Outcome::Ok,
                    Returned::default(),
                    String::new(),
                    attempts,
                );
            }
            Err(error) => {
                let outcome = match error.outcome() {
                    WireOutcome::NotApplied => Outcome::Fail,
                    WireOutcome::Applied | WireOutcome::Unknown => Outcome::Info,
                };
                let text = format!("{}: {error}", error.code());
                let attempts = error.failure().attempts.len();
                self.recorder
                    .end(op, outcome, Returned::default(), text, attempts);
            }
        }
    }
}
