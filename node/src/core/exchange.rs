//! One exchange with a co-replica, at the node that began it: which vnodes differ, in which
//! buckets, in which keys; and that those keys are brought together.
//!
//! Vnodes are walked many at a time ([`Walk`]); what differed twice is compared row by row, a page
//! of both sides at a time, and every key that differs is read from all owners that are up by a get
//! of its own, which merges and brings the merged record to whoever lacks it. So records move in
//! the direction that their contexts say, by the one path that moves them anywhere else, and a key
//! that three owners hold differently is healed once.
//!
//! One question is open at a time, and one page's keys at a time: what a peer can make this node
//! hold is bounded whatever it answers.
//!
//! A node that lost what it acknowledged refills its copies in the same way, and counts for them
//! after it (`healing`). For that the peer's digests must show all that it had taken when the
//! exchange began: it tells up to which number that is, and the walk begins once it says that this
//! is durable.
//!
//! Not here: reading, sending and the gets (`shard::exchange`), when exchanges begin.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use quorate_antientropy::{Next, NodeHash, Walk};
use quorate_ring::{BucketId, KeyspaceId, Lsn, MonoTime, VnodeId};

use super::message::{ExchangeRow, ReplicaStanding, RowPage, RowQuestion, TreeQuestion};

/// Vnodes of which one question asks: each may cost both sides a tree, 0.15 ms.
pub const TREES_PER_ASK: usize = 16;

/// Differences are looked at again after this time: longer than a write is on its way.
const CONFIRM_AFTER: Duration = Duration::from_secs(1);

/// Gets of differing keys at once.
const HEALS_AT_ONCE: usize = 16;

/// An exchange ends after so many keys could not be healed: the others will not fare better. A
/// refill goes on with the next copy: what is the matter may be the matter with this one alone.
const FAILURES_MAX: u64 = 64;

/// Rows that the peer does not tell now are asked for again after this.
const POSTPONE: Duration = Duration::from_secs(1);

/// An answer is waited for this long.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What an exchange does about keys that differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Brings them together.
    Heal,
    /// Counts them only.
    Look,
    /// Brings them together, so that this node holds all that the peer had taken when it began.
    Refill,
}

/// What came of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Copies of vnodes that were compared, one per keyspace.
    pub vnodes: u64,
    /// Those of them in which a bucket differed twice.
    pub vnodes_differing: u64,
    /// Buckets that differed twice.
    pub buckets: u64,
    /// Keys that differed.
    pub keys: u64,
    /// Bytes of their records: of both copies where both sides have one.
    pub bytes: u64,
    /// Keys that all owners that were up hold alike now.
    pub healed: u64,
    /// Keys for which that failed.
    pub failed: u64,
}

/// What a comparison that an operator asked for came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compared {
    /// What was found.
    pub tally: Tally,
    /// The vnode to go on with; `None` at the end.
    pub next: Option<VnodeId>,
}

/// Why there is no comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompareRefused {
    /// The other node is not up, or went away meanwhile, or there is none.
    NotUp,
    /// As many wait as may, or this node is stopping.
    Busy,
    /// It took too long; what was brought together by then stays so.
    Late,
    /// An answer did not fit its question, or was refused, or keys could not be healed.
    Failed,
}

/// What an exchange wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Ask the peer what its copies are worth.
    Standing,
    /// Ask the peer, and answer the same from the own trees.
    Trees(Vec<TreeQuestion>),
    /// Read rows here, and ask the peer for its own.
    Rows(RowQuestion),
    /// Read a key from all owners that are up; its records have so many bytes.
    Heal(KeyspaceId, Bytes, u64),
    /// A refill holds all that the peer had taken of this copy when it was asked how it stands.
    Filled(KeyspaceId, VnodeId),
    /// It is over.
    End(Tally),
}

/// A vnode on its walk.
#[derive(Debug)]
struct Walking {
    keyspace: KeyspaceId,
    vnode: VnodeId,
    walk: Walk,
}

/// Buckets that differ, and how far their rows were compared.
#[derive(Debug)]
struct Rows {
    question: RowQuestion,
    own: Option<RowPage>,
    theirs: Option<RowPage>,
}

