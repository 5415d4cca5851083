//! What is asked: the next operation, drawn from a seed.
//!
//! A write supersedes with its key's last token, so a key that has a write under way is drawn
//! again. Not here: sending it (`closed_loop`).

use std::time::Duration;

use bytes::Bytes;
use quorate_client::{Context, Keyspace, Level};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::fill::{Fill, FillTarget};
use crate::keys::{Distribution, KeyDraw, key_of};
use crate::tokens::{Claim, Tokens};
use crate::values::Values;

/// How often a write is drawn before the draw is given up: by then all but a vanishing part of the
/// keys has a write under way.
const DRAWS_MAX: u32 = 10_000;

/// The part of a workload that is the same for all its cases.
#[derive(Debug, Clone)]
pub struct WorkloadSpec {
    /// Number of keys, at least 1.
    pub keys: u32,
    /// Length of every value, in bytes.
    pub value_bytes: usize,
    /// How keys are drawn.
    pub distribution: Distribution,
    /// Level of every operation.
    pub level: Level,
    /// Deadline of every operation.
    pub deadline: Duration,
    /// What is drawn follows from it.
    pub seed: u64,
}

/// One operation that is to be sent.
#[derive(Debug)]
pub enum Operation {
    /// Read the key with this index.
    Read {
        /// Index of the key.
        index: u32,
    },
    /// Write the key with this index.
    Write {
        /// Index of the key.
        index: u32,
        /// What the write comes after.
        claim: Claim,
        /// The value.
        value: Bytes,
    },
}

/// Draws operations, and keeps what is known of each key.
#[derive(Debug)]
pub struct Workload {
    spec: WorkloadSpec,
    keyspaces: Vec<Keyspace>,
    draw: KeyDraw,
    /// Makes and checks values.
    pub values: Values,
    /// What is known of each key.
    pub tokens: Tokens,
    random: SmallRng,
    redraws: u64,
    unknown_writes: u64,
}

impl Workload {
    /// A workload of whose keys nothing is known yet. `keyspaces` is one keyspace of one or more
    /// clients, which take turns.
    ///
    /// # Panics
    /// If there is no client.
    #[must_use]
    pub fn new(spec: WorkloadSpec, keyspaces: Vec<Keyspace>) -> Self {
        assert!(!keyspaces.is_empty(), "somebody must ask");
        let mut random = SmallRng::seed_from_u64(spec.seed);
        Self {
            keyspaces,
            draw: KeyDraw::new(spec.distribution, spec.keys),
            values: Values::new(spec.value_bytes, &mut random),
            tokens: Tokens::unread(spec.keys),
            random,
            redraws: 0,
            unknown_writes: 0,
            spec,
        }
    }

    /// The next operation, a read in `reads_percent` of 100 cases. `None` if no key could be found
    /// that has no write under way.
    pub fn next(&mut self, reads_percent: u8) -> Option<Operation> {
        if self.random.random_range(0..100) < reads_percent {
            let index = self.draw.draw(&mut self.random);
            return Some(Operation::Read { index });
        }
        for _ in 0..DRAWS_MAX {
            let index = self.draw.draw(&mut self.random);
            if let Some(claim) = self.tokens.claim(index) {
                let value = self.values.make(index, &mut self.random);
                return Some(Operation::Write {
                    index,
                    claim,
                    value,
                });
            }
            self.redraws += 1;
        }
        None
    }

    /// Counts a write of unknown outcome: its value may surface later as a sibling.
    pub const fn note_unknown_write(&mut self) {
        self.unknown_writes += 1;
    }

    /// Writes of unknown outcome so far.
    #[must_use]
    pub const fn unknown_writes(&self) -> u64 {
        self.unknown_writes
    }

    /// The part that is the same for all cases.
    #[must_use]
    pub const fn spec(&self) -> &WorkloadSpec {
        &self.spec
    }

    /// Where the keys are, once for each client.
    #[must_use]
    pub fn keyspaces(&self) -> &[Keyspace] {
        &self.keyspaces
    }

    /// Writes that were drawn again because their key had one under way.
    #[must_use]
    pub const fn redraws(&self) -> u64 {
        self.redraws
    }
}

impl Fill for Workload {
    fn target(&self) -> FillTarget {
        FillTarget {
            // Loading is not measured: one client does it.
            keyspace: self.keyspaces[0].clone(),
            keys: self.spec.keys,
            level: Some(self.spec.level),
            deadline: self.spec.deadline,
            has_contexts: true,
        }
    }

    fn key(&self, index: u32) -> Bytes {
        key_of(index)
    }

    fn value(&mut self, index: u32) -> Bytes {
        self.values.make(index, &mut self.random)
    }

    fn fits(&self, index: u32, value: &[u8]) -> bool {
        self.values.fits(index, value)
    }

    fn keep(&mut self, index: u32, seen: &Context) {
        self.tokens.written(index, seen);
    }
}
