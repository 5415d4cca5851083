//! Which fault comes when: draws one after another until the phase of faults ends.
//!
//! Every fault undoes itself, except what a crash leaves to a later restart. A kind counts as
//! having taken effect only when something felt it: a process that ran was killed, a frame met a
//! cut, a sync failed.

use std::collections::BTreeSet;
use std::sync::Arc;

use quorate_ring::NodeId;

use super::cluster::{Cluster, Crash, SimDisk, SimEngine};
use super::plan::{Fault, Plan};
use super::rand::SimRand;
use super::sched::Scheduler;
use super::trace::Trace;
use super::workload::Pace;

const SECOND: u64 = 1_000_000;
/// A node that is alone is given so long to take something in place of others.
const HELD_WITHIN_S: u64 = 5;

/// Brings the faults of one run.
#[derive(Debug)]
pub struct Nemesis {
    plan: Arc<Plan>,
    cluster: Cluster,
    time: Scheduler,
    trace: Trace,
    pace: Pace,
    rand: SimRand,
    /// Of the kind that came later, so that the others stay what they were.
    rand_again: SimRand,
}

impl Nemesis {
    /// The nemesis of a run.
    #[must_use]
    pub fn new(
        plan: Arc<Plan>,
        cluster: Cluster,
        time: Scheduler,
        trace: Trace,
        pace: Pace,
    ) -> Self {
        let rand = SimRand::derive(plan.seed, 0, "nemesis");
        let rand_again = SimRand::derive(plan.seed, 0, "nemesis again");
        Self {
            plan,
            cluster,
            time,
            trace,
            pace,
            rand,
            rand_again,
        }
    }

    /// Brings faults until `until_us`, then each kind that had no effect yet, a few times.
    pub async fn run(&mut self, until_us: u64) {
        let kinds: Vec<Fault> = self.plan.faults.iter().copied().collect();
        while self.time.now_us() < until_us {
            let gap = self
                .rand
                .exponential(self.plan.fault_gap_us)
                .min(10 * SECOND);
            let next = self.time.now_us() + gap.max(20_000);
            self.time.sleep_until(next.min(until_us)).await;
            if let Some(kind) = self.rand.pick(&kinds).copied() {
                self.bring(kind).await;
            }
        }
        // A replaced disk is refilled beside the overload, and the next one waits for that.
        let rounds = if self.plan.overload.is_some() { 80 } else { 20 };
        for _ in 0..rounds {
            let missing = self.without_effect();
            if missing.is_empty() {
                return;
            }
            for kind in missing {
                self.bring(kind).await;
            }
            self.time.sleep_ms(3000).await;
        }
    }

    /// Kinds that are on and had no effect so far.
    #[must_use]
    pub fn without_effect(&self) -> Vec<Fault> {
        let had_none = |fault: &Fault| self.trace.counted(fault.counter()) == 0;
        self.plan.faults.iter().copied().filter(had_none).collect()
    }

    async fn bring(&mut self, kind: Fault) {
        match kind {
            Fault::Kill | Fault::Power if self.plan.memory_victim.is_some() => {
                self.forget(kind).await;
            }
            Fault::Kill => self.crash_some(kind, Crash::Kill, 1),
            Fault::Power => self.crash_some(kind, Crash::Power, 1),
            Fault::KillMany => {
                let count = self.several();
                self.crash_some(kind, Crash::Kill, count);
            }
            Fault::PowerMany => {
                let count = self.several();
                self.crash_some(kind, Crash::Power, count);
            }
            Fault::KillThenPower => self.twice(kind, false).await,
            Fault::StopThenPower => self.twice(kind, true).await,
            Fault::PowerAgain => self.power_again(kind).await,
            Fault::Stop => self.stop(kind).await,
            Fault::Pause => self.pause(kind),
            Fault::Cut | Fault::Isolate | Fault::Bridge | Fault::Ring | Fault::OneWay => {
                let span = self.span();
                let directions = self.directions(kind);
                self.cut_for(kind, directions, span);
            }
            Fault::Flap => self.flap(kind),
            Fault::Clog | Fault::Bandwidth => self.slow(kind),
            Fault::LinkReset => self.reset(kind),
            Fault::ClientCut => self.cut_client(),
            Fault::DiskSlow
            | Fault::DiskStall
            | Fault::SyncError
            | Fault::DiskFull
            | Fault::WriteError => self.disk(kind),
            Fault::ReadError => self.read_error(),
            Fault::DiskLost | Fault::DiskOld => self.replace_disk(kind).await,
            Fault::Away => self.stay_away(kind),
            Fault::HolderAway => self.holder_away(kind).await,
            Fault::ClockJump => self.jump(kind),
            // These are in the temper of the networks and the machines all the time.
            Fault::Reorder
            | Fault::Duplicate
            | Fault::Stale
            | Fault::Late
            | Fault::RequestLost
            | Fault::ReplyLost
            | Fault::ClientReset
            | Fault::ClockRate => {}
        }
        // Frames outlive a connection only if one ends while they travel: help them.
        if kind == Fault::Stale {
            self.strand().await;
        }
    }

