//! Hints: which nodes missed which writes, and in what order and at what pace they get them.
//!
//! A hint names a key. What travels is the record as this node holds it durably when the hint is
//! delivered: merges are idempotent, so ten writes that a node missed are one record. A hint ends
//! when its target has acknowledged a record that is at least as new as the hint.
//!
//! Hints spare time and bytes, and promise nothing: what they do not bring an exchange brings. So
//! they degrade instead of failing a write: over the bound, and after their age, keys are let go,
//! and the pair's next exchange finds them by their buckets.
//!
//! Not here: what a hint's record is and how it travels (`shard::hints`), how hints outlive the
//! process (`shell::store::hint_log`).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use quorate_ring::{Lsn, MonoTime, NodeId};

use super::key::RecordKey;

/// What a hint costs in memory beside its key, in bytes: it stands in the map, in the order, and in
/// the store's set of those that are on disk.
const HINT_OVERHEAD_BYTES: usize = 256;

/// Records of one target under way at first, and at most.
const WINDOW_FIRST: usize = 4;
const WINDOW_MAX: usize = 64;

/// An acknowledgement that took longer than so many times the fastest one halves the window.
const SLOW: u32 = 4;

/// The fastest acknowledgement counts as no faster than this.
const FASTEST_MIN: Duration = Duration::from_millis(1);

/// After a refusal or a lost record the target is left alone for this long.
const REST: Duration = Duration::from_millis(200);

/// Bounds of what is kept for one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HintLimits {
    /// Bytes of keys with their overhead; 0 = no hints are kept.
    pub bytes_max: usize,
    /// Hints older than this are let go.
    pub age_max: Duration,
}

impl Default for HintLimits {
    fn default() -> Self {
        Self {
            bytes_max: 64 << 20,
            age_max: Duration::from_secs(3 * 3600),
        }
    }
}

/// A change of what is hinted, to be kept on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HintChange {
    /// The target missed a write of the key.
    Missed(NodeId, RecordKey),
    /// It has it, or the hint was let go.
    Ended(NodeId, RecordKey),
}

/// Hints for one node.
#[derive(Debug)]
struct Target {
    /// By key: the number of the hint, which a newer write of the key raises, and its age.
    keys: BTreeMap<RecordKey, Hint>,
    /// In the order in which they are delivered. An entry whose number is not its hint's is stale.
    order: VecDeque<(u64, RecordKey)>,
    bytes: usize,
    under_way: usize,
    window: usize,
    fastest: Option<Duration>,
    rests_until: MonoTime,
    /// Keys that were let go because of a bound.
    let_go: u64,
}

#[derive(Debug, Clone, Copy)]
struct Hint {
    number: u64,
    since: MonoTime,
    /// What the target missed has a number up to this: before that is durable here, what readers
    /// are shown may be older.
    missed: Lsn,
}

/// How hints for a node stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetStatus {
    /// For whom.
    pub target: NodeId,
    /// Keys that wait.
    pub keys: u64,
    /// What they cost in memory.
    pub bytes: u64,
    /// How long the oldest has waited, in milliseconds.
    pub oldest_ms: u64,
    /// Keys that were let go since the start because of a bound; an exchange finds them.
    pub let_go: u64,
}

/// A hint on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// To whom.
    pub target: NodeId,
    /// Which key.
    pub key: RecordKey,
    /// Which hint of it.
    number: u64,
}

/// All hints of a node.
#[derive(Debug)]
pub struct Hints {
    limits: HintLimits,
    targets: BTreeMap<NodeId, Target>,
    numbers: u64,
    /// Kept on disk, and over a bound now.
    refused: Vec<HintChange>,
}

