//! One operation of an open loop, and what its answer means to the model.
//!
//! A key that has a write under way takes no second one: such a write becomes a read, so that the
//! rate is kept.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use quorate_client::{Code, Context, Failure, GetError, Read, WriteError, WriteItem, Written};

use super::Shared;
use super::mix::{Action, SCAN_KEYS};
use super::model::{Claim, Floor};
use super::record::End;
use crate::keys::key_of;

impl Shared {
    pub(super) async fn carry_out(&self, action: Action, indexes: Vec<u32>) -> End {
        let first = indexes.first().copied().unwrap_or_default();
        match action {
            Action::Read => self.read(first).await,
            Action::Write => self.write(first, false).await,
            Action::Delete => self.write(first, true).await,
            Action::Update => self.update(first).await,
            Action::MultiGet => self.multi_get(&indexes).await,
            Action::MultiPut => self.multi_put(&indexes).await,
            Action::Scan => self.scan(first).await,
        }
    }

    async fn get(&self, index: u32) -> Result<Read, GetError> {
        let floor = self.model().floor(index);
        let get = self.keyspace().get(key_of(index));
        let get = get.level(self.spec.read_level).deadline(self.spec.deadline);
        let read = get.await?;
        self.judge(index, floor, read.values());
        Ok(read)
    }

    fn judge(&self, index: u32, floor: Floor, values: &[Bytes]) {
        if self.spec.verify {
            self.model().read(index, floor, values.iter());
        }
    }

    async fn read(&self, index: u32) -> End {
        match self.get(index).await {
            Ok(_) => End::Done,
            Err(error) => self.failed(error.failure()),
        }
    }

    fn failed(&self, failure: &Failure) -> End {
        if failure.code == Code::Overloaded && failure.retry_after.is_none() {
            self.shed_without_advice.fetch_add(1, Ordering::Relaxed);
        }
        End::failed(failure.outcome, failure.code)
    }

    async fn write(&self, index: u32, is_delete: bool) -> End {
        let Some(claim) = self.model().claim(index, is_delete) else {
            return self.read(index).await;
        };
        match self.after(&claim, false).await {
            Ok(context) => self.send(&claim, context, is_delete).await,
            Err(end) => end,
        }
    }

    async fn update(&self, index: u32) -> End {
        let Some(claim) = self.model().claim(index, false) else {
            return self.read(index).await;
        };
        match self.after(&claim, true).await {
            Ok(context) => self.send(&claim, context, false).await,
            Err(end) => end,
        }
    }

    /// What a write comes after, read where nothing is known of the key; gives the claim back if it
    /// cannot be read.
    async fn after(&self, claim: &Claim, read_anyway: bool) -> Result<Option<Context>, End> {
        // Only where answers are verified is the keyspace known to hold nothing of these keys.
        let is_first = claim.number == 1 && self.spec.verify && !read_anyway;
        if !self.spec.has_contexts && !read_anyway {
            return Ok(None);
        }
        if (claim.after.is_some() && !read_anyway) || is_first {
            return Ok(claim.after.clone());
        }
        match self.get(claim.index).await {
            Ok(read) => Ok(self.spec.has_contexts.then(|| read.context().clone())),
            Err(error) => {
                self.model().refused(claim.index, claim.number);
                Err(self.failed(error.failure()))
            }
        }
    }

    async fn send(&self, claim: &Claim, context: Option<Context>, is_delete: bool) -> End {
        let key = key_of(claim.index);
        let write = match (is_delete, context) {
            (true, Some(context)) => self.keyspace().delete(key).after(context),
            (true, None) => self.keyspace().delete_blind(key),
            (false, context) => {
                let value = self.model().value(claim);
                match context {
                    Some(context) => self.keyspace().put(key, value).after(context),
                    None => self.keyspace().put_blind(key, value),
                }
            }
        };
        let mut write = write.level(self.spec.write_level);
        if let Some(ttl) = self.spec.ttl.filter(|_| !is_delete) {
            write = write.ttl(ttl);
        }
        let written = write.deadline(self.spec.deadline).await;
        self.note(claim, written)
    }

