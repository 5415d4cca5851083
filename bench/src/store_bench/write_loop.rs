//! The shard's part of the benchmark: draws keys, has the old state, writes, waits for durability.
//!
//! A closed loop: a number of writes is under way, and whenever one ends the next begins. Its time
//! begins when it is drawn, so that a wait for a load or for room counts. A key has one write under
//! way. A round hands over half of them at most: the rest joins while the first are synced, as
//! writes of other nodes and clients do.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use quorate_antientropy::{Digest, DigestChange, DigestSecret, Held, HoldingsChange, RecordChange};
use quorate_node::core::input::StoreEvent;
use quorate_node::core::key::RecordKey;
use quorate_node::core::packed::packed;
use quorate_node::core::table::Lookup;
use quorate_ring::{BucketId, FixedMap, FixedSet, KeyspaceId, Lsn, Token, VnodeCount};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::store::{Heard, NodeStore, Opened};
use crate::clock::Clock;
use crate::keys::{KeyDraw, key_of};
use crate::recorder::{End, Kind, Recorder};
use crate::values::Values;

/// Vnodes of the keyspace.
pub const VNODES: u32 = 256;

const KEYSPACE: KeyspaceId = KeyspaceId(1);
pub(super) const SECRET: DigestSecret = DigestSecret { key: 1, record: 2 };

/// A store that says nothing for so long is stuck.
const SILENT_MAX: Duration = Duration::from_secs(60);

/// At rest the backlog is zero this often in a row, and this is between two looks.
const REST_LOOKS: u32 = 20;
const REST_POLL: Duration = Duration::from_millis(20);

/// Which keys are written.
#[derive(Debug, Clone)]
pub enum Keys {
    /// Drawn at random, for as long as is wanted.
    Drawn(KeyDraw),
    /// Each once, in order, from one number to below another.
    Each(std::ops::Range<u32>),
}

/// What a loop has done.
#[derive(Debug, Default)]
pub struct Written {
    /// Latencies.
    pub recorder: Recorder,
    /// From the first write to the last that is durable.
    pub elapsed: Duration,
    /// Writes that had to load the old state.
    pub loads: u64,
}

/// Writes into a store.
#[derive(Debug)]
pub struct WriteLoop {
    store: NodeStore,
    events: Receiver<StoreEvent>,
    clock: Clock,
    random: SmallRng,
    values: Values,
    vnodes: VnodeCount,
    durable: Lsn,
    /// Drawn, not begun.
    pending: VecDeque<Write>,
    /// Begun, the old state is being loaded.
    loading: FixedMap<RecordKey, Write>,
    unacked: VecDeque<(Lsn, Write)>,
    busy: FixedSet<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Write {
    index: u32,
    began: Duration,
}

impl WriteLoop {
    /// A loop that writes records of `record_bytes` into an open store.
    ///
    /// # Errors
    /// Never, but for a bug: the number of vnodes is a constant.
    pub fn new(opened: Opened, clock: Clock, record_bytes: usize, seed: u64) -> Result<Self> {
        let mut random = SmallRng::seed_from_u64(seed);
        Ok(Self {
            store: opened.store,
            events: opened.events,
            clock,
            values: Values::new(record_bytes, &mut random),
            random,
            vnodes: VnodeCount::new(VNODES)?,
            durable: opened.durable,
            pending: VecDeque::new(),
            loading: FixedMap::default(),
            unacked: VecDeque::new(),
            busy: FixedSet::default(),
        })
    }

    /// Writes at least `writes`, and on to the next ingestion, to the end of the last one.
    ///
    /// # Errors
    /// If the store fails or is stuck.
    pub fn run(&mut self, mut keys: Keys, writes: u64, in_flight: usize) -> Result<Written> {
        let begin = self.clock.now();
        let mut written = Written::default();
        let mut boundary = None;
        loop {
            if boundary.is_none() && written.recorder.done() >= writes {
                boundary = Some(self.store.ingests());
            }
            let ends = boundary.is_some_and(|seen| seen != self.store.ingests());
            let drawn = if ends {
                false
            } else {
                self.draw(&mut keys, in_flight)
            };
            if !drawn && self.under_way() == 0 {
                written.elapsed = self.clock.now() - begin;
                return Ok(written);
            }
            self.begin(in_flight.div_ceil(2), &mut written)?;
            self.store.send()?;
            self.hear(&mut written)?;
        }
    }

    /// As [`WriteLoop::run`] for exactly `writes`, wherever that ends between two ingestions.
    ///
    /// # Errors
    /// If the store fails or is stuck.
    pub fn run_exactly(&mut self, keys: KeyDraw, writes: u64, in_flight: usize) -> Result<Lsn> {
        let mut written = Written::default();
        let mut keys = Keys::Drawn(keys);
        while written.recorder.done() < writes {
            self.draw(&mut keys, in_flight);
            self.begin(in_flight.div_ceil(2), &mut written)?;
            self.store.send()?;
            self.hear(&mut written)?;
        }
        Ok(self.durable)
    }

