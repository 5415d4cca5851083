//! One run: faults and workload, then all is healed, then every promise is audited.
//!
//! Phase 1 lasts at least 60 simulated seconds and 500 operations. In phase 2 nothing is broken and
//! operations must succeed again. Phase 3 reads every key at `all`, which repairs, and compares
//! what every replica holds; then the checkers judge the whole history.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quorate_client::Client;
use tokio::task::JoinSet;

use super::client_net::ClientNet;
use super::clock::Machine;
use super::cluster::{Cluster, PURGE_REST};
use super::nemesis::Nemesis;
use super::net::SimNet;
use super::plan::{Fault, Plan, Workload};
use super::rand::SimRand;
use super::report::Report;
use super::sched::Scheduler;
use super::trace::Trace;
use super::workload::{Pace, Recorder, SimClient, Way};
use super::workload_scan::NOT_COVERED;
use crate::check::{self, Expiring, KeyIndex, OpIndex, Outcome, ReplicaDump};

/// In one of so many seeds a row vanishes unnoticed at the end.
const ROT_ONE_IN: u64 = 3;

const SECOND: u64 = 1_000_000;
/// Seconds within which nodes have back what they acknowledged, once every fault has ended.
const HEALING_S: usize = 60;
/// Seconds in which all copies are compared and brought together: every pair is compared at least
/// twice, and what was found the first time is confirmed.
const EXCHANGE_ROUNDS: u64 = 30;
/// Seconds in which all deleted keys are purged once all copies are alike: a round that is under
/// way ends, and one more.
const PURGE_S: u64 = 60;
/// Seconds in which all records are pruned then: a copy is read five rests after a life has ended,
/// and rounds follow.
const PRUNE_S: u64 = 120;
/// Longest time of an operation after an overload: many times what drawn networks and disks need.
const AFTER_OVERLOAD_US: u64 = SECOND / 2;

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// How a seed is run.
#[derive(Debug, Clone, Copy)]
pub struct RunOptions {
    /// Prints every event.
    pub verbose: bool,
    /// Least length of the phase of faults, in simulated seconds.
    pub faults_s: u64,
    /// Least number of operations before everything is healed.
    pub operations_min: usize,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            verbose: false,
            faults_s: 60,
            operations_min: 500,
        }
    }
}

/// Runs one seed to its end, on this thread.
#[must_use]
pub fn run_seed(seed: u64, options: RunOptions) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without IO needs nothing of the system");
    runtime.block_on(Box::pin(async move {
        let run = Run::prepare(seed, options);
        run.carry_out().await
    }))
}

struct Run {
    options: RunOptions,
    plan: Arc<Plan>,
    time: Scheduler,
    trace: Trace,
    cluster: Cluster,
    recorder: Recorder,
    pace: Pace,
    background: JoinSet<()>,
    client_machines: Vec<Machine>,
    problems: Vec<String>,
}

impl Run {
    fn prepare(seed: u64, options: RunOptions) -> Self {
        let plan = Arc::new(Plan::draw(seed));
        let time = Scheduler::start();
        let trace = Trace::new(time.clone(), options.verbose);
        trace.line("plan", &[seed], plan.summary());
        let nodes = plan.topology.nodes().iter().map(|n| n.id).collect();
        let stream = |purpose| SimRand::derive(seed, 0, purpose);
        let net = SimNet::new(
            time.clone(),
            trace.clone(),
            plan.net.clone(),
            nodes,
            stream("net"),
        );
        let client_net = ClientNet::new(
            time.clone(),
            trace.clone(),
            plan.client_net.clone(),
            plan.topology.clone(),
            stream("client net"),
        );
        let cluster = Cluster::new(plan.clone(), time.clone(), trace.clone(), net, client_net);
        let recorder = Recorder::new(time.clone(), trace.clone(), plan.filler);
        let mut background = JoinSet::new();
        background.spawn(time.clone().run());
        if plan.faults.contains(&Fault::ClockRate) {
            trace.count(Fault::ClockRate.counter());
        }
        Self {
            options,
            plan,
            time,
            trace,
            cluster,
            recorder,
            pace: Pace::default(),
            background,
            client_machines: Vec::new(),
            problems: Vec::new(),
        }
    }