/// The vnode whose rows are compared; its pages come one after the other.
#[derive(Debug)]
struct Comparing {
    keyspace: KeyspaceId,
    vnode: VnodeId,
    /// Keys that could not be healed.
    failed: u64,
    /// Whether no page follows.
    is_last: bool,
}

#[derive(Debug)]
enum Open {
    Nothing,
    Standing,
    Trees(Vec<Walking>),
    Rows(Rows),
}

/// An answer that is none to what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer does not fit the question")]
pub struct Unfit;

/// One exchange under way.
#[derive(Debug)]
pub struct ExchangeMachine {
    purpose: Purpose,
    todo: VecDeque<Walking>,
    later: Vec<Walking>,
    later_at: MonoTime,
    differing: VecDeque<RowQuestion>,
    /// No rows are asked for before this.
    rows_at: MonoTime,
    open: Open,
    /// How the peer stood when it was asked; only a refill asks.
    standing: Option<ReplicaStanding>,
    /// What the peer says is durable.
    peer_durable: Lsn,
    /// Until when the answer to what is open is waited for.
    due: MonoTime,
    /// When a page was last compared or a key last healed, as far as [`ExchangeMachine::go_on`] was
    /// told.
    moved_at: MonoTime,
    has_moved: bool,
    /// Keys that differ, with the bytes of their records.
    keys: VecDeque<(Bytes, u64)>,
    /// Whose keys these are.
    comparing: Option<Comparing>,
    healing: usize,
    /// Copies that are filled and were not told yet.
    filled: Vec<(KeyspaceId, VnodeId)>,
    tally: Tally,
}

impl ExchangeMachine {
    /// An exchange about `vnodes` that has asked nothing yet.
    #[must_use]
    pub fn new(purpose: Purpose, vnodes: impl IntoIterator<Item = (KeyspaceId, VnodeId)>) -> Self {
        let compared = |(keyspace, vnode)| Walking {
            keyspace,
            vnode,
            walk: Walk::default(),
        };
        let todo: VecDeque<Walking> = vnodes.into_iter().map(compared).collect();
        let tally = Tally {
            vnodes: u64::try_from(todo.len()).unwrap_or(u64::MAX),
            ..Tally::default()
        };
        Self {
            purpose,
            todo,
            later: Vec::new(),
            later_at: MonoTime::ZERO,
            differing: VecDeque::new(),
            rows_at: MonoTime::ZERO,
            open: Open::Nothing,
            standing: None,
            peer_durable: Lsn::ZERO,
            due: MonoTime::ZERO,
            moved_at: MonoTime::ZERO,
            has_moved: false,
            keys: VecDeque::new(),
            comparing: None,
            healing: 0,
            filled: Vec::new(),
            tally,
        }
    }

