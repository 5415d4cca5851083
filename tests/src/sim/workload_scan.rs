//! Scans over what the other workloads write.
//!
//! A scan shows each record as a get at its level would show it at some time while its page is
//! made. So every key of which a page tells, by showing it or by passing over it, is noted as a get
//! that was asked when the page was and ended when it came: the checkers of gets judge scans too,
//! and a key that was passed over reads as *not found*. That keys come once and in order is checked
//! here. Of lww keys a scan tells no stamps; the checker knows which gets those are.
//!
//! A page does not tell how far behind its last record it has looked. A key that lies between that
//! record and the first one of the next page was read by one of the two, and its get lasts over
//! both.

use std::time::Duration;

use quorate_client::{ScanPage, ScanPosition, ScannedRecord};

use super::plan::Workload;
use super::workload::{Call, SimClient, Target};
use crate::check::{Action, OpIndex, Outcome, Returned};

/// Keys that a scan covers at most.
const KEYS_MAX: usize = 24;
/// Failures after which a scan is given up.
const FAILURES_MAX: u32 = 4;
/// Error of gets of which the page did not tell.
pub(super) const NOT_COVERED: &str = "NOT_COVERED";

/// Recorded as the deadline of each get: it may last over several pages, which have their own.
const SCAN_TIME_MAX: Duration = Duration::from_secs(60);
/// How much later than its deadline a page may come.
const LATE_MAX: Duration = Duration::from_secs(1);

/// A key of the range of which no page has told yet.
struct Asked {
    target: Target,
    /// Asked with the first page that may have passed over it.
    first: Option<OpIndex>,
    /// Asked with the present page.
    now: Option<OpIndex>,
}

/// A scan under way, as the checkers are told of it.
struct Told {
    asked: Vec<Asked>,
    /// The last key that was shown.
    last: Option<String>,
}

impl SimClient {
    /// Scans a range of known keys page by page, now and then as another process would go on.
    pub(super) async fn scan_some(&mut self) {
        let keyspace = self.rand.index(self.plan.topology.keyspaces().len());
        let known = self.known_keys(keyspace);
        if known.is_empty() {
            return;
        }
        let first = self.rand.index(known.len());
        let count = 1 + self.rand.index(KEYS_MAX);
        let targets: Vec<Target> = known.iter().skip(first).take(count).cloned().collect();
        let end = known.get(first + count).map(|target| target.key.clone());
        let Some(start) = targets.first().map(|target| target.key.clone()) else {
            return;
        };
        let call = self.call(&targets[0], false);
        let page_records = 1 + self.rand.index(6);
        let keyspace = self.keyspace_of(&targets[0]);
        let mut told = Told::new(targets);
        let mut position: Option<ScanPosition> = None;
        let mut failures = 0;
        while !told.asked.is_empty() {
            // Scans ask owners alone and refuse sloppy levels.
            let level = call.level.strict();
            let mut scan = keyspace.scan().start_at(start.clone()).level(level);
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
            told.ask(self, &call);
            let asked_us = self.recorder.now_us();
            let page = scan.pages().next_page().await;
            let took = Duration::from_micros(self.recorder.now_us() - asked_us);
            let is_late = took > call.deadline + LATE_MAX;
            match page {
                Ok(Some(page)) => {
                    self.recorder.trace.count("state.page of a scan");
                    told.page(self, &page, is_late);
                    position = page.next;
                    if position.is_none() {
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    let text = format!("{}: {error}", error.code());
                    told.failed(self, &text);
                    failures += 1;
                    if failures >= FAILURES_MAX {
                        break;
                    }
                }
            }
            let pause = self.rand.exponential(5_000);
            tokio::time::sleep(Duration::from_micros(pause)).await;
        }
        told.over(self);
    }

    /// Keys of a keyspace that were used so far and whose gets are judged, in key order.
    pub(super) fn known_keys(&self, keyspace: usize) -> Vec<Target> {
        let ledger = self.recorder.lock();
        let targets = ledger.targets().iter();
        let judged = |workload| workload != Workload::WrongMode;
        let known = targets.filter(|t| t.keyspace == keyspace && judged(t.workload));
        let mut known: Vec<Target> = known.cloned().collect();
        known.sort_by(|one, other| one.key.cmp(&other.key));
        known
    }

    fn end_as(&self, op: Option<OpIndex>, outcome: Outcome, returned: Returned, error: &str) {
        if let Some(op) = op {
            let error = error.to_owned();
            self.recorder.end(op, outcome, returned, error, 1);
        }
    }

    fn not_covered(&self, op: Option<OpIndex>) {
        self.end_as(op, Outcome::Fail, Returned::default(), NOT_COVERED);
    }
}

impl Told {
    fn new(targets: Vec<Target>) -> Self {
        let asked = targets.into_iter().map(|target| Asked {
            target,
            first: None,
            now: None,
        });
        Self {
            asked: asked.collect(),
            last: None,
        }
    }

