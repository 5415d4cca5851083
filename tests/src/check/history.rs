//! What clients asked and were told, in one total order of events.
//!
//! Every write has a unique value: its own index in the history. An operation that never ended
//! counts as *unknown*. Order in real time is the order of the event numbers, never of clocks.

use std::collections::BTreeSet;

/// Index of an operation in its history; of a write also its unique value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpIndex(pub usize);

/// Index of a key in its history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyIndex(pub usize);

/// What a client was told about the effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Applied, or read.
    Ok,
    /// Certainly not applied, or a read that failed.
    Fail,
    /// Unknown.
    Info,
}

/// What a client wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Writes its own index as value.
    Put {
        /// Elements of a set value: earlier writes of the key that this value holds too.
        elements: BTreeSet<OpIndex>,
    },
    /// Writes a tombstone.
    Delete,
    /// Reads.
    Get,
}

/// What a get returned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Returned {
    /// The writes whose values it returned, in the order returned.
    pub values: Vec<OpIndex>,
    /// Values that are not, byte for byte, what any write wrote.
    pub altered: Vec<String>,
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Number of the event.
    pub event: u64,
    /// Simulated time in microseconds.
    pub at_us: u64,
    /// What the client was told.
    pub outcome: Outcome,
    /// What it was told to hold; empty for writes.
    pub returned: Returned,
    /// The error as text; empty if there was none.
    pub error: String,
    /// Attempts that the client made.
    pub attempts: usize,
}

/// One operation.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Who asked.
    pub client: usize,
    /// Of which key.
    pub key: KeyIndex,
    /// What.
    pub action: Action,
    /// The operation whose reply gave the context that this write used.
    pub context: Option<OpIndex>,
    /// Replicas that had to answer.
    pub replicas: u8,
    /// N of the keyspace.
    pub copies: u8,
    /// The session that it was part of.
    pub session: Option<u64>,
    /// TTL of what it writes, in microseconds.
    pub ttl_us: Option<u64>,
    /// Microseconds that it had.
    pub deadline_us: u64,
    /// Number of the event.
    pub invoked_event: u64,
    /// Simulated time in microseconds.
    pub invoked_us: u64,
    /// How it ended; `None` if it never did.
    pub ending: Option<Ending>,
}

impl Operation {
    /// Whether it is a put or a delete.
    #[must_use]
    pub fn is_write(&self) -> bool {
        match self.action {
            Action::Put { .. } | Action::Delete => true,
            Action::Get => false,
        }
    }

    /// Whether it is a delete.
    #[must_use]
    pub fn is_delete(&self) -> bool {
        self.action == Action::Delete
    }

    /// What the client knows of its effect; *unknown* while it has not ended.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.ending.as_ref().map_or(Outcome::Info, |e| e.outcome)
    }

    /// Number of the event at which it ended, if it did.
    #[must_use]
    pub fn ended_event(&self) -> Option<u64> {
        self.ending.as_ref().map(|e| e.event)
    }

    /// Whether more than one attempt may have minted a dot of this write.
    #[must_use]
    pub fn may_have_twins(&self) -> bool {
        self.ending.as_ref().is_none_or(|e| e.attempts > 1)
    }

    /// Whether reads of this many replicas promise to be monotonic: more than half of N.
    #[must_use]
    pub fn is_majority(&self) -> bool {
        u32::from(self.replicas) * 2 > u32::from(self.copies)
    }
}

/// Every operation of a run.
#[derive(Debug, Clone, Default)]
pub struct History {
    keys: Vec<String>,
    operations: Vec<Operation>,
    events: u64,
}

impl History {
    /// Adds a key under a name that is only printed.
    pub fn add_key(&mut self, name: String) -> KeyIndex {
        self.keys.push(name);
        KeyIndex(self.keys.len() - 1)
    }

    /// Notes that `operation` is sent now; its event number and ending are set here.
    pub fn invoke(&mut self, operation: Operation) -> OpIndex {
        self.events += 1;
        self.operations.push(Operation {
            invoked_event: self.events,
            ending: None,
            ..operation
        });
        OpIndex(self.operations.len() - 1)
    }

    /// Notes that an operation ended; the event's number is set here.
    pub fn end(&mut self, op: OpIndex, ending: Ending) {
        self.events += 1;
        let event = self.events;
        if let Some(operation) = self.operations.get_mut(op.0) {
            operation.ending = Some(Ending { event, ..ending });
        }
    }

    /// Name of a key.
    #[must_use]
    pub fn key_name(&self, key: KeyIndex) -> &str {
        self.keys.get(key.0).map_or("?", String::as_str)
    }