    /// Slows all links down and ends them while frames are under way.
    async fn strand(&mut self) {
        let nodes: Vec<NodeId> = self.plan.topology.nodes().iter().map(|n| n.id).collect();
        let until = self.time.now_us() + SECOND / 2;
        for from in &nodes {
            for to in nodes.iter().filter(|to| *to != from) {
                self.cluster.net().clog(*from, *to, SECOND, until);
            }
        }
        self.time.sleep_ms(400).await;
        self.reset(Fault::Stale);
    }

    fn span(&mut self) -> u64 {
        let longest = if self.rand.chance(0.3) { 12 } else { 4 };
        self.rand.between(SECOND / 2, longest * SECOND)
    }

    /// 0 to 10 s, most of them short.
    fn restart_delay(&mut self) -> u64 {
        match self.rand.below(4) {
            0 => self.rand.below(50_000),
            1 => self.rand.below(SECOND),
            2 => self.rand.below(3 * SECOND),
            _ => self.rand.below(10 * SECOND),
        }
    }

    fn several(&mut self) -> usize {
        let nodes = self.plan.topology.nodes().len();
        if self.rand.chance(0.5) {
            nodes
        } else {
            2 + self.rand.index(nodes - 1)
        }
    }

    fn some_up(&mut self, count: usize) -> Vec<NodeId> {
        let mut up = self.cluster.running();
        if let Some(victim) = self.plan.memory_victim {
            up.retain(|node| *node == victim);
        }
        self.rand.shuffle(&mut up);
        up.truncate(count);
        up
    }

    /// Ends a process while much that was acknowledged is only in its memory (C7).
    async fn forget(&mut self, kind: Fault) {
        for node in self.some_up(1) {
            let latency = self.rand.between(50_000, 400_000);
            self.cluster.burden_disk(node, latency);
            self.pace.set_hurry(true);
            self.time.sleep_ms(self.rand.between(200, 900)).await;
            let crash = if kind == Fault::Kill {
                Crash::Kill
            } else {
                Crash::Power
            };
            self.cluster.crash(node, crash);
            self.pace.set_hurry(false);
            self.trace.count(kind.counter());
            self.note(kind, format!("{node}, with memory to forget"));
            let delay = self.rand.below(SECOND);
            self.cluster.start_after(node, delay);
        }
    }

    /// Takes a disk away and puts an empty one, or an old copy of it, in its place: only while
    /// every other node holds all that it acknowledged.
    async fn replace_disk(&mut self, kind: Fault) {
        if self.cluster.not_whole().await.is_some() {
            return;
        }
        let Some(node) = self.some_up(1).first().copied() else {
            return;
        };
        let mut other = (SimDisk::new(0), SimEngine::new(0));
        if kind == Fault::DiskOld {
            self.cluster.crash(node, Crash::Kill);
            other = self.cluster.copy_disk(node);
            self.cluster.start(node);
            let longest = if self.plan.purges { 30 } else { 5 };
            let later = self.rand.between(SECOND / 2, longest * SECOND);
            self.time.sleep_until(self.time.now_us() + later).await;
            if self.cluster.not_whole().await.is_some() {
                return;
            }
        }
        self.cluster.crash(node, Crash::Power);
        self.cluster.replace_disk(node, &other);
        self.trace.count(kind.counter());
        self.note(kind, format!("{node}"));
        let delay = self.rand.below(3 * SECOND);
        self.cluster.start_after(node, delay);
    }