    /// Whether an answer is awaited.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        !matches!(self.open, Open::Nothing)
    }

    /// Whether an answer is awaited that is late by now.
    #[must_use]
    pub fn is_late(&self, now: MonoTime) -> bool {
        self.is_waiting() && now >= self.due
    }

    /// The question about rows that is open.
    #[must_use]
    pub const fn row_question(&self) -> Option<&RowQuestion> {
        match &self.open {
            Open::Rows(rows) => Some(&rows.question),
            Open::Nothing | Open::Standing | Open::Trees(_) => None,
        }
    }

    /// The questions about trees that are open, in the order of the answer.
    #[must_use]
    pub fn tree_questions(&self) -> Vec<TreeQuestion> {
        match &self.open {
            Open::Trees(asked) => asked.iter().map(Walking::question).collect(),
            Open::Nothing | Open::Standing | Open::Rows(_) => Vec::new(),
        }
    }

    /// Does what can be done now; nothing while an answer or a get is awaited, and not again after
    /// [`Step::End`]. Gets begin as long as their records are below `bytes` together.
    pub fn go_on(&mut self, now: MonoTime, bytes: u64, steps: &mut Vec<Step>) {
        if std::mem::take(&mut self.has_moved) {
            self.moved_at = now;
        }
        let mut begun = 0;
        while self.healing < HEALS_AT_ONCE
            && begun < bytes
            && let Some((key, bytes)) = self.keys.pop_front()
        {
            let of = self.comparing.as_ref();
            let of = of.expect("keys are of the vnode whose rows are compared");
            self.healing += 1;
            begun += bytes;
            steps.push(Step::Heal(of.keyspace, key, bytes));
        }
        let is_healing = self.healing > 0 || !self.keys.is_empty();
        if is_healing || !matches!(self.open, Open::Nothing) {
            return;
        }
        if self.purpose == Purpose::Refill {
            self.tell_filled(steps);
            match &self.standing {
                None => {
                    steps.push(Step::Standing);
                    self.open = Open::Standing;
                    self.due = now + ANSWER_WITHIN;
                    return;
                }
                // Its digests do not show yet what it took by then (C5).
                Some(standing) if self.peer_durable < standing.appended => return,
                Some(_) => {}
            }
        }
        if self.todo.is_empty() && now >= self.later_at {
            self.todo.extend(self.later.drain(..));
        }
        if now >= self.rows_at
            && let Some(question) = self.differing.pop_front()
        {
            self.ask_rows(now, question, steps);
        } else if !self.todo.is_empty() {
            let count = self.todo.len().min(TREES_PER_ASK);
            let asked: Vec<Walking> = self.todo.drain(..count).collect();
            steps.push(Step::Trees(asked.iter().map(Walking::question).collect()));
            self.open = Open::Trees(asked);
            self.due = now + ANSWER_WITHIN;
        } else if self.later.is_empty() && self.differing.is_empty() {
            steps.push(Step::End(self.tally));
        }
    }

    fn tell_filled(&mut self, steps: &mut Vec<Step>) {
        if let Some(done) = self.comparing.take_if(|comparing| comparing.is_last)
            && done.failed == 0
        {
            self.filled.push((done.keyspace, done.vnode));
        }
        let filled = self.filled.drain(..);
        steps.extend(filled.map(|(keyspace, vnode)| Step::Filled(keyspace, vnode)));
    }

    fn ask_rows(&mut self, now: MonoTime, question: RowQuestion, steps: &mut Vec<Step>) {
        steps.push(Step::Rows(question.clone()));
        self.open = Open::Rows(Rows {
            question,
            own: None,
            theirs: None,
        });
        self.due = now + ANSWER_WITHIN;
    }

    /// The peer told how it stands.
    ///
    /// # Errors
    /// [`Unfit`] if it was not asked.
    pub fn standing_told(&mut self, standing: ReplicaStanding) -> Result<(), Unfit> {
        let Open::Standing = self.open else {
            return Err(Unfit);
        };
        self.open = Open::Nothing;
        self.standing = Some(standing);
        Ok(())
    }

    /// The peer says that everything up to `durable` is.
    pub fn peer_is_durable_to(&mut self, durable: Lsn) {
        self.peer_durable = self.peer_durable.max(durable);
    }

    /// How the peer stood when it was asked.
    #[must_use]
    pub const fn standing(&self) -> Option<&ReplicaStanding> {
        self.standing.as_ref()
    }

    /// The peer told hashes; `held` are the own answers to the same questions, of this moment.
    ///
    /// # Errors
    /// [`Unfit`] if they are none to what was asked.
    pub fn trees_told(
        &mut self,
        now: MonoTime,
        held: &[Vec<NodeHash>],
        told: &[Vec<NodeHash>],
    ) -> Result<(), Unfit> {
        let Open::Trees(asked) = std::mem::replace(&mut self.open, Open::Nothing) else {
            return Err(Unfit);
        };
        if held.len() != asked.len() || told.len() != asked.len() {
            return Err(Unfit);
        }
        for (mut compared, (held, told)) in asked.into_iter().zip(held.iter().zip(told)) {
            let next = compared.walk.answered(held, told).map_err(|_| Unfit)?;
            match next {
                Next::Ask => self.todo.push_back(compared),
                Next::AskLater => {
                    self.later_at = now + CONFIRM_AFTER;
                    self.later.push(compared);
                }
                Next::Same if self.purpose == Purpose::Refill => {
                    self.filled.push((compared.keyspace, compared.vnode));
                }
                Next::Same => {}
                Next::Differ(buckets) => self.differ(&compared, buckets),
            }
        }
        Ok(())
    }

    fn differ(&mut self, compared: &Walking, buckets: BTreeSet<BucketId>) {
        self.tally.vnodes_differing += 1;
        self.tally.buckets += u64::try_from(buckets.len()).unwrap_or(u64::MAX);
        self.differing.push_back(RowQuestion {
            keyspace: compared.keyspace,
            vnode: compared.vnode,
            buckets,
            from: Bytes::new(),
        });
    }

    /// A page of rows is there, of this node or of the peer.
    ///
    /// # Errors
    /// [`Unfit`] if none is asked for.
    pub fn rows_read(&mut self, is_own: bool, page: RowPage) -> Result<(), Unfit> {
        let Open::Rows(rows) = &mut self.open else {
            return Err(Unfit);
        };
        let side = if is_own {
            &mut rows.own
        } else {
            &mut rows.theirs
        };
        *side = Some(page);
        if rows.own.is_some() && rows.theirs.is_some() {
            let open = std::mem::replace(&mut self.open, Open::Nothing);
            if let Open::Rows(rows) = open {
                let (own, theirs) = (
                    rows.own.unwrap_or_default(),
                    rows.theirs.unwrap_or_default(),
                );
                self.compare(rows.question, own, theirs);
            }
        }
        Ok(())
    }

    /// Rows cannot be told now, at the peer or here: they are asked for again after a while.
    pub fn postpone_rows(&mut self, now: MonoTime) {
        if let Open::Rows(rows) = std::mem::replace(&mut self.open, Open::Nothing) {
            self.differing.push_front(rows.question);
            self.rows_at = now + POSTPONE;
        }
    }

    /// Finds the keys that differ, as far as both pages are complete.
    fn compare(&mut self, question: RowQuestion, own: RowPage, theirs: RowPage) {
        let until = match (&own.until, &theirs.until) {
            (Some(one), Some(other)) => Some(one.min(other).clone()),
            (one, other) => one.clone().or_else(|| other.clone()),
        };
        self.has_moved = true;
        let is_told = |row: &ExchangeRow| until.as_ref().is_none_or(|until| row.key < *until);
        let mut own = own.rows.into_iter().filter(is_told).peekable();
        let mut theirs = theirs.rows.into_iter().filter(is_told).peekable();
        let (keyspace, vnode) = (question.keyspace, question.vnode);
        let same = self.comparing.take();
        let same = same.filter(|page| (page.keyspace, page.vnode) == (keyspace, vnode));
        self.comparing = Some(Comparing {
            keyspace,
            vnode,
            failed: same.map_or(0, |page| page.failed),
            is_last: until.is_none(),
        });
        loop {
            let order = match (own.peek(), theirs.peek()) {
                (None, None) => break,
                (Some(one), Some(other)) => one.key.cmp(&other.key),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
            };
            let one = order.is_le().then(|| own.next()).flatten();
            let other = order.is_ge().then(|| theirs.next()).flatten();
            let digest = |row: &Option<ExchangeRow>| row.as_ref().map(|row| row.digest);
            if digest(&one) == digest(&other) {
                continue;
            }
            self.tally.keys += 1;
            let rows = [&one, &other];
            let bytes = rows.into_iter().flatten().map(|row| u64::from(row.bytes));
            let bytes = bytes.sum::<u64>();
            self.tally.bytes += bytes;
            if let (Purpose::Heal | Purpose::Refill, Some(row)) = (self.purpose, one.or(other)) {
                self.keys.push_back((row.key, bytes));
            }
        }
        if let Some(from) = until {
            self.differing.push_front(RowQuestion { from, ..question });
        }
    }

    /// Since when nothing has been brought together of a vnode whose rows are being compared;
    /// `None` between vnodes. Who ends the exchange in the middle of one begins that vnode's rows
    /// again.
    #[must_use]
    pub fn stands_in_a_vnode_since(&self) -> Option<MonoTime> {
        let is_begun = self.comparing.as_ref().is_some_and(|of| !of.is_last);
        (is_begun || !self.keys.is_empty()).then_some(self.moved_at)
    }

    /// The get of a key has ended.
    pub fn healed(&mut self, is_healed: bool) {
        self.healing = self.healing.saturating_sub(1);
        if is_healed {
            self.has_moved = true;
            self.tally.healed += 1;
        } else {
            self.tally.failed += 1;
            if let Some(comparing) = &mut self.comparing {
                comparing.failed += 1;
                if self.purpose == Purpose::Refill && comparing.failed >= FAILURES_MAX {
                    self.keys.clear();
                    let copy = (comparing.keyspace, comparing.vnode);
                    self.differing
                        .retain(|rows| (rows.keyspace, rows.vnode) != copy);
                    comparing.is_last = true;
                }
            }
        }
    }

    /// Whether so many keys could not be healed that the rest is not tried.
    #[must_use]
    pub fn fails(&self) -> bool {
        self.purpose != Purpose::Refill && self.tally.failed >= FAILURES_MAX
    }

    /// What was found so far.
    #[must_use]
    pub const fn tally(&self) -> Tally {
        self.tally
    }
}