    /// Waits until nothing is left to do for what was written.
    ///
    /// # Errors
    /// If the store fails.
    pub fn rest(&mut self) -> Result<()> {
        let mut quiet = 0;
        while quiet < REST_LOOKS {
            match self.events.recv_timeout(REST_POLL) {
                Ok(event) => drop(self.store.hear(event)?),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("the store has ended"),
            }
            quiet = if self.store.backlog() == 0 {
                quiet + 1
            } else {
                0
            };
        }
        Ok(())
    }

    /// The last durable write.
    #[must_use]
    pub const fn durable(&self) -> Lsn {
        self.durable
    }

    /// Ends the store in order.
    ///
    /// # Errors
    /// If a thread of it has failed.
    pub fn stop(self) -> Result<()> {
        self.store.stop()
    }

    fn under_way(&self) -> usize {
        self.pending.len() + self.loading.len() + self.unacked.len()
    }

    /// Draws as many as are missing; whether there are more to come.
    fn draw(&mut self, keys: &mut Keys, in_flight: usize) -> bool {
        let began = self.clock.now();
        while self.under_way() < in_flight {
            let index = match keys {
                Keys::Drawn(draw) => draw.draw(&mut self.random),
                Keys::Each(range) => match range.next() {
                    Some(index) => index,
                    None => return false,
                },
            };
            // A key that has a write under way: draw again.
            if self.busy.insert(index) {
                self.pending.push_back(Write { index, began });
            }
        }
        true
    }

    fn begin(&mut self, most: usize, written: &mut Written) -> Result<()> {
        for _ in 0..most {
            if !self.store.has_room() {
                return Ok(());
            }
            let Some(write) = self.pending.pop_front() else {
                return Ok(());
            };
            let (key, bucket) = self.locate(write.index);
            match self.store.newest(&key) {
                Lookup::Known(old) => self.write(write, &key, bucket, old.as_ref()),
                Lookup::MustLoad => {
                    written.loads += 1;
                    self.store.load(key.clone())?;
                    self.loading.insert(key, write);
                }
            }
        }
        Ok(())
    }

    fn locate(&self, index: u32) -> (RecordKey, BucketId) {
        let name = key_of(index);
        let token = Token::of(KEYSPACE, &name);
        let key = RecordKey::new(KEYSPACE, self.vnodes.vnode_of(token), &name);
        (key, self.vnodes.bucket_of(token))
    }

    fn write(&mut self, write: Write, key: &RecordKey, bucket: BucketId, old: Option<&Bytes>) {
        let record = packed(&self.values.make(write.index, &mut self.random));
        let digest = |record: &Bytes| Digest::of(SECRET, key.as_bytes(), record);
        let held = |record: &Bytes| Held {
            has_value: true,
            bytes: key.as_bytes().len() + record.len(),
        };
        let change = RecordChange {
            digest: DigestChange::between(old.map(digest), Some(digest(&record))),
            holdings: HoldingsChange::between(old.map(held), Some(held(&record))),
        };
        let lsn = self.store.write(key, bucket, change, record);
        self.unacked.push_back((lsn, write));
    }

    /// Takes in what the store has said; waits for something unless there is something to begin.
    fn hear(&mut self, written: &mut Written) -> Result<()> {
        if self.pending.is_empty() || !self.store.has_room() {
            match self.events.recv_timeout(SILENT_MAX) {
                Ok(event) => self.take(event, written)?,
                Err(_) => bail!("the store says nothing any more"),
            }
        }
        while let Ok(event) = self.events.try_recv() {
            self.take(event, written)?;
        }
        Ok(())
    }

    fn take(&mut self, event: StoreEvent, written: &mut Written) -> Result<()> {
        match self.store.hear(event)? {
            Heard::Durable(lsn) => {
                self.durable = lsn;
                let now = self.clock.now();
                while let Some((_, write)) = self.unacked.pop_front_if(|(at, _)| *at <= lsn) {
                    self.busy.remove(&write.index);
                    let latency = now.saturating_sub(write.began);
                    written.recorder.add(Kind::Write, End::Done, latency);
                }
            }
            Heard::Loaded(keys) => {
                for key in keys {
                    let Some(write) = self.loading.remove(&key) else {
                        continue;
                    };
                    let (key, bucket) = self.locate(write.index);
                    let Lookup::Known(old) = self.store.newest(&key) else {
                        bail!("a key that was loaded is not known");
                    };
                    self.write(write, &key, bucket, old.as_ref());
                }
            }
            Heard::Other => {}
        }
        Ok(())
    }
}