impl Hints {
    /// With what the store kept. Ages begin anew.
    #[must_use]
    pub fn new(
        now: MonoTime,
        limits: HintLimits,
        kept: impl IntoIterator<Item = (NodeId, RecordKey)>,
    ) -> Self {
        let mut hints = Self {
            limits,
            targets: BTreeMap::new(),
            numbers: 0,
            refused: Vec::new(),
        };
        for (target, key) in kept {
            if !hints.missed(now, target, &key, Lsn::ZERO) {
                hints.refused.push(HintChange::Ended(target, key));
            }
        }
        hints
    }

    /// A node missed a write, which has a number up to `missed` here. True if the hint is new and
    /// is kept.
    pub fn missed(&mut self, now: MonoTime, node: NodeId, key: &RecordKey, missed: Lsn) -> bool {
        if self.limits.bytes_max == 0 {
            return false;
        }
        self.numbers += 1;
        let number = self.numbers;
        let target = self.targets.entry(node).or_insert_with(Target::new);
        if let Some(hint) = target.keys.get_mut(key) {
            // What is under way may be older than this write.
            (hint.number, hint.missed) = (number, missed);
            target.order.push_back((number, key.clone()));
            target.compact();
            return false;
        }
        let bytes = HINT_OVERHEAD_BYTES + key.as_bytes().len();
        if target.bytes + bytes > self.limits.bytes_max {
            target.let_go += 1;
            return false;
        }
        target.bytes += bytes;
        let hint = Hint {
            number,
            since: now,
            missed,
        };
        target.keys.insert(key.clone(), hint);
        target.order.push_back((number, key.clone()));
        true
    }

    /// What may be sent to `node` now, which is up; `durable` is what is durable here.
    pub fn next(&mut self, now: MonoTime, node: NodeId, durable: Lsn) -> Option<Delivery> {
        let target = self.targets.get_mut(&node)?;
        if now < target.rests_until || target.under_way >= target.window {
            return None;
        }
        while let Some((number, key)) = target.order.pop_front() {
            let hint = target.keys.get(&key);
            let Some(hint) = hint.filter(|hint| hint.number == number) else {
                continue;
            };
            if hint.missed > durable {
                target.order.push_front((number, key));
                return None;
            }
            target.under_way += 1;
            return Some(Delivery {
                target: node,
                key,
                number,
            });
        }
        None
    }

    /// The target has the record durably. True if the hint has ended.
    pub fn delivered(&mut self, delivery: &Delivery, took: Duration) -> bool {
        let Some(target) = self.targets.get_mut(&delivery.target) else {
            return false;
        };
        target.under_way = target.under_way.saturating_sub(1);
        target.measure(took);
        self.end(delivery)
    }

    /// What was sent did not arrive, or was refused: it is sent again after a rest, when the others
    /// had their turn.
    pub fn failed(&mut self, now: MonoTime, delivery: Delivery) {
        let Some(target) = self.targets.get_mut(&delivery.target) else {
            return;
        };
        target.under_way = target.under_way.saturating_sub(1);
        target.window = (target.window / 2).max(1);
        target.rests_until = now + REST;
        let Delivery { key, number, .. } = delivery;
        if target
            .keys
            .get(&key)
            .is_some_and(|hint| hint.number == number)
        {
            // Behind the others: one that is always refused must not keep them waiting.
            target.order.push_back((number, key));
        }
    }

    /// There is nothing to deliver: this node does not hold the key. True if the hint has ended.
    pub fn nothing_to_deliver(&mut self, delivery: &Delivery) -> bool {
        if let Some(target) = self.targets.get_mut(&delivery.target) {
            target.under_way = target.under_way.saturating_sub(1);
        }
        self.end(delivery)
    }

    /// What waits of a key for a node, or is on its way to it, is wanted no more.
    pub fn no_more(&mut self, node: NodeId, key: &RecordKey) {
        if let Some(target) = self.targets.get_mut(&node) {
            target.remove(key);
        }
    }

    fn end(
        &mut self,
        Delivery {
            target,
            key,
            number,
        }: &Delivery,
    ) -> bool {
        let Some(target) = self.targets.get_mut(target) else {
            return false;
        };
        let is_this = target
            .keys
            .get(key)
            .is_some_and(|hint| hint.number == *number);
        if is_this {
            target.remove(key);
        }
        is_this
    }