    fn note(&self, claim: &Claim, written: Result<Written, WriteError>) -> End {
        let mut model = self.model();
        match written {
            Ok(written) => {
                let context = written.context().cloned();
                model.applied(claim.index, claim.number, context);
                if written.is_superseded() {
                    End::Superseded
                } else {
                    End::Done
                }
            }
            Err(error) => {
                let end = self.failed(error.failure());
                match end {
                    End::NotApplied(_) => model.refused(claim.index, claim.number),
                    _ => model.unknown(claim.index, claim.number),
                }
                end
            }
        }
    }

    async fn multi_get(&self, indexes: &[u32]) -> End {
        let floors: Vec<Floor> = {
            let model = self.model();
            indexes.iter().map(|index| model.floor(*index)).collect()
        };
        let keys = indexes.iter().map(|index| key_of(*index));
        let batch = self.keyspace().multi_get(keys).level(self.spec.read_level);
        let reads = match batch.deadline(self.spec.deadline).await {
            Ok(reads) => reads,
            Err(error) => return End::NotApplied(error.code()),
        };
        let mut end = End::Done;
        for ((index, floor), read) in indexes.iter().zip(floors).zip(reads) {
            match read {
                Ok(read) => self.judge(*index, floor, read.values()),
                Err(error) => end = end.max(self.failed(error.failure())),
            }
        }
        end
    }

    async fn multi_put(&self, indexes: &[u32]) -> End {
        let (mut claims, mut items) = (Vec::new(), Vec::new());
        for index in indexes {
            let Some(claim) = self.model().claim(*index, false) else {
                continue;
            };
            let Ok(context) = self.after(&claim, false).await else {
                continue;
            };
            let (key, value) = (key_of(*index), self.model().value(&claim));
            let item = match context {
                Some(context) => WriteItem::put(key, value, context),
                None => WriteItem::put_blind(key, value),
            };
            items.push(match self.spec.ttl {
                Some(ttl) => item.ttl(ttl),
                None => item,
            });
            claims.push(claim);
        }
        let batch = self
            .keyspace()
            .multi_put(items)
            .level(self.spec.write_level);
        let outcomes = match batch.deadline(self.spec.deadline).await {
            Ok(outcomes) => outcomes,
            Err(error) => {
                let mut model = self.model();
                for claim in &claims {
                    model.refused(claim.index, claim.number);
                }
                return End::NotApplied(error.code());
            }
        };
        let ends = claims.iter().zip(outcomes);
        let ends = ends.map(|(claim, written)| self.note(claim, written));
        ends.max().unwrap_or(End::Done)
    }

    /// A range of keys, page by page; keys that it does not show must not be there.
    async fn scan(&self, first: u32) -> End {
        let last = first.saturating_add(SCAN_KEYS).min(self.spec.keys);
        let floors: Vec<(u32, Floor)> = {
            let model = self.model();
            (first..last).map(|i| (i, model.floor(i))).collect()
        };
        let range = self.keyspace().scan().range(key_of(first), key_of(last));
        // Scans ask owners alone.
        let range = range.level(self.spec.read_level.strict());
        let mut pages = range.deadline(self.spec.deadline).pages();
        let mut shown: Vec<(Bytes, Vec<Bytes>)> = Vec::new();
        loop {
            match pages.next_page().await {
                Ok(Some(page)) => {
                    let records = page.records.into_iter();
                    shown.extend(records.map(|record| (record.key, record.values)));
                }
                Ok(None) => break,
                Err(error) => return self.failed(error.failure()),
            }
        }
        let mut shown = shown.into_iter().peekable();
        for (index, floor) in floors {
            let key = key_of(index);
            match shown.next_if(|(shown, _)| *shown == key) {
                Some((_, values)) => self.judge(index, floor, &values),
                None => self.judge(index, floor, &[]),
            }
        }
        if let Some((key, _)) = shown.next()
            && self.spec.verify
        {
            // Out of order, twice, or of no key of this load.
            let found = [key];
            self.model().read(first, Floor::default(), found.iter());
        }
        End::Done
    }

    /// Whether the key could be read.
    pub(super) async fn read_back(&self, index: u32, deadline: Duration) -> bool {
        let floor = self.model().floor(index);
        let get = self.keyspace().get(key_of(index));
        let read = get.level(self.spec.read_level).deadline(deadline).await;
        match read {
            Ok(read) => {
                self.model().read(index, floor, read.values().iter());
                true
            }
            Err(_) => false,
        }
    }
}