    /// A page is asked for.
    fn ask(&mut self, client: &SimClient, call: &Call) {
        let call = Call {
            deadline: SCAN_TIME_MAX,
            ..call.clone()
        };
        for asked in &mut self.asked {
            let (target, get) = (&asked.target, Action::Get);
            let invoked = client
                .recorder
                .invoke(client.number, target, get, None, &call);
            asked.now = Some(invoked.0);
        }
    }

    /// It failed: the next one will be asked for the same keys.
    fn failed(&mut self, client: &SimClient, error: &str) {
        for asked in &mut self.asked {
            let failed = Returned::default();
            client.end_as(asked.now.take(), Outcome::Fail, failed, error);
        }
    }

    /// It came: ends the gets of all keys of which it tells.
    fn page(&mut self, client: &SimClient, page: &ScanPage, is_late: bool) {
        let key_of = |record: &ScannedRecord| String::from_utf8_lossy(&record.key).into_owned();
        let shown: Vec<String> = page.records.iter().map(key_of).collect();
        let in_order = shown.windows(2).all(|pair| pair[0] < pair[1]);
        let goes_on = match (&self.last, shown.first()) {
            (Some(last), Some(first)) => last < first,
            (None, _) | (_, None) => true,
        };
        let (first, last) = (shown.first(), shown.last());
        for mut asked in std::mem::take(&mut self.asked) {
            let key = &asked.target.key;
            let is_behind = last.is_none_or(|last| key > last);
            if is_behind && page.next.is_some() {
                // A page that shows something has begun in front of that: no earlier page has
                // passed over what lies behind it.
                if last.is_some() || asked.first.is_none() {
                    std::mem::swap(&mut asked.first, &mut asked.now);
                }
                client.not_covered(asked.now.take());
                self.asked.push(asked);
                continue;
            }
            let record = page.records.iter().find(|record| key_of(record) == *key);
            let values = record.map_or(&[][..], |record| &record.values);
            let mut returned = client.recorder.lock().recognise(values);
            if !in_order || !goes_on || is_late {
                let told = format!("{shown:?} behind {:?}, late: {is_late}", self.last);
                returned.altered.push(format!("a page of {told}"));
            }
            // Passed over in front of the first record: by this page or the one before.
            let is_sure = first.is_some_and(|first| key >= first) || asked.first.is_none();
            let (op, other) = if is_sure {
                (asked.now, asked.first)
            } else {
                (asked.first, asked.now)
            };
            client.not_covered(other);
            if let Some(op) = op.filter(|_| asked.target.workload == Workload::Lww) {
                client.recorder.lock().lww.entry(op).or_default().unstamped = true;
            }
            client.end_as(op, Outcome::Ok, returned, "");
        }
        self.last = last.cloned().or(self.last.take());
    }

    /// No further page is asked for.
    fn over(self, client: &SimClient) {
        for asked in self.asked {
            client.not_covered(asked.first);
            client.not_covered(asked.now);
        }
    }
}