    /// Lets go what has waited too long, or found no room; gives what ended.
    pub fn expire(&mut self, now: MonoTime) -> Vec<HintChange> {
        let mut ended = std::mem::take(&mut self.refused);
        for (node, target) in &mut self.targets {
            let age_max = self.limits.age_max;
            let is_old = |hint: &Hint| now.since(hint.since) > age_max;
            let old: Vec<RecordKey> = target
                .keys
                .iter()
                .filter(|(_, hint)| is_old(hint))
                .map(|(key, _)| key.clone())
                .collect();
            for key in old {
                target.remove(&key);
                target.let_go += 1;
                ended.push(HintChange::Ended(*node, key));
            }
        }
        ended
    }

    /// Whether a node has missed something that waits for it.
    #[must_use]
    pub fn wait_for(&self, node: NodeId) -> bool {
        self.targets
            .get(&node)
            .is_some_and(|target| !target.keys.is_empty())
    }

    /// Nodes for which something waits.
    pub fn targets(&self) -> impl Iterator<Item = NodeId> + '_ {
        let waiting = self
            .targets
            .iter()
            .filter(|(_, target)| !target.keys.is_empty());
        waiting.map(|(node, _)| *node)
    }

    /// How hints stand, by target; targets that have everything and lost nothing are left out.
    #[must_use]
    pub fn status(&self, now: MonoTime) -> Vec<TargetStatus> {
        let told = self.targets.iter().filter_map(|(node, target)| {
            let oldest = target.keys.values().map(|hint| now.since(hint.since)).max();
            let is_told = oldest.is_some() || target.let_go > 0;
            let oldest_ms = oldest.unwrap_or_default().as_millis();
            is_told.then(|| TargetStatus {
                target: *node,
                keys: target.keys.len() as u64,
                bytes: target.bytes as u64,
                oldest_ms: u64::try_from(oldest_ms).unwrap_or(u64::MAX),
                let_go: target.let_go,
            })
        });
        told.collect()
    }
}

impl Target {
    const fn new() -> Self {
        Self {
            keys: BTreeMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            under_way: 0,
            window: WINDOW_FIRST,
            fastest: None,
            rests_until: MonoTime::ZERO,
            let_go: 0,
        }
    }

    fn remove(&mut self, key: &RecordKey) {
        if self.keys.remove(key).is_some() {
            self.bytes -= HINT_OVERHEAD_BYTES + key.as_bytes().len();
        }
    }

    /// Drops stale entries of the order once they are half of it.
    fn compact(&mut self) {
        if self.order.len() > 2 * self.keys.len() + WINDOW_MAX {
            let keys = &self.keys;
            self.order
                .retain(|(number, key)| keys.get(key).is_some_and(|hint| hint.number == *number));
        }
    }

    /// More at once while answers come as fast as the fastest; fewer when they do not.
    fn measure(&mut self, took: Duration) {
        let fastest = self.fastest.map_or(took, |fastest| fastest.min(took));
        self.fastest = Some(fastest);
        self.window = if took > fastest.max(FASTEST_MIN) * SLOW {
            (self.window / 2).max(1)
        } else {
            (self.window + 1).min(WINDOW_MAX)
        };
    }
}

#[cfg(test)]
mod tests {
    use quorate_ring::{KeyspaceId, VnodeId};

    use super::*;

    const B: NodeId = NodeId(2);

    fn key(number: u16) -> RecordKey {
        RecordKey::new(KeyspaceId(1), VnodeId(0), &number.to_be_bytes())
    }

    fn at(millis: u64) -> MonoTime {
        MonoTime::from_micros(millis * 1_000)
    }

    fn hints() -> Hints {
        Hints::new(at(0), HintLimits::default(), [])
    }

