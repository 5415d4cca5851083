//! One operation of a workload: sent, and its answer judged.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use quorate_client::{Keyspace, Outcome, ScannedRecord, WriteError, Written};

use super::data::{Asked, DEADLINE, Data, ScanAsked};
use super::{Definition, Numbers};
use crate::closed_loop::Operations;
use crate::fill::Fill;
use crate::recorder::{End, Kind};

/// The operations of one workload on a set of records.
#[derive(Debug)]
pub struct Mix {
    definition: Definition,
    keyspace: Keyspace,
    data: Arc<Mutex<Data>>,
}

impl Mix {
    /// What `definition` asks of `data`.
    #[must_use]
    pub fn new(definition: Definition, data: Arc<Mutex<Data>>) -> Self {
        let keyspace = lock(&data).spec().keyspace.clone();
        Self {
            definition,
            keyspace,
            data,
        }
    }

    fn data(&self) -> MutexGuard<'_, Data> {
        lock(&self.data)
    }

    async fn read(&self, index: u32, floor: &Numbers) -> End {
        let key = self.data().key(index);
        match self.keyspace.get(key).deadline(DEADLINE).await {
            Ok(read) => match self.data().judge(index, floor, read.values()) {
                Ok(_) => End::Done,
                Err(end) => end,
            },
            Err(error) => End::failed(Outcome::NotApplied, error.code()),
        }
    }

    async fn put(&self, index: u32, record: Bytes) -> End {
        let key = self.data().key(index);
        let put = self.keyspace.put_blind(key, record);
        end_of(&put.deadline(DEADLINE).await)
    }

    async fn scan(&self, asked: &ScanAsked) -> End {
        let first = self.data().key(asked.first);
        let scan = self.keyspace.scan().start_at(first);
        let limit = u64::from(asked.records);
        let mut pages = scan.limit(limit).deadline(DEADLINE).pages();
        let mut shown: Vec<ScannedRecord> = Vec::new();
        loop {
            match pages.next_page().await {
                Ok(Some(page)) => shown.extend(page.records),
                Ok(None) => return self.data().judge_scan(asked, &shown),
                Err(error) => return End::failed(Outcome::NotApplied, error.code()),
            }
        }
    }

    async fn read_modify_write(&self, index: u32, field: usize, floor: &Numbers) -> End {
        let key = self.data().key(index);
        let read = match self.keyspace.get(key.clone()).deadline(DEADLINE).await {
            Ok(read) => read,
            Err(error) => return End::failed(Outcome::NotApplied, error.code()),
        };
        let (record, number) = {
            let mut data = self.data();
            match data.judge(index, floor, read.values()) {
                Ok(seen) => data.modified(index, field, seen),
                Err(end) => return end,
            }
        };
        let put = self.keyspace.put(key, record).after(&read);
        let end = end_of(&put.deadline(DEADLINE).await);
        if end == End::Done {
            self.data().changed(index, field, number);
        }
        end
    }
}

pub(super) fn lock(data: &Mutex<Data>) -> MutexGuard<'_, Data> {
    data.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A write that a later one superseded was applied, and is done.
fn end_of(written: &Result<Written, WriteError>) -> End {
    match written {
        Ok(_) => End::Done,
        Err(error) => End::failed(error.outcome(), error.code()),
    }
}

impl Operations for Mix {
    type Operation = Asked;

    fn next(&self) -> Option<Asked> {
        self.data().next(&self.definition)
    }

    async fn carry_out(&self, asked: Asked) -> (Kind, End) {
        match asked {
            Asked::Read { index, floor } => (Kind::Read, self.read(index, &floor).await),
            Asked::Update { index, record } => (Kind::Update, self.put(index, record).await),
            Asked::Insert { index, record } => {
                let end = self.put(index, record).await;
                self.data().inserted(index, end);
                (Kind::Insert, end)
            }
            Asked::Scan(scan) => (Kind::Scan, self.scan(&scan).await),
            Asked::ReadModifyWrite {
                index,
                field,
                floor,
            } => {
                let end = self.read_modify_write(index, field, &floor).await;
                (Kind::ReadModifyWrite, end)
            }
        }
    }
}