impl Walking {
    fn question(&self) -> TreeQuestion {
        TreeQuestion {
            keyspace: self.keyspace,
            vnode: self.vnode,
            question: self.walk.question().clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use quorate_antientropy::{
        BucketDigests, Digest, DigestChange, HoldingsChange, RecordChange, VnodeTree,
    };

    use super::*;

    const KEYSPACE: KeyspaceId = KeyspaceId(1);
    const VNODES: u16 = 20;

    /// A replica: records by vnode and key; key `n` is in bucket `n`.
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    struct Replica(BTreeMap<(u16, u16), u128>);

    impl Replica {
        fn trees(&self, questions: &[TreeQuestion]) -> Vec<Vec<NodeHash>> {
            let mut digests = BucketDigests::default();
            for ((vnode, key), record) in &self.0 {
                let change = RecordChange {
                    digest: DigestChange(*record),
                    holdings: HoldingsChange::default(),
                };
                digests.add(KEYSPACE, VnodeId(*vnode), BucketId(*key), change);
            }
            let answer = |asked: &TreeQuestion| {
                let tree = VnodeTree::of(&digests.vnode(KEYSPACE, asked.vnode));
                asked.question.answer(&tree)
            };
            questions.iter().map(answer).collect()
        }

        /// Pages of at most `most` rows.
        fn rows(&self, question: &RowQuestion, most: usize) -> RowPage {
            let all = self.0.iter().filter(|((vnode, key), _)| {
                *vnode == question.vnode.0
                    && question.buckets.contains(&BucketId(*key))
                    && name(*key) >= question.from
            });
            let mut rows: Vec<ExchangeRow> = all
                .map(|((_, key), record)| ExchangeRow {
                    key: name(*key),
                    digest: Digest(*record),
                    bytes: 10,
                })
                .collect();
            let until = rows.get(most).map(|row| row.key.clone());
            rows.truncate(most);
            RowPage { rows, until }
        }
    }

    fn name(key: u16) -> Bytes {
        Bytes::from(format!("{key:05}"))
    }

    /// Runs an exchange to its end; what a heal does is to take the greater record.
    fn exchange(
        purpose: Purpose,
        own: &mut Replica,
        other: &mut Replica,
        page: (usize, usize),
    ) -> Tally {
        let vnodes = (0..VNODES).map(|vnode| (KEYSPACE, VnodeId(vnode)));
        let mut machine = ExchangeMachine::new(purpose, vnodes);
        let mut now = MonoTime::from_micros(5);
        for _ in 0..10_000 {
            let mut steps = Vec::new();
            machine.go_on(now, u64::MAX, &mut steps);
            if steps.is_empty() {
                now = now + CONFIRM_AFTER;
            }
            while let Some(step) = steps.pop() {
                match step {
                    Step::Standing => {
                        let standing = ReplicaStanding {
                            appended: Lsn(9),
                            lacks: BTreeMap::new(),
                            numbers: Vec::new(),
                        };
                        machine.standing_told(standing).expect("it was asked for");
                        let mut early = Vec::new();
                        machine.peer_is_durable_to(Lsn(8));
                        machine.go_on(now, u64::MAX, &mut early);
                        assert_eq!(early, [], "the peer took more than its digests show");
                        machine.peer_is_durable_to(Lsn(9));
                    }
                    Step::Trees(questions) => {
                        assert!(questions.len() <= TREES_PER_ASK);
                        let (held, told) = (own.trees(&questions), other.trees(&questions));
                        machine.trees_told(now, &held, &told).expect("it fits");
                    }
                    Step::Rows(question) => {
                        let theirs = other.rows(&question, page.1);
                        let theirs = machine.rows_read(false, theirs);
                        theirs.expect("it was asked for");
                        let page = own.rows(&question, page.0);
                        let own = machine.rows_read(true, page);
                        own.expect("it was asked for");
                    }
                    Step::Heal(_, key, _) => {
                        let key: u16 = std::str::from_utf8(&key)
                            .expect("text")
                            .parse()
                            .expect("a number");
                        for vnode in 0..VNODES {
                            let place = (vnode, key);
                            let newer = own.0.get(&place).max(other.0.get(&place)).copied();
                            if let Some(newer) = newer {
                                own.0.insert(place, newer);
                                other.0.insert(place, newer);
                            }
                        }
                        machine.healed(true);
                    }
                    Step::Filled(..) => assert_eq!(purpose, Purpose::Refill),
                    Step::End(tally) => return tally,
                }
            }
        }
        panic!("it does not end");
    }

    fn two() -> (Replica, Replica) {
        let mut own = Replica::default();
        for vnode in 0..VNODES {
            for key in 0..50 {
                own.0.insert(
                    (vnode, key),
                    1 + u128::from(vnode) * 1_000 + u128::from(key),
                );
            }
        }
        (own.clone(), own)
    }

    #[test]
    fn copies_that_agree_are_compared_and_left_alone() {
        let (mut own, mut other) = two();
        let tally = exchange(Purpose::Heal, &mut own, &mut other, (9, 9));
        let vnodes = u64::from(VNODES);
        let want = Tally {
            vnodes,
            ..Tally::default()
        };
        assert_eq!(tally, want);
    }

    #[test]
    fn all_that_differs_is_found_once_and_healed_whatever_the_pages_hold() {
        for page in [(1, 1), (2, 5), (5, 2), (100, 1), (100, 100)] {
            let (mut own, mut other) = two();
            // Newer here, newer there, missing here, missing there.
            own.0.insert((3, 7), u128::MAX);
            other.0.insert((3, 8), u128::MAX);
            own.0.remove(&(3, 9));
            other.0.remove(&(11, 49));
            other.0.insert((12, 900), 5);
            let look = exchange(Purpose::Look, &mut own, &mut other, page);
            assert_eq!((look.keys, look.healed, look.bytes), (5, 0, 70), "{page:?}");
            assert_ne!(own, other);
            let tally = exchange(Purpose::Heal, &mut own, &mut other, page);
            assert_eq!((tally.vnodes_differing, tally.buckets), (3, 5), "{page:?}");
            assert_eq!((tally.keys, tally.healed), (5, 5), "{page:?}");
            assert_eq!(own, other);
            let again = exchange(Purpose::Heal, &mut own, &mut other, page);
            assert_eq!(again.keys, 0);
        }
    }

    #[test]
    fn a_vnode_whose_rows_are_being_compared_is_not_left_while_it_moves() {
        let at = MonoTime::from_micros;
        let mut machine = ExchangeMachine::new(Purpose::Heal, [(KEYSPACE, VnodeId(0))]);
        machine.todo.clear();
        machine.differing.push_back(RowQuestion {
            keyspace: KEYSPACE,
            vnode: VnodeId(0),
            buckets: BTreeSet::from([BucketId(1)]),
            from: Bytes::new(),
        });
        let row = |key| ExchangeRow {
            key: name(key),
            digest: Digest(1),
            bytes: 10,
        };
        let tell = |machine: &mut ExchangeMachine, own: &[u16], until: Option<u16>| {
            let page = RowPage {
                rows: own.iter().copied().map(row).collect(),
                until: until.map(name),
            };
            let until = until.map(name);
            let rows = Vec::new();
            machine.rows_read(true, page).expect("it was asked for");
            let theirs = machine.rows_read(false, RowPage { rows, until });
            theirs.expect("it was asked for");
        };
        let mut steps = Vec::new();
        machine.go_on(at(1), u64::MAX, &mut steps);
        assert_eq!(machine.stands_in_a_vnode_since(), None, "nothing is read");
        tell(&mut machine, &[1], Some(2));
        machine.go_on(at(2), u64::MAX, &mut steps);
        assert_eq!(machine.stands_in_a_vnode_since(), Some(at(2)));
        machine.go_on(at(3), u64::MAX, &mut steps);
        assert_eq!(machine.stands_in_a_vnode_since(), Some(at(2)), "no move");
        machine.healed(true);
        machine.go_on(at(4), u64::MAX, &mut steps);
        assert_eq!(machine.stands_in_a_vnode_since(), Some(at(4)));
        tell(&mut machine, &[3], None);
        assert!(machine.stands_in_a_vnode_since().is_some(), "a key is left");
        machine.go_on(at(5), u64::MAX, &mut steps);
        assert_eq!(machine.stands_in_a_vnode_since(), None);
    }

    #[test]
    fn a_refill_tells_each_copy_whose_keys_all_came_and_no_other() {
        let (mut own, other) = two();
        // Two pages of one vnode, of which a key of the first one cannot be had; a key of another.
        for key in [5, 30, 31] {
            own.0.remove(&(3, key));
        }
        own.0.remove(&(4, 1));
        let vnodes = (0..6).map(|vnode| (KEYSPACE, VnodeId(vnode)));
        let mut machine = ExchangeMachine::new(Purpose::Refill, vnodes);
        machine.peer_is_durable_to(Lsn(1));
        let (mut now, mut filled, mut at) = (MonoTime::ZERO, Vec::new(), VnodeId(0));
        loop {
            let mut steps = Vec::new();
            machine.go_on(now, u64::MAX, &mut steps);
            now = now + CONFIRM_AFTER;
            for step in steps {
                match step {
                    Step::Standing => {
                        let standing = ReplicaStanding {
                            appended: Lsn(1),
                            lacks: BTreeMap::new(),
                            numbers: Vec::new(),
                        };
                        machine.standing_told(standing).expect("it was asked for");
                    }
                    Step::Trees(questions) => {
                        let (held, told) = (own.trees(&questions), other.trees(&questions));
                        machine.trees_told(now, &held, &told).expect("it fits");
                    }
                    Step::Rows(question) => {
                        at = question.vnode;
                        let pages = [(false, &other), (true, &own)];
                        for (is_own, side) in pages {
                            let page = side.rows(&question, 1);
                            machine.rows_read(is_own, page).expect("it was asked for");
                        }
                    }
                    Step::Heal(_, key, _) => machine.healed(!(at == VnodeId(3) && key == name(5))),
                    Step::Filled(_, vnode) => filled.push(vnode.0),
                    Step::End(tally) => {
                        assert_eq!((tally.healed, tally.failed), (3, 1));
                        filled.sort_unstable();
                        assert_eq!(filled, [0, 1, 2, 4, 5]);
                        return;
                    }
                }
            }
        }
    }

    #[test]
    fn answers_that_fit_no_question_are_refused() {
        let mut machine = ExchangeMachine::new(Purpose::Heal, [(KEYSPACE, VnodeId(0))]);
        let (now, mut steps) = (MonoTime::ZERO, Vec::new());
        let page = RowPage::default();
        assert_eq!(
            machine.rows_read(false, page),
            Err(Unfit),
            "no rows were asked for"
        );
        machine.go_on(now, u64::MAX, &mut steps);
        let [hash, other] = [1, 2].map(|hash| vec![NodeHash(hash)]);
        let told = machine.trees_told(now, std::slice::from_ref(&hash), &[hash.clone(), other]);
        assert_eq!(told, Err(Unfit), "one tree was asked for");
    }

    #[test]
    fn an_answer_is_late_only_while_one_is_awaited() {
        let mut machine = ExchangeMachine::new(Purpose::Heal, [(KEYSPACE, VnodeId(0))]);
        let mut steps = Vec::new();
        assert!(!machine.is_late(MonoTime::from_micros(u64::MAX)));
        machine.go_on(MonoTime::ZERO, u64::MAX, &mut steps);
        assert!(!machine.is_late(MonoTime::ZERO));
        assert!(machine.is_late(MonoTime::ZERO + ANSWER_WITHIN));
    }
}