    async fn carry_out(mut self) -> Report {
        self.cluster.start_all();
        if !self.cluster.wait_until_all_run(30 * SECOND).await {
            self.problems.push("the cluster did not start".to_owned());
        }
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = self.clients(&stop).await;
        let mut nemesis = Nemesis::new(
            self.plan.clone(),
            self.cluster.clone(),
            self.time.clone(),
            self.trace.clone(),
            self.pace.clone(),
        );
        nemesis
            .run(self.time.now_us() + self.options.faults_s * SECOND)
            .await;
        self.until_enough_operations().await;
        let quiet = self.quiet_phase(&nemesis).await;
        stop.store(true, Ordering::Relaxed);
        while let Some(ended) = clients.join_next().await {
            if let Err(error) = ended {
                self.problems.push(format!("a client panicked: {error}"));
            }
        }
        if !self.plan.loses() {
            self.until_copies_agree().await;
            let keyspaces = self.plan.topology.keyspaces();
            // A node with copies that nobody else has, or that has purged, tells of it and goes on.
            let heals =
                !self.plan.purges && keyspaces.iter().all(|keyspace| keyspace.copies.get() > 1);
            if heals && self.plan.seed.is_multiple_of(ROT_ONE_IN) && self.cluster.rot().await {
                self.time.sleep_ms(1000).await;
                self.until_whole().await;
                self.until_copies_agree().await;
            }
            if self.plan.purges && !self.plan.hints_alone {
                self.until_purged().await;
            }
        }
        let (found, dumps) = self.audit().await;
        self.cluster.stop_all().await;
        self.judge(&found, &dumps);
        self.report(quiet)
    }

    async fn connect(&mut self, number: usize) -> Option<SimClient> {
        let machine = Machine::new(self.time.clone(), 0, 0);
        let transport = self.cluster.client_net().transport(number);
        let addresses = self.plan.topology.nodes().iter().map(|n| n.address.clone());
        let connected = Client::builder()
            .seeds(addresses)
            .transport(transport.clone())
            .wall_clock(Arc::new(machine.clone()))
            .random_seed(SimRand::derive(self.plan.seed, number as u64, "sdk").next_bits())
            .connect()
            .await;
        match connected {
            Ok(client) => {
                let (plan, recorder) = (self.plan.clone(), self.recorder.clone());
                let pace = self.pace.clone();
                let way = Way {
                    client,
                    transport,
                    machine: machine.clone(),
                };
                self.client_machines.push(machine);
                Some(SimClient::new(number, plan, way, recorder, pace))
            }
            Err(error) => {
                self.problems
                    .push(format!("client {number} cannot connect: {error}"));
                None
            }
        }
    }

