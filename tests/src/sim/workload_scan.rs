//! Scans over what the other workloads write.
//!
//! A scan shows each record as a get at its level would show it at some time while its page is made.
//! So every key of which a page tells, by showing it or by showing one behind it, is noted as a get
//! that was asked when the page was and ended when it came: the checkers of gets judge scans too, and
//! a key that was passed over reads as *not found*. That keys come once and in order is checked here.

use std::time::Duration;

use bytes::Bytes;
use quorate_client::{ScanPage, ScanPosition};

use super::plan::Workload;
use super::workload::{Call, SimClient, Target};
use crate::check::{Action, OpIndex, Outcome, Returned};

/// Keys that a scan covers at most.
const KEYS_MAX: usize = 24;
/// Failures after which a scan is given up.
const FAILURES_MAX: u32 = 4;
/// Error of gets of which the page did not tell.
pub(super) const NOT_COVERED: &str = "NOT_COVERED";

/// A get that a page may decide.
struct Asked {
    key: String,
    op: OpIndex,
}

impl SimClient {
    /// Scans a range of known keys page by page, now and then as another process would go on.
    pub(super) async fn scan_some(&mut self) {
        let keyspace = self.rand.index(self.plan.sibling_keyspaces);
        let known = self.known_keys(keyspace);
        if known.is_empty() {
            return;
        }
        let first = self.rand.index(known.len());
        let count = 1 + self.rand.index(KEYS_MAX);
        let mut targets: Vec<Target> = known.iter().skip(first).take(count).cloned().collect();
        let end = known.get(first + count).map(|target| target.key.clone());
        let Some(start) = targets.first().map(|target| target.key.clone()) else {
            return;
        };
        let call = self.call(&targets[0], false);
        let page_records = 1 + self.rand.index(6);
        let mut position: Option<ScanPosition> = None;
        let (mut failures, mut last) = (0, None);
        loop {
            let keyspace = self.keyspace_of(&targets[0]);
            let mut scan = keyspace.scan().start_at(start.clone()).level(call.level);
            if let Some(end) = &end {
                scan = scan.end_before(end.clone());
            }
            scan = scan.page_records(page_records).deadline(call.deadline);
            if let Some(position) = &position {
                // As text, like a client that was killed and comes back.
                let text = position.to_string();
                scan = scan.resume(text.parse().expect("the text of a position"));
                self.recorder.trace.count("state.scan resumed");
            }
            let asked = self.ask_all(&targets, last.as_deref(), &call);
            match scan.pages().next_page().await {
                Ok(Some(page)) => {
                    self.note_page(asked, &page, last.as_deref());
                    self.recorder.trace.count("state.page of a scan");
                    if let Some(record) = page.records.last() {
                        last = Some(String::from_utf8_lossy(&record.key).into_owned());
                    }
                    position = page.next;
                    if position.is_none() {
                        return;
                    }
                }
                Ok(None) => return self.end_uncovered(asked),
                Err(_) => {
                    self.end_uncovered(asked);
                    failures += 1;
                    if failures >= FAILURES_MAX {
                        return;
                    }
                }
            }
            targets.retain(|target| last.as_ref().is_none_or(|last| target.key > *last));
            if targets.is_empty() {
                return;
            }
            let pause = self.rand.exponential(5_000);
            tokio::time::sleep(Duration::from_micros(pause)).await;
        }
    }

    /// Keys of a keyspace that were used so far and whose gets are judged, in key order.
    fn known_keys(&self, keyspace: usize) -> Vec<Target> {
        let ledger = self.recorder.lock();
        let targets = ledger.targets().iter();
        let judged = |workload| !matches!(workload, Workload::WrongMode | Workload::Lww);
        let known = targets.filter(|t| t.keyspace == keyspace && judged(t.workload));
        let mut known: Vec<Target> = known.cloned().collect();
        known.sort_by(|one, other| one.key.cmp(&other.key));
        known
    }

    fn ask_all(&self, targets: &[Target], last: Option<&str>, call: &Call) -> Vec<Asked> {
        let open = targets
            .iter()
            .filter(|target| last.is_none_or(|last| &*target.key > last));
        let asked = open.map(|target| {
            let invoked = self
                .recorder
                .invoke(self.number, target, Action::Get, None, call);
            Asked {
                key: target.key.clone(),
                op: invoked.0,
            }
        });
        asked.collect()
    }

    /// Ends the gets that the page decides: keys that it shows, and those that it passed over.
    fn note_page(&self, asked: Vec<Asked>, page: &ScanPage, last: Option<&str>) {
        let key_of = |key: &Bytes| String::from_utf8_lossy(key).into_owned();
        let shown: Vec<String> = page.records.iter().map(|r| key_of(&r.key)).collect();
        let in_order = shown.windows(2).all(|pair| pair[0] < pair[1]);
        let goes_on = last.is_none_or(|last| shown.first().is_none_or(|key| &**key > last));
        let until = page.next.as_ref().map(|_| shown.last().cloned());
        for Asked { key, op } in asked {
            let covered = match &until {
                None => true,
                Some(until) => until.as_ref().is_some_and(|until| key <= *until),
            };
            if !covered {
                self.end_as(op, Outcome::Fail, Returned::default(), NOT_COVERED);
                continue;
            }
            let record = page.records.iter().find(|r| key_of(&r.key) == key);
            let values = record.map_or(&[][..], |record| &record.values);
            let mut returned = self.recorder.lock().recognise(values);
            if !in_order || !goes_on {
                let text = format!("a page out of order behind {last:?}: {shown:?}");
                returned.altered.push(text);
            }
            self.end_as(op, Outcome::Ok, returned, "");
        }
    }

    fn end_uncovered(&self, asked: Vec<Asked>) {
        for Asked { op, .. } in asked {
            self.end_as(op, Outcome::Fail, Returned::default(), NOT_COVERED);
        }
    }

    fn end_as(&self, op: OpIndex, outcome: Outcome, returned: Returned, error: &str) {
        self.recorder
            .end(op, outcome, returned, error.to_owned(), 1);
    }
}