    /// Every key.
    pub fn keys(&self) -> impl Iterator<Item = KeyIndex> + use<> {
        (0..self.keys.len()).map(KeyIndex)
    }

    /// All operations with their indexes, in the order in which they were invoked.
    pub fn operations(&self) -> impl Iterator<Item = (OpIndex, &Operation)> {
        self.operations
            .iter()
            .enumerate()
            .map(|(i, op)| (OpIndex(i), op))
    }

    /// One operation.
    #[must_use]
    pub fn operation(&self, op: OpIndex) -> Option<&Operation> {
        self.operations.get(op.0)
    }

    /// How many operations there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether nothing was asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Operations of each key, in the order of their indexes. O(operations).
    #[must_use]
    pub fn by_key(&self) -> Vec<Vec<OpIndex>> {
        let mut keys = vec![Vec::new(); self.keys.len()];
        for (index, op) in self.operations() {
            if let Some(of_key) = keys.get_mut(op.key.0) {
                of_key.push(index);
            }
        }
        keys
    }
}

/// Builds histories of one key for tests: each call is one line of a run.
#[cfg(test)]
pub(crate) mod planted {
    use super::*;

    /// A history of one key with N = 3 in the making.
    #[derive(Debug, Default)]
    pub(crate) struct Planted {
        pub(crate) history: History,
    }

    impl Planted {
        pub(crate) fn new() -> Self {
            let mut history = History::default();
            history.add_key("k".to_owned());
            Self { history }
        }

        pub(crate) fn begin(
            &mut self,
            action: Action,
            context: Option<OpIndex>,
            replicas: u8,
        ) -> OpIndex {
            self.history.invoke(Operation {
                client: 0,
                key: KeyIndex(0),
                action,
                context,
                replicas,
                copies: 3,
                session: None,
                ttl_us: None,
                deadline_us: 0,
                invoked_event: 0,
                invoked_us: 0,
                ending: None,
            })
        }

        /// The newest operation is part of this session.
        pub(crate) fn in_session(&mut self, session: u64) {
            if let Some(newest) = self.history.operations.last_mut() {
                newest.session = Some(session);
            }
        }

        /// When an operation is invoked, and the TTL of what it writes.
        pub(crate) fn set_times(&mut self, op: OpIndex, at_us: u64, ttl_us: Option<u64>) {
            if let Some(operation) = self.history.operations.get_mut(op.0) {
                operation.invoked_us = at_us;
                operation.ttl_us = ttl_us;
            }
        }

        /// A read that succeeds at a time.
        pub(crate) fn end_at(&mut self, op: OpIndex, at_us: u64, values: Vec<OpIndex>) {
            self.end(op, Outcome::Ok, &values);
            let operation = self.history.operations.get_mut(op.0);
            if let Some(ending) = operation.and_then(|operation| operation.ending.as_mut()) {
                ending.at_us = at_us;
            }
        }

        pub(crate) fn end(&mut self, op: OpIndex, outcome: Outcome, values: &[OpIndex]) {
            let returned = Returned {
                values: values.to_vec(),
                altered: Vec::new(),
            };
            self.end_after(1, op, outcome, returned);
        }

        pub(crate) fn end_after(
            &mut self,
            attempts: usize,
            op: OpIndex,
            outcome: Outcome,
            returned: Returned,
        ) {
            self.history.end(
                op,
                Ending {
                    event: 0,
                    at_us: 0,
                    outcome,
                    returned,
                    error: String::new(),
                    attempts,
                },
            );
        }

        pub(crate) fn put_at(
            &mut self,
            replicas: u8,
            context: Option<OpIndex>,
            outcome: Outcome,
        ) -> OpIndex {
            let elements = BTreeSet::new();
            let op = self.begin(Action::Put { elements }, context, replicas);
            self.end(op, outcome, &[]);
            op
        }

        pub(crate) fn put(&mut self, context: Option<OpIndex>, outcome: Outcome) -> OpIndex {
            self.put_at(2, context, outcome)
        }

        pub(crate) fn delete(&mut self, context: Option<OpIndex>, outcome: Outcome) -> OpIndex {
            let op = self.begin(Action::Delete, context, 2);
            self.end(op, outcome, &[]);
            op
        }

        pub(crate) fn get_at(&mut self, replicas: u8, values: &[OpIndex]) -> OpIndex {
            let op = self.begin(Action::Get, None, replicas);
            self.end(op, Outcome::Ok, values);
            op
        }

        pub(crate) fn get(&mut self, values: &[OpIndex]) -> OpIndex {
            self.get_at(2, values)
        }
    }
}
