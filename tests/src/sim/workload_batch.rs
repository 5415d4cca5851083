//! Multi-gets and multi-puts of what the other workloads use.
//!
//! Each item is noted as the operation that it stands for, asked when the batch was and ended when
//! its results came, and judged like any other: that an item's outcome is its own, whatever became
//! of the others, is what the checkers see. Writes keep to the rules of their workload.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_client::{Context, GetError, Read, WriteItem};

use super::plan::Workload;
use super::workload::{Call, SimClient, Target};
use crate::check::{Action, OpIndex};

/// Most items of a batch.
const ITEMS_MAX: usize = 12;

/// One write of a batch.
struct Item {
    target: Target,
    action: Action,
    context: Option<(OpIndex, Context)>,
    ttl_us: Option<u64>,
}

impl SimClient {
    /// Reads or writes several keys of one keyspace at once.
    pub(super) async fn batch_some(&mut self) {
        let keyspace = self.rand.index(self.plan.topology.keyspaces().len());
        match self.rand.below(10) {
            0..=3 => {
                let targets = self.some_known(keyspace);
                self.get_many(&targets).await;
            }
            4..=5 if self.plan.workloads.contains(&Workload::Sets) => self.set_many().await,
            _ => {
                let items = self.draw_items(keyspace);
                self.put_many(items).await;
            }
        }
    }

    fn some_known(&mut self, keyspace: usize) -> Vec<Target> {
        let mut known = self.known_keys(keyspace);
        self.rand.shuffle(&mut known);
        known.truncate(1 + self.rand.index(ITEMS_MAX));
        known
    }

    /// Reads sets, then writes each with what it held.
    async fn set_many(&mut self) {
        let keyspace = self.rand.index(self.plan.sibling_keyspaces);
        let mut targets = self.some_known(keyspace);
        targets.retain(|target| target.workload == Workload::Sets);
        let reads = self.get_many(&targets).await;
        let mut items = Vec::new();
        for (target, (read, context, values)) in reads {
            items.push(Item {
                action: Action::Put {
                    elements: self.elements_with(&values),
                },
                target,
                context: Some((read, context)),
                ttl_us: None,
            });
        }
        self.put_many(items).await;
    }

    /// Writes that the run's workloads could make one by one, each key once.
    fn draw_items(&mut self, keyspace: usize) -> Vec<Item> {
        let mut items: BTreeMap<String, Item> = BTreeMap::new();
        for _ in 0..=self.rand.index(ITEMS_MAX) {
            let workloads = &self.plan.workloads;
            let workload = self.rand.pick(workloads).copied();
            if let Some(item) = workload.and_then(|workload| self.draw_item(keyspace, workload)) {
                items.insert(item.target.key.clone(), item);
            }
        }
        items.into_values().collect()
    }

    fn draw_item(&mut self, keyspace: usize, workload: Workload) -> Option<Item> {
        let in_lww = keyspace >= self.plan.sibling_keyspaces;
        if in_lww != (workload == Workload::Lww) {
            return None;
        }
        let hot = self.rand.index(self.plan.hot_keys);
        let (key, deletes, follows) = match workload {
            Workload::UniqueKeys => {
                self.unique += 1;
                (format!("u-{}-{}", self.number, self.unique - 1), 0.0, 0.0)
            }
            Workload::Blind => (format!("blind-{hot}"), 0.0, 0.5),
            Workload::Deletes => (format!("del-{hot}"), 0.4, 0.7),
            Workload::Expiring => (format!("ttl-{hot}"), 0.0, 0.4),
            Workload::Lww => (format!("lww-{hot}"), 0.2, 0.0),
            // Sets are read first; the others rest on the order of one client's writes.
            Workload::Sets
            | Workload::Chained
            | Workload::Sessions
            | Workload::WrongMode
            | Workload::Overload => return None,
        };
        let last = self.contexts.get(&(keyspace, key.clone())).cloned();
        let context = last.filter(|_| self.rand.chance(follows));
        let action = if self.rand.chance(deletes) {
            Action::Delete
        } else {
            let elements = BTreeSet::new();
            Action::Put { elements }
        };
        let expires = workload == Workload::Expiring && self.rand.chance(0.7);
        let ttl_us = expires.then(|| 1_000 * self.rand.between(300, 4_000));
        let target = Target {
            keyspace,
            key,
            workload,
        };
        Some(Item {
            target,
            action,
            context,
            ttl_us,
        })
    }

    /// Reads all of `targets`, which are of one keyspace; tells of those that were read.
    async fn get_many(
        &mut self,
        targets: &[Target],
    ) -> Vec<(Target, (OpIndex, Context, Vec<OpIndex>))> {
        let Some(first) = targets.first() else {
            return Vec::new();
        };
        let call = self.call(first, false);
        let begin = |target| {
            let get = Action::Get;
            let invoked = self.recorder.invoke(self.number, target, get, None, &call);
            invoked.0
        };
        let ops: Vec<OpIndex> = targets.iter().map(begin).collect();
        let keyspace = self.keyspace_of(first);
        let asked = keyspace.multi_get(targets.iter().map(|target| target.key.clone()));
        let asked = asked.level(call.level).deadline(call.deadline);
        let reads: Vec<Result<Read, GetError>> = asked.await.expect("few keys, each once");
        assert_eq!(reads.len(), targets.len(), "an outcome for each");
        self.recorder.trace.count("state.multi-get");
        let mut found = Vec::new();
        for ((target, op), read) in targets.iter().zip(ops).zip(reads) {
            if let Some(read) = self.note_read(target, op, read) {
                found.push((target.clone(), read));
            }
        }
        found
    }

    /// Writes all of `items`, which are of one keyspace.
    async fn put_many(&mut self, items: Vec<Item>) {
        let Some(first) = items.first() else {
            return;
        };
        let call = self.call(&first.target, true);
        let keyspace = self.keyspace_of(&first.target);
        let mut begun = Vec::new();
        let mut asked = Vec::new();
        for item in items {
            let (op, write) = self.begin_item(&item, &call);
            begun.push((item.target, op));
            asked.push(write);
        }
        let asked = keyspace.multi_put(asked).level(call.level);
        let written = asked.deadline(call.deadline).await;
        let written = written.expect("few keys, each once");
        assert_eq!(written.len(), begun.len(), "an outcome for each");
        self.recorder.trace.count("state.multi-put");
        for ((target, op), written) in begun.into_iter().zip(written) {
            self.note_written(&target, op, written);
        }
    }

    fn begin_item(&self, item: &Item, call: &Call) -> (OpIndex, WriteItem) {
        let call = Call {
            ttl_us: item.ttl_us,
            ..call.clone()
        };
        let seen = item.context.as_ref().map(|(op, _)| *op);
        let (op, value) =
            self.recorder
                .invoke(self.number, &item.target, item.action.clone(), seen, &call);
        if item.target.workload == Workload::Lww {
            // What a batch does unless it is told otherwise.
            let mut ledger = self.recorder.lock();
            ledger.lww.entry(op).or_default().writes_again = true;
        }
        let (key, context) = (item.target.key.clone(), item.context.as_ref());
        let context = context.map(|(_, context)| context.clone());
        let write = match (value, context) {
            (Some(value), Some(context)) => WriteItem::put(key, value, context),
            (Some(value), None) => WriteItem::put_blind(key, value),
            (None, Some(context)) => WriteItem::delete(key, context),
            (None, None) => WriteItem::delete_blind(key),
        };
        let ttl = item.ttl_us.map(Duration::from_micros);
        (op, ttl.into_iter().fold(write, WriteItem::ttl))
    }
}