    /// One node stays away for so long that the others could purge without it.
    fn stay_away(&mut self, kind: Fault) {
        for node in self.some_up(1) {
            self.cluster.crash(node, Crash::Kill);
            let delay = self.rand.between(20 * SECOND, 35 * SECOND);
            self.cluster.start_after(node, delay);
            self.trace.count(kind.counter());
            self.note(kind, format!("{node} for {} s", delay / SECOND));
        }
    }

    /// All nodes but one end, and come back when that one holds something in place of owners and
    /// ends too: what they purge without it must not be what it holds (P10). No other fault comes
    /// meanwhile.
    async fn holder_away(&mut self, kind: Fault) {
        let Some(holder) = self.some_up(1).first().copied() else {
            return;
        };
        let mut others = self.cluster.running();
        others.retain(|node| *node != holder);
        for node in &others {
            self.cluster.crash(*node, Crash::Kill);
        }
        let mut held = 0;
        for _ in 0..HELD_WITHIN_S {
            self.time.sleep_ms(1000).await;
            held = self.cluster.guests_of(holder).await;
            if held > 0 {
                break;
            }
        }
        if held > 0 {
            self.cluster.crash(holder, Crash::Kill);
        }
        for node in &others {
            self.cluster.start(*node);
        }
        if held == 0 {
            return;
        }
        self.trace.count(kind.counter());
        let span = self.rand.between(25 * SECOND, 35 * SECOND);
        let text = format!("{holder} with {held} guests for {} s", span / SECOND);
        self.note(kind, text);
        self.time.sleep_until(self.time.now_us() + span).await;
        self.cluster.start(holder);
    }

    fn note(&self, kind: Fault, text: String) {
        self.trace.line(kind.counter(), &[], text);
    }

    fn crash_some(&mut self, kind: Fault, crash: Crash, count: usize) {
        let nodes = self.some_up(count);
        if nodes.is_empty() || (count > 1 && nodes.len() < 2) {
            return;
        }
        let together = self.restart_delay();
        for node in &nodes {
            self.cluster.crash(*node, crash);
            let delay = if self.rand.chance(0.5) {
                together
            } else {
                self.restart_delay()
            };
            self.cluster.start_after(*node, delay);
        }
        self.trace.count(kind.counter());
        self.note(kind, format!("{nodes:?}"));
    }

    /// Ends processes, starts them, and takes the power away soon after.
    async fn twice(&mut self, kind: Fault, clean: bool) {
        let count = if self.rand.chance(0.4) {
            self.several()
        } else {
            1
        };
        let nodes = self.some_up(count);
        for node in &nodes {
            if clean {
                self.cluster.stop(*node).await;
            } else {
                self.cluster.crash(*node, Crash::Kill);
            }
            let delay = self.rand.below(100_000);
            self.cluster.start_after(*node, delay);
        }
        let lives = self.rand.between(10_000, SECOND * 3 / 2);
        self.time.sleep_until(self.time.now_us() + lives).await;
        let mut hit = false;
        for node in &nodes {
            if self.cluster.is_running(*node) {
                hit = true;
                self.cluster.crash(*node, Crash::Power);
                let delay = self.restart_delay();
                self.cluster.start_after(*node, delay);
            }
        }
        if hit {
            self.trace.count(kind.counter());
            self.note(kind, format!("{nodes:?} after {} ms", lives / 1000));
        }
    }

    /// Takes the power away under a busy, slow disk, and again soon after each restart: what one
    /// life left unsynced lies behind what the next one wrote (L2). Compares what the nodes hold
    /// before and after (I4).
    async fn power_again(&mut self, kind: Fault) {
        let all = self.rand_again.chance(0.3);
        let mut nodes = self.cluster.running();
        self.rand_again.shuffle(&mut nodes);
        nodes.truncate(if all { usize::MAX } else { 1 });
        self.pace.set_hurry(true);
        for life in 0..self.rand_again.between(2, 4) {
            if life == 0 {
                let latency = self.rand_again.between(100_000, 400_000);
                for node in &nodes {
                    self.cluster.burden_disk(*node, latency);
                }
                self.time.sleep_ms(self.rand_again.between(400, 900)).await;
            } else {
                self.until_running(&nodes).await;
                self.look_at(&nodes).await;
                let lives = self.rand_again.exponential(80_000).max(5_000);
                let until = self.time.now_us() + lives;
                self.time.sleep_until(until).await;
            }
            self.look_at(&nodes).await;
            for node in &nodes {
                if life > 0 && self.cluster.is_running(*node) {
                    self.trace.count(kind.counter());
                }
                self.cluster.crash(*node, Crash::Power);
                let delay = self.rand_again.between(1_000, 50_000);
                self.cluster.start_after(*node, delay);
            }
            self.note(kind, format!("{nodes:?}, life {life}"));
        }
        self.pace.set_hurry(false);
        self.until_running(&nodes).await;
        self.look_at(&nodes).await;
    }