    async fn clients(&mut self, stop: &Arc<AtomicBool>) -> JoinSet<()> {
        let mut clients = JoinSet::new();
        for number in 0..self.plan.clients {
            if let Some(mut client) = self.connect(number).await {
                let stop = stop.clone();
                clients.spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        client.step(true).await;
                    }
                });
            }
        }
        clients
    }

    async fn until_enough_operations(&self) {
        for _ in 0..120 {
            if self.recorder.lock().history().len() >= self.options.operations_min {
                return;
            }
            self.time.sleep_ms(1000).await;
        }
    }

    /// Heals everything and measures whether operations succeed again: how many of how many.
    async fn quiet_phase(&mut self, nemesis: &Nemesis) -> (u64, u64) {
        for fault in nemesis.without_effect() {
            self.problems
                .push(format!("planned fault {fault:?} did not take effect"));
        }
        self.trace.line("heal", &[], "all faults end".to_owned());
        self.cluster.heal();
        self.recorder.heal_clocks();
        self.client_machines.iter().for_each(Machine::set_right);
        if !self.cluster.wait_until_all_run(60 * SECOND).await {
            self.problems.push(format!(
                "not all nodes run after healing: {}",
                self.cluster.states()
            ));
        }
        self.until_whole().await;
        self.time.sleep_ms(5000).await;
        self.trace
            .line("quiet", &[], "operations must succeed from here".to_owned());
        let from = self.time.now_us();
        self.time.sleep_ms(6000).await;
        let until = self.time.now_us() - 3 * SECOND;
        let ledger = self.recorder.lock();
        let operations = ledger.history().operations();
        let quiet = operations.filter(|(_, op)| (from..until).contains(&op.invoked_us));
        let mut counts = (0, 0);
        for (_, op) in quiet {
            // A full record takes no blind put: that is a promise, not trouble.
            // So is a page of a scan that ends before a key.
            let promised = ["TOO_MANY_SIBLINGS", NOT_COVERED];
            let promised = op.ending.as_ref().is_some_and(|ending| {
                let error = &ending.error;
                promised.iter().any(|promise| error.starts_with(promise))
            });
            if !promised {
                counts.0 += 1;
                counts.1 += u64::from(op.outcome() == Outcome::Ok);
            }
        }
        drop(ledger);
        if self.plan.overload.is_some() {
            self.check_after_overload(from, until);
        }
        if counts.1 * 2 < counts.0 || counts.0 == 0 {
            let text = format!(
                "quiet phase: only {} of {} operations succeeded",
                counts.1, counts.0
            );
            self.problems.push(text);
        }
        counts
    }

    /// Waits until every node has back what it acknowledged.
    async fn until_whole(&mut self) {
        let mut last = None;
        for _ in 0..HEALING_S {
            last = self.cluster.not_whole().await;
            if last.is_none() {
                return;
            }
            self.time.sleep_ms(1000).await;
        }
        let last = last.unwrap_or_default();
        self.problems.push(format!(
            "a node did not get back what it acknowledged: {last}"
        ));
    }

    /// After an overload nothing is shed any more, and nothing waits for what is left of it.
    fn check_after_overload(&mut self, from: u64, until: u64) {
        let ledger = self.recorder.lock();
        let operations = ledger.history().operations();
        let quiet = operations.filter(|(_, op)| (from..until).contains(&op.invoked_us));
        let slow = quiet.filter(|(_, op)| {
            let ended = op.ending.as_ref();
            let took = ended.map(|ended| ended.at_us - op.invoked_us);
            let shed = ended.is_some_and(|ended| ended.error.starts_with("OVERLOADED"));
            shed || took.is_none_or(|took| took > AFTER_OVERLOAD_US)
        });
        let slow: Vec<String> = slow.map(|(op, _)| format!("#{}", op.0)).collect();
        if !slow.is_empty() {
            let text = format!("shed or slow after the overload: {}", slow.join(" "));
            self.problems.push(text);
        }
    }

    /// Waits until all owners of every key hold the same, which anti-entropy alone brings about:
    /// nothing is written or read any more.
    async fn until_copies_agree(&mut self) {
        let mut differing = Vec::new();
        for _ in 0..EXCHANGE_ROUNDS {
            self.time.sleep_ms(1000).await;
            // A round that two owners ended and the third did not is no write, and hints carry
            // nothing else: a read or an exchange would bring the copies together.
            let dumps = self.dumps(self.plan.hints_alone).await;
            differing = check::check_replicas(&dumps, |key| self.cluster.owners(key));
            if differing.is_empty() {
                self.trace
                    .line("agree", &[], "all copies are alike".to_owned());
                return;
            }
        }
        self.problems.push(format!(
            "anti-entropy did not bring copies together: {}",
            differing
                .first()
                .map(ToString::to_string)
                .unwrap_or_default()
        ));
    }

    /// Waits until no owner holds a deleted key any more, while nothing is written or read.
    async fn until_purged(&mut self) {
        let mut left = 0;
        for _ in 0..PURGE_S {
            self.time.sleep_ms(1000).await;
            left = self.cluster.tombstones().await;
            if left == 0 {
                self.trace
                    .line("purged", &[], "no deleted key is left".to_owned());
                return self.until_pruned().await;
            }
        }
        self.problems
            .push(format!("{left} deleted keys were not purged"));
    }

    /// Waits until no record remembers an ended life that no owner needs, or an operation that
    /// cannot be tried any more.
    async fn until_pruned(&mut self) {
        let mut left = 0;
        for _ in 0..PRUNE_S {
            left = self.cluster.crowded().await;
            if left == 0 {
                let text = "no record has more than it needs".to_owned();
                return self.trace.line("pruned", &[], text);
            }
            self.time.sleep_ms(1000).await;
        }
        self.problems
            .push(format!("{left} records were not pruned"));
    }

    /// Reads every key at `all` until every replica holds the same; what was read and dumped last.
    async fn audit(&mut self) -> (Vec<(KeyIndex, Vec<OpIndex>)>, Vec<ReplicaDump>) {
        let Some(mut auditor) = self.connect(self.plan.clients).await else {
            return (Vec::new(), Vec::new());
        };
        let targets = self.recorder.lock().targets().to_vec();
        let mut failed = Vec::new();
        let mut dumps = Vec::new();
        for _ in 0..4 {
            failed.clear();
            for target in &targets {
                if !auditor.audit_read(target).await {
                    failed.push(target.key.clone());
                }
            }
            self.time.sleep_ms(1500).await;
            // Where nobody waited for their end, rounds go on while one node after the other is
            // looked at.
            let waited = !self.plan.loses() && !self.plan.hints_alone;
            dumps = self.dumps(!waited).await;
            let owners = |key: &str| self.cluster.owners(key);
            if failed.is_empty() && check::check_replicas(&dumps, owners).is_empty() {
                break;
            }
        }
        if !failed.is_empty() {
            self.problems
                .push(format!("audit: no read at `all` of {failed:?}"));
        }
        (self.last_reads(), dumps)
    }

    /// What every node holds; without what a purge round takes away where `rounds_differ`, which
    /// says that one owner may have ended a round that another has not.
    async fn dumps(&self, rounds_differ: bool) -> Vec<ReplicaDump> {
        let mut dumps = self.cluster.dump().await;
        if self.plan.purges && rounds_differ {
            let lives = self.cluster.lives().await;
            for dump in &mut dumps {
                dump.leave_out_deleted();
                dump.leave_out_spare(&lives);
            }
        }
        dumps
    }

    /// What the newest successful read of each key by the auditor returned.
    fn last_reads(&self) -> Vec<(KeyIndex, Vec<OpIndex>)> {
        let ledger = self.recorder.lock();
        let history = ledger.history();
        let mut found: Vec<Option<Vec<OpIndex>>> = history.keys().map(|_| None).collect();
        for (_, op) in history.operations() {
            let audited = op.client == self.plan.clients && op.outcome() == Outcome::Ok;
            if audited && let (Some(slot), Some(ending)) = (found.get_mut(op.key.0), &op.ending) {
                *slot = Some(ending.returned.values.clone());
            }
        }
        let found = found.into_iter().enumerate();
        found
            .filter_map(|(key, values)| Some((KeyIndex(key), values?)))
            .collect()
    }

    fn judge(&mut self, found: &[(KeyIndex, Vec<OpIndex>)], dumps: &[ReplicaDump]) {
        let mut violations = Vec::new();
        // A node with a wrong clock that has heard of no other one yet hides by its own.
        let skew_us = if self.plan.bad_clock.is_some() {
            3 * 3_600 * SECOND
        } else {
            SECOND
        };
        let (during, after) = (Expiring { skew_us }, Expiring { skew_us: SECOND });
        {
            let ledger = self.recorder.lock();
            let history = ledger.history();
            violations.extend(check::check_outcomes(history, found, SECOND));
            let by_key = history.by_key();
            for (key, operations) in by_key.iter().enumerate() {
                let name = history.key_name(KeyIndex(key));
                match ledger.targets().get(key).map(|target| target.workload) {
                    Some(Workload::Lww) => {
                        let facts = ledger.lww_facts();
                        let purged = self.plan.purges.then(|| micros(PURGE_REST));
                        let found = check::check_lww(history, name, operations, facts, purged);
                        violations.extend(found);
                    }
                    Some(Workload::WrongMode) => {
                        violations.extend(check::check_wrong_mode(history, name, operations));
                    }
                    Some(
                        Workload::UniqueKeys
                        | Workload::Sets
                        | Workload::Blind
                        | Workload::Chained
                        | Workload::Deletes
                        | Workload::Sessions
                        | Workload::Expiring
                        | Workload::Overload,
                    )
                    | None => {
                        violations.extend(check::check_reads(history, name, operations, during))
                    }
                }
            }
            for (key, values) in found {
                let name = history.key_name(*key);
                let Some(operations) = by_key.get(key.0) else {
                    continue;
                };
                let workload = ledger.targets().get(key.0).map(|target| target.workload);
                if matches!(workload, Some(Workload::Lww | Workload::WrongMode)) {
                    continue;
                }
                let at_us = self.time.now_us();
                violations.extend(check::check_final_siblings(
                    history, name, operations, values, at_us, after,
                ));
                if ledger
                    .targets()
                    .get(key.0)
                    .is_some_and(|t| t.workload.only_adds())
                {
                    let (_, lost) = check::check_elements(history, name, operations, values);
                    violations.extend(lost);
                }
            }
        }
        let owners = |key: &str| self.cluster.owners(key);
        violations.extend(check::check_replicas(dumps, owners));
        violations.extend(check::check_dots(dumps));
        violations.sort();
        violations.dedup();
        self.problems
            .extend(violations.iter().map(ToString::to_string));
        self.problems.extend(self.cluster.problems());
        // Told by the nodes when they stopped.
        if self.plan.overload.is_some() && self.trace.counted("state.request shed") == 0 {
            self.problems
                .push("planned overload: nothing was shed".to_owned());
        }
    }

    fn report(mut self, quiet: (u64, u64)) -> Report {
        self.background.abort_all();
        let mut outcomes = [0; 3];
        let ledger = self.recorder.lock();
        for (_, op) in ledger.history().operations() {
            let slot = match op.outcome() {
                Outcome::Ok => 0,
                Outcome::Fail => 1,
                Outcome::Info => 2,
            };
            outcomes[slot] += 1;
        }
        let operations = ledger.history().len() as u64;
        drop(ledger);
        Report {
            seed: self.plan.seed,
            plan: self.plan.summary(),
            trace: self.trace.digest(),
            simulated: Duration::from_micros(self.time.now_us()),
            operations,
            outcomes,
            quiet,
            counters: self.trace.counters(),
            recent: if self.problems.is_empty() {
                Vec::new()
            } else {
                self.trace.recent()
            },
            problems: self.problems,
        }
    }
}