    #[test]
    fn a_key_is_hinted_once_and_a_write_during_its_delivery_is_delivered_too() {
        let mut hints = hints();
        assert!(hints.missed(at(0), B, &key(1), Lsn::ZERO));
        assert!(
            !hints.missed(at(1), B, &key(1), Lsn::ZERO),
            "it is on disk already"
        );
        let first = hints.next(at(2), B, Lsn::ZERO).expect("it waits");
        assert_eq!(hints.next(at(2), B, Lsn::ZERO), None, "once");
        hints.missed(at(3), B, &key(1), Lsn::ZERO);
        assert!(!hints.delivered(&first, Duration::from_millis(1)));
        let second = hints.next(at(4), B, Lsn::ZERO).expect("the newer write");
        assert!(hints.delivered(&second, Duration::from_millis(1)));
        assert!(!hints.wait_for(B));
    }

    #[test]
    fn what_fails_is_sent_again_after_a_rest_and_slower() {
        let mut hints = hints();
        for number in 0..100 {
            hints.missed(at(0), B, &key(number), Lsn::ZERO);
        }
        let mut under_way = Vec::new();
        while let Some(delivery) = hints.next(at(1), B, Lsn::ZERO) {
            under_way.push(delivery);
        }
        assert_eq!(under_way.len(), WINDOW_FIRST);
        for delivery in under_way {
            hints.failed(at(2), delivery);
        }
        assert_eq!(hints.next(at(3), B, Lsn::ZERO), None, "the target rests");
        assert!(hints.next(at(300), B, Lsn::ZERO).is_some());
        assert_eq!(hints.next(at(300), B, Lsn::ZERO), None, "one at a time");
        assert_eq!(hints.status(at(500))[0].keys, 100);
    }

    #[test]
    fn what_is_always_refused_keeps_nobody_waiting() {
        let mut hints = hints();
        for number in 0..3 {
            hints.missed(at(0), B, &key(number), Lsn::ZERO);
        }
        let mut now = at(1);
        for _ in 0..20 {
            while let Some(delivery) = hints.next(now, B, Lsn::ZERO) {
                if delivery.key == key(0) {
                    hints.failed(now, delivery);
                } else {
                    hints.delivered(&delivery, Duration::from_millis(1));
                }
            }
            now = now + REST;
        }
        assert_eq!(hints.status(now)[0].keys, 1, "the others came through");
    }

    #[test]
    fn the_pace_follows_the_target() {
        let mut hints = hints();
        for number in 0..1_000 {
            hints.missed(at(0), B, &key(number), Lsn::ZERO);
        }
        for _ in 0..200 {
            let delivery = hints.next(at(1), B, Lsn::ZERO).expect("it waits");
            hints.delivered(&delivery, Duration::from_millis(2));
        }
        let window = |hints: &Hints| hints.targets[&B].window;
        assert_eq!(window(&hints), WINDOW_MAX);
        for _ in 0..6 {
            let delivery = hints.next(at(1), B, Lsn::ZERO).expect("it waits");
            hints.delivered(&delivery, Duration::from_millis(50));
        }
        assert_eq!(window(&hints), 1);
    }

    #[test]
    fn over_its_bounds_a_hint_is_let_go() {
        let limits = HintLimits {
            bytes_max: 3 * (HINT_OVERHEAD_BYTES + 8),
            age_max: Duration::from_secs(1),
        };
        let mut hints = Hints::new(at(0), limits, []);
        let kept = (0..5).filter(|number| hints.missed(at(0), B, &key(*number), Lsn::ZERO));
        assert_eq!(kept.count(), 3);
        assert_eq!(hints.status(at(0))[0].let_go, 2);
        assert_eq!(hints.expire(at(900)), []);
        assert_eq!(hints.expire(at(1_100)).len(), 3);
        assert!(!hints.wait_for(B));
        let off = HintLimits {
            bytes_max: 0,
            ..limits
        };
        assert!(!Hints::new(at(0), off, []).missed(at(0), B, &key(1), Lsn::ZERO));
    }
}