    async fn until_running(&self, nodes: &[NodeId]) {
        for _ in 0..3000 {
            if nodes.iter().all(|node| self.cluster.is_running(*node)) {
                return;
            }
            self.time.sleep_ms(1).await;
        }
    }

    async fn look_at(&self, nodes: &[NodeId]) {
        for node in nodes {
            self.cluster.look_at(*node).await;
        }
    }

    async fn stop(&mut self, kind: Fault) {
        let count = if self.rand.chance(0.2) {
            self.several()
        } else {
            1
        };
        for node in self.some_up(count) {
            self.note(kind, format!("{node}"));
            self.trace.count(kind.counter());
            self.cluster.stop(node).await;
            let delay = self.restart_delay();
            self.cluster.start_after(node, delay);
        }
    }

    fn pause(&mut self, kind: Fault) {
        for node in self.some_up(1) {
            let longest = if self.rand.chance(0.3) { 10 } else { 2 };
            let span = self.rand.between(SECOND / 5, longest * SECOND);
            self.note(kind, format!("{node} for {} ms", span / 1000));
            self.cluster.pause(node, span);
        }
    }

    fn directions(&mut self, kind: Fault) -> Vec<(NodeId, NodeId)> {
        let mut nodes: Vec<NodeId> = self.plan.topology.nodes().iter().map(|n| n.id).collect();
        self.rand.shuffle(&mut nodes);
        let half = 1 + self.rand.index(nodes.len() - 1);
        let all = nodes.len();
        let both = |cut: &dyn Fn(usize, usize) -> bool| {
            let pairs = (0..all).flat_map(|a| (0..all).map(move |b| (a, b)));
            let cut_pairs = pairs.filter(|(a, b)| a != b && (cut(*a, *b) || cut(*b, *a)));
            cut_pairs
                .map(|(a, b)| (nodes[a], nodes[b]))
                .collect::<Vec<_>>()
        };
        match kind {
            Fault::Isolate => both(&|a, _| a == 0),
            // Node 0 sees both halves.
            Fault::Bridge => both(&|a, b| a > 0 && b > 0 && a <= half && b > half),
            Fault::Ring => both(&|a, b| {
                let distance = (b + all - a) % all;
                distance > 1 && distance < all - 1
            }),
            Fault::OneWay => vec![(nodes[0], nodes[1])],
            _ => both(&|a, b| a < half && b >= half),
        }
    }

    fn cut_for(&mut self, kind: Fault, directions: Vec<(NodeId, NodeId)>, span: u64) {
        if directions.is_empty() {
            // A ring of three is whole; count the plan as carried out by cutting one pair.
            let first = self.directions(Fault::Isolate);
            return self.cut_for(kind, first, span);
        }
        let before = self.trace.counted("fault.cut-frames");
        let named: BTreeSet<String> = directions.iter().map(|(a, b)| format!("{a}>{b}")).collect();
        self.note(kind, format!("{named:?} for {} ms", span / 1000));
        for (from, to) in &directions {
            self.cluster.net().cut(*from, *to);
        }
        let (net, trace) = (self.cluster.net().clone(), self.trace.clone());
        self.time.after(span, move || {
            if trace.counted("fault.cut-frames") > before {
                trace.count(kind.counter());
            }
            for (from, to) in directions {
                net.heal(from, to);
            }
        });
    }

    fn flap(&mut self, kind: Fault) {
        let directions = self.directions(Fault::Cut);
        let mut at = 0;
        for _ in 0..self.rand.between(2, 6) {
            let span = self.rand.between(50_000, SECOND);
            let (net, trace, directions) = (
                self.cluster.net().clone(),
                self.trace.clone(),
                directions.clone(),
            );
            let time = self.time.clone();
            self.time.after(at, move || {
                let before = trace.counted("fault.cut-frames");
                for (from, to) in &directions {
                    net.cut(*from, *to);
                }
                let healer = net.clone();
                time.after(span, move || {
                    if trace.counted("fault.cut-frames") > before {
                        trace.count(kind.counter());
                    }
                    for (from, to) in directions {
                        healer.heal(from, to);
                    }
                });
            });
            at += span + self.rand.between(50_000, SECOND);
        }
        self.note(kind, format!("{} directions", directions.len()));
    }

    fn slow(&mut self, kind: Fault) {
        let span = self.span();
        let until = self.time.now_us() + span;
        for (from, to) in self.directions(Fault::Isolate) {
            if kind == Fault::Clog {
                let delay = self.rand.between(10_000, 5 * SECOND);
                self.cluster.net().clog(from, to, delay, until);
            } else {
                let rate = self.rand.between(2_000, 100_000);
                self.cluster.net().cap(from, to, rate, until);
            }
        }
        self.note(kind, format!("for {} ms", span / 1000));
    }

    fn reset(&mut self, kind: Fault) {
        let nodes: Vec<NodeId> = self.plan.topology.nodes().iter().map(|n| n.id).collect();
        let all = self.rand.chance(0.3);
        let only = self.rand.pick(&nodes).copied();
        let mut hit = false;
        for a in &nodes {
            for b in nodes.iter().filter(|b| *b > a) {
                if all || Some(*a) == only || Some(*b) == only {
                    hit |= self.cluster.net().reset(*a, *b);
                }
            }
        }
        if hit && kind == Fault::LinkReset {
            self.trace.count(kind.counter());
        }
        self.note(
            kind,
            format!("{} links", if all { "all" } else { "one node's" }),
        );
    }

    fn cut_client(&mut self) {
        let client = self.rand.index(self.plan.clients);
        let nodes: Vec<NodeId> = self.plan.topology.nodes().iter().map(|n| n.id).collect();
        let span = self.span();
        for node in nodes {
            if self.rand.chance(0.6) {
                let net = self.cluster.client_net().clone();
                net.set_cut(client, node, true);
                self.time
                    .after(span, move || net.set_cut(client, node, false));
            }
        }
    }

    fn disk(&mut self, kind: Fault) {
        let span = self.span();
        for node in self.some_up(1) {
            if kind != Fault::DiskStall {
                self.note(kind, format!("{node} for {} ms", span / 1000));
            }
            match kind {
                Fault::DiskSlow => {
                    let latency = self.rand.between(5_000, 100_000);
                    self.cluster.slow_disk(node, latency, span);
                }
                Fault::DiskStall => {
                    let stall = self.rand.between(SECOND / 10, 10 * SECOND);
                    self.note(kind, format!("{node} for {} ms", stall / 1000));
                    self.cluster.stall_disk(node, stall);
                }
                Fault::SyncError | Fault::WriteError => self.cluster.break_disk(node, kind),
                _ => self.cluster.fill_disk(node, span),
            }
        }
    }

    /// The log cannot be read at the next start, or a record while the node runs.
    fn read_error(&mut self) {
        let kind = Fault::ReadError;
        let at_start = self.rand_again.chance(0.5);
        for node in self.some_up(1) {
            self.note(kind, format!("{node}, at its start: {at_start}"));
            if at_start {
                self.cluster.crash(node, Crash::Kill);
                let delay = self.rand_again.below(SECOND);
                self.cluster.start_after(node, delay);
            }
            self.cluster.break_disk(node, kind);
        }
    }

    fn jump(&mut self, kind: Fault) {
        let nodes: Vec<NodeId> = self.plan.topology.nodes().iter().map(|n| n.id).collect();
        let node = self.rand.pick(&nodes).copied();
        if let Some(node) = &self.plan.bad_clock.or(node) {
            let hour = 3_600 * i64::try_from(SECOND).unwrap_or(0);
            let far = i64::try_from(self.rand.below(7200)).unwrap_or(0) * 1_000_000 - hour;
            self.cluster.jump_clock(*node, far);
            self.trace.count(kind.counter());
            self.note(kind, format!("{node} by {} s", far / 1_000_000));
        }
    }
}
