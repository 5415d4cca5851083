//! What work in the background may cost: hints, exchanges, refills, purges and the slow read share
//! one budget, which clients' waiting steers.
//!
//! A cost is in bytes: what is read, compared or sent, with a fixed part for each record and
//! question. The budget's rate lies between a floor, at which repair goes on whatever clients do,
//! and a ceiling. It rises steadily while clients are answered in time and halves with each window
//! in which more than one request of a hundred is late (additive increase, multiplicative decrease;
//! Chiu and Jain, Computer Networks 17, 1989). Late is what was answered after the target, what was
//! shed, and what had no answer yet although it was there when the window began: a node that
//! answers nothing is not at rest. The target is a setting and not measured, because whatever is
//! measured beside work in the background is partly what that work has made of it.
//!
//! Each kind of work has an account of its own, so that none waits for another one's debt. Kinds
//! that want something share what comes in by their weights; what finds no room in their accounts
//! is for the others. Work may begin while its account is above zero, and is charged what it cost
//! once that is known.
//!
//! Invariants:
//! - what is charged in any time, without what was forgiven, is at most the ceiling for that time,
//!   what the accounts can save and their debts ([`Budget::burst_max`]);
//! - a kind that wants something gets its share of the floor at least;
//! - an account owes at most what the floor brings in [`DEBT_MAX`]. What is over that was done and
//!   is forgiven, because repair must not stand still for one large answer; it is counted.
//!
//! Not here: what is done with the right to begin (`shard::hints`, `shard::exchange`,
//! `shard::exchange_replica`, `shell::scrub`).

use std::time::Duration;

use quorate_ring::MonoTime;

/// The least rate, in bytes per second: some 700 records of 1 KiB, a tenth of a core.
pub const FLOOR: u64 = 2 << 20;

/// What one record costs beside its bytes, where it is looked up by its key, sent and acknowledged.
pub const RECORD_COST: u64 = 1 << 10;

/// What a row costs beside its bytes, where many are read in order.
pub const ROW_COST: u64 = 64;

/// What the hashes of one vnode cost: most questions are answered by a root that is at hand.
pub const TREE_COST: u64 = 512;

/// An account's debt is at most what the floor brings in this time; alone it is paid within it, and
/// with all other kinds active within this time divided by its share.
pub const DEBT_MAX: Duration = Duration::from_secs(2);

/// An account saves what this part of a second brings: a little more than the time between two
/// ticks.
const SAVED_ONE_IN: i64 = 16;

/// From nothing to the ceiling in this time, while all is well.
const RISES_IN: Duration = Duration::from_secs(8);

/// How often the rate is set anew, if there were enough requests by then; and at the latest.
const WINDOW: Duration = Duration::from_millis(500);
const WINDOW_MAX: Duration = Duration::from_secs(2);

/// With fewer requests one that is late says nothing.
const REQUESTS_MIN: u64 = 100;

/// One request in so many may be late: the target is for the 99th percentile.
const LATE_ONE_IN: u64 = 100;

/// A kind that asked within this time has a share.
const WANTS_FOR: Duration = Duration::from_millis(200);

/// A kind that was refused within this time is told as waiting.
const WAITS_FOR: Duration = Duration::from_secs(1);

const MICROS: u64 = 1_000_000;

/// A kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Getting back what this node forgot: until then it spares clients nothing.
    Refill,
    /// Bringing others what they missed.
    Hint,
    /// Exchanges that this node began.
    Exchange,
    /// Rows told to nodes that began exchanges.
    Answer,
    /// Looking for deleted keys.
    Purge,
    /// Reading everything against its digests.
    Scrub,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Refill,
        Self::Hint,
        Self::Exchange,
        Self::Answer,
        Self::Purge,
        Self::Scrub,
    ];

    /// Its label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refill => "refill",
            Self::Hint => "hint",
            Self::Exchange => "exchange",
            Self::Answer => "answer",
            Self::Purge => "purge",
            Self::Scrub => "scrub",
        }
    }

    /// Its share among kinds that want something. A refill comes first: the cluster has a copy
    /// less.
    const fn weight(self) -> i64 {
        match self {
            Self::Refill => 4,
            Self::Hint | Self::Exchange | Self::Answer => 2,
            Self::Purge | Self::Scrub => 1,
        }
    }
}

/// Settings of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetLimits {
    /// The ceiling, in bytes per second. Below [`FLOOR`] it is the floor as well.
    pub rate_max: u64,
    /// In the background less is done while more than one request in a hundred takes longer.
    pub latency_target: Duration,
}

impl Default for BudgetLimits {
    fn default() -> Self {
        Self {
            rate_max: 64 << 20,
            // Two syncs of a slow disk, as in `admission`.
            latency_target: Duration::from_millis(100),
        }
    }
}

/// How a budget stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BudgetStatus {
    /// Bytes per second.
    pub rate: u64,
    /// Bytes over the bound of a debt, since the start.
    pub forgiven: u64,
    /// By kind: bytes charged since the start, and whether it waited within the last second.
    pub kinds: Vec<(Kind, u64, bool)>,
}

#[derive(Debug, Clone, Copy)]
struct Account {
    kind: Kind,
    /// Below zero is a debt.
    balance: i64,
    charged: u64,
    asked: Option<MonoTime>,
    refused: Option<MonoTime>,
}

/// The budget of a shard.
#[derive(Debug)]
pub struct Budget {
    limits: BudgetLimits,
    rate: u64,
    accounts: [Account; Kind::ALL.len()],
    filled_at: MonoTime,
    /// Millionths of a byte that were not given out.
    carry: u64,
    forgiven: u64,
    window_began: MonoTime,
    /// Requests without an answer when the window began.
    open_before: u64,
    answers: u64,
    late: u64,
    is_crowded: bool,
}

impl Budget {
    /// At a quarter of its ceiling: nothing is known yet.
    #[must_use]
    pub fn new(now: MonoTime, limits: BudgetLimits) -> Self {
        let account = |kind| Account {
            kind,
            balance: 0,
            charged: 0,
            asked: None,
            refused: None,
        };
        let limits = BudgetLimits {
            rate_max: limits.rate_max.max(1),
            ..limits
        };
        let mut budget = Self {
            limits,
            rate: 0,
            accounts: Kind::ALL.map(account),
            filled_at: now,
            carry: 0,
            forgiven: 0,
            window_began: now,
            open_before: 0,
            answers: 0,
            late: 0,
            is_crowded: false,
        };
        budget.rate = (limits.rate_max / 4).max(budget.floor());
        let saved = budget.saved_max();
        for account in &mut budget.accounts {
            account.balance = saved;
        }
        budget
    }

    /// Whether work of this kind, of which there is some, may begin now.
    pub fn may(&mut self, now: MonoTime, kind: Kind) -> bool {
        self.fill(now);
        let account = self.account(kind);
        account.asked = Some(now);
        let may = account.balance > 0;
        if !may {
            account.refused = Some(now);
        }
        may
    }

    /// What the account of this kind holds; 0 if it owes.
    #[must_use]
    pub fn left(&self, kind: Kind) -> u64 {
        let account = self.accounts.iter().find(|account| account.kind == kind);
        let balance = account.map_or(0, |account| account.balance);
        u64::try_from(balance).unwrap_or(0)
    }

    /// Work of this kind was done, or is begun.
    pub fn charge(&mut self, now: MonoTime, kind: Kind, cost: u64) {
        self.fill(now);
        let least = -self.debt_max();
        let account = self.account(kind);
        account.charged = account.charged.saturating_add(cost);
        let owed = i64::try_from(cost).unwrap_or(i64::MAX);
        let balance = account.balance.saturating_sub(owed);
        account.balance = balance.max(least);
        let over = least.saturating_sub(balance);
        self.forgiven += u64::try_from(over).unwrap_or(0);
    }

    /// A client was answered `took` after its request had come.
    pub fn answered(&mut self, took: Duration) {
        self.answers += 1;
        self.late += u64::from(took > self.limits.latency_target);
    }

    /// A client was refused because too much is under way.
    pub fn shed(&mut self) {
        self.answers += 1;
        self.late += 1;
    }

    /// Clients find no room.
    pub fn crowded(&mut self) {
        self.is_crowded = true;
    }

    /// Sets the rate anew if it is time; `open` requests have no answer yet. Several times a
    /// second.
    pub fn observe(&mut self, now: MonoTime, open: usize) {
        let open = u64::try_from(open).unwrap_or(u64::MAX);
        let span = now.since(self.window_began);
        // Answers may be to newer ones, so that at least so many are as old as the window.
        let old = self.open_before.saturating_sub(self.answers).min(open);
        let (requests, late) = (self.answers + old, self.late + old);
        let least = self.window();
        if span < least || requests < REQUESTS_MIN && span < WINDOW_MAX {
            return;
        }
        self.fill(now);
        let is_over = late.saturating_mul(LATE_ONE_IN) > requests;
        if self.is_crowded || is_over && (late > 1 || requests >= REQUESTS_MIN) {
            self.rate = (self.rate / 2).max(self.floor());
        } else if !is_over {
            // A process that stood still learned nothing meanwhile.
            let span = span.min(WINDOW_MAX);
            let rises = self.limits.rate_max / millis(RISES_IN) * millis(span);
            self.rate = (self.rate + rises.max(1)).min(self.limits.rate_max);
        }
        self.window_began = now;
        self.open_before = open;
        (self.answers, self.late, self.is_crowded) = (0, 0, false);
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self, now: MonoTime) -> BudgetStatus {
        let of = |account: &Account| {
            let refused = account.refused;
            let waits = refused.is_some_and(|at| now.since(at) < WAITS_FOR);
            (account.kind, account.charged, waits)
        };
        BudgetStatus {
            rate: self.rate,
            forgiven: self.forgiven,
            kinds: self.accounts.iter().map(of).collect(),
        }
    }

    /// What may be charged beyond the ceiling's rate: what all accounts can save, and their debts.
    #[must_use]
    pub fn burst_max(&self) -> u64 {
        let accounts = u64::try_from(Kind::ALL.len()).unwrap_or(u64::MAX);
        let saved = self.limits.rate_max / SAVED_ONE_IN.unsigned_abs() + 1;
        accounts * (saved + self.debt_max().unsigned_abs())
    }

    /// So long that what waits all of it is late, but never so long that the rate is not set: at a
    /// target over [`WINDOW_MAX`] a request is late earlier if it has no answer.
    fn window(&self) -> Duration {
        self.limits.latency_target.clamp(WINDOW, WINDOW_MAX)
    }

    fn floor(&self) -> u64 {
        FLOOR.min(self.limits.rate_max)
    }

    fn debt_max(&self) -> i64 {
        let debt = self.floor().saturating_mul(DEBT_MAX.as_secs());
        i64::try_from(debt).unwrap_or(i64::MAX)
    }

    fn saved_max(&self) -> i64 {
        let rate = i64::try_from(self.rate).unwrap_or(i64::MAX);
        (rate / SAVED_ONE_IN).max(1)
    }

    fn account(&mut self, kind: Kind) -> &mut Account {
        let account = self
            .accounts
            .iter_mut()
            .find(|account| account.kind == kind);
        account.expect("every kind has one")
    }

    fn fill(&mut self, now: MonoTime) {
        // A pause of the process is not made up for.
        let micros = now.since(self.filled_at).as_micros().min(MICROS.into());
        self.filled_at = self.filled_at.max(now);
        let micros = u64::try_from(micros).unwrap_or(MICROS);
        let fresh = self.rate.saturating_mul(micros).saturating_add(self.carry);
        self.carry = fresh % MICROS;
        let fresh = i64::try_from(fresh / MICROS).unwrap_or(i64::MAX);
        let wants = |account: &Account| {
            let asked = account.asked;
            account.balance < 0 || asked.is_some_and(|at| now.since(at) < WANTS_FOR)
        };
        let rest = self.share_out(fresh, wants);
        self.share_out(rest, |_| true);
    }

    /// Gives an amount to some of the accounts by their weights; what they have no room for is
    /// left.
    fn share_out(&mut self, mut amount: i64, gets: impl Fn(&Account) -> bool) -> i64 {
        let most = self.saved_max();
        let getting = self.accounts.map(|account| gets(&account));
        while amount > 0 {
            let accounts = self.accounts.iter_mut().zip(getting);
            let open = accounts.filter(|(account, gets)| *gets && account.balance < most);
            let open: Vec<&mut Account> = open.map(|(account, _)| account).collect();
            let weights: i64 = open.iter().map(|account| account.kind.weight()).sum();
            if weights == 0 {
                break;
            }
            let whole = amount;
            for account in open {
                let share = whole / weights * account.kind.weight()
                    + whole % weights * account.kind.weight() / weights;
                // At least a byte, so that this ends.
                let share = share.max(1).min(amount).min(most - account.balance);
                account.balance += share;
                amount -= share;
            }
        }
        amount
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STEP: Duration = Duration::from_millis(10);
    const QUICK: Duration = Duration::from_millis(8);
    const SLOW: Duration = Duration::from_millis(180);
    const CEILING: u64 = 64 << 20;

    /// A budget in use: time passes in steps, in which clients are answered and work takes what it
    /// gets.
    struct Lab {
        budget: Budget,
        now: MonoTime,
    }

    impl Lab {
        fn new() -> Self {
            let now = MonoTime::from_micros(1);
            Self {
                budget: Budget::new(now, BudgetLimits::default()),
                now,
            }
        }

        /// What each kind of work got in a time, in pieces of 4 KiB. In each step `answers` clients
        /// are answered within `took`, and `open` wait.
        fn run(
            &mut self,
            time: Duration,
            (answers, took, open): (u32, Duration, usize),
            kinds: &[Kind],
        ) -> Vec<u64> {
            let mut done = vec![0; kinds.len()];
            let end = self.now + time;
            while self.now < end {
                self.now = self.now + STEP;
                (0..answers).for_each(|_| self.budget.answered(took));
                self.budget.observe(self.now, open);
                for (kind, done) in kinds.iter().zip(&mut done) {
                    while self.budget.may(self.now, *kind) {
                        self.budget.charge(self.now, *kind, 4 << 10);
                        *done += 4 << 10;
                    }
                }
            }
            done
        }

        fn rate(&self) -> u64 {
            self.budget.status(self.now).rate
        }
    }

    const NOBODY: (u32, Duration, usize) = (0, QUICK, 0);
    const CONTENT: (u32, Duration, usize) = (5, QUICK, 3);
    const LATE: (u32, Duration, usize) = (5, SLOW, 90);

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn it_rises_to_its_ceiling_while_clients_are_content_or_not_there() {
        for load in [NOBODY, CONTENT] {
            let mut lab = Lab::new();
            lab.run(seconds(10), load, &[]);
            assert_eq!(lab.rate(), CEILING);
            let done = lab.run(seconds(2), load, &[Kind::Exchange]);
            assert!(done[0] >= 2 * CEILING - CEILING / 10, "{done:?}");
        }
    }

    #[test]
    fn late_answers_lower_it_to_its_floor_where_work_goes_on_and_it_comes_back() {
        let mut lab = Lab::new();
        lab.run(seconds(10), CONTENT, &[]);
        lab.run(seconds(5), LATE, &[Kind::Hint]);
        assert_eq!(lab.rate(), FLOOR);
        let done = lab.run(seconds(20), LATE, &[Kind::Hint]);
        let floor = 20 * FLOOR;
        assert!(done[0].abs_diff(floor) < floor / 50, "{done:?}");
        assert!(lab.budget.status(lab.now).kinds[1].2, "it waits");
        lab.run(seconds(10), CONTENT, &[Kind::Hint]);
        assert_eq!(lab.rate(), CEILING);
    }

    #[test]
    fn a_node_that_answers_nothing_is_not_at_rest() {
        let mut lab = Lab::new();
        lab.run(seconds(20), (0, QUICK, 4_000), &[Kind::Exchange]);
        assert_eq!(lab.rate(), FLOOR);
        // Nor one that answers few of many.
        let mut lab = Lab::new();
        for _ in 0..40 {
            lab.run(Duration::from_millis(500), (0, QUICK, 4_000), &[]);
            lab.budget.answered(QUICK);
        }
        assert_eq!(lab.rate(), FLOOR);
    }

    #[test]
    fn who_is_shed_is_late_and_so_is_who_finds_no_room() {
        let mut lab = Lab::new();
        for _ in 0..1_000 {
            lab.run(STEP, CONTENT, &[]);
            lab.budget.shed();
        }
        assert_eq!(lab.rate(), FLOOR);
        let mut lab = Lab::new();
        for _ in 0..1_000 {
            lab.run(STEP, CONTENT, &[]);
            lab.budget.crowded();
        }
        assert_eq!(lab.rate(), FLOOR);
    }

    #[test]
    fn being_slow_for_long_does_not_become_what_is_usual() {
        let mut lab = Lab::new();
        lab.run(seconds(600), LATE, &[Kind::Exchange]);
        assert_eq!(lab.rate(), FLOOR);
    }

    #[test]
    fn one_late_answer_of_few_changes_nothing() {
        let mut lab = Lab::new();
        lab.run(seconds(10), NOBODY, &[]);
        for _ in 0..10 {
            lab.budget.answered(SLOW);
            lab.run(seconds(2), NOBODY, &[]);
        }
        assert_eq!(lab.rate(), CEILING);
    }

    #[test]
    fn a_target_of_any_length_leaves_the_window_within_its_bounds() {
        let target_and_window = [
            (Duration::ZERO, WINDOW),
            (Duration::from_millis(1), WINDOW),
            (Duration::from_millis(700), Duration::from_millis(700)),
            (seconds(10), WINDOW_MAX),
            (Duration::MAX, WINDOW_MAX),
        ];
        for (latency_target, window) in target_and_window {
            let limits = BudgetLimits {
                latency_target,
                ..BudgetLimits::default()
            };
            let mut lab = Lab::new();
            lab.budget = Budget::new(lab.now, limits);
            assert_eq!(lab.budget.window(), window, "{latency_target:?}");
            // Nobody is answered.
            let before = lab.rate();
            lab.run(2 * WINDOW_MAX + STEP, (0, QUICK, 4_000), &[]);
            assert!(lab.rate() < before, "{latency_target:?}");
        }
    }

    #[test]
    fn kinds_that_want_something_share_by_their_weights() {
        let mut lab = Lab::new();
        let done = lab.run(seconds(60), LATE, &Kind::ALL);
        let all: u64 = done.iter().sum();
        for (kind, done) in Kind::ALL.into_iter().zip(&done) {
            let share = all * kind.weight().unsigned_abs() / 12;
            assert!(
                done.abs_diff(share) < share / 10,
                "{kind:?}: {done} {share}"
            );
        }
        // What one leaves is for the other.
        let two = [Kind::Exchange, Kind::Scrub];
        let done = lab.run(seconds(20), LATE, &two);
        assert!(done[0].abs_diff(2 * done[1]) < done[0] / 10, "{done:?}");
    }

    #[test]
    fn a_large_answer_is_waited_for_as_long_as_the_floor_takes_and_no_longer() {
        let mut lab = Lab::new();
        lab.run(seconds(10), LATE, &[]);
        lab.budget.charge(lab.now, Kind::Exchange, 1 << 30);
        let forgiven = lab.budget.status(lab.now).forgiven;
        assert!(forgiven > (1 << 30) - 2 * FLOOR - FLOOR, "{forgiven}");
        assert!(lab.budget.may(lab.now, Kind::Hint), "it owes nothing");
        let wait = DEBT_MAX - Duration::from_millis(100);
        assert_eq!(lab.run(wait, LATE, &[Kind::Exchange]), [0]);
        let done = lab.run(Duration::from_millis(300), LATE, &[Kind::Exchange]);
        assert!(done[0] > 0);
    }

    #[test]
    fn a_pause_is_not_made_up_for() {
        let mut lab = Lab::new();
        lab.run(seconds(10), CONTENT, &[]);
        lab.now = lab.now + seconds(3_600);
        let done = lab.run(STEP, NOBODY, &Kind::ALL);
        let saved = CEILING / 16 * Kind::ALL.len() as u64;
        assert!(done.iter().sum::<u64>() <= saved + (1 << 20), "{done:?}");
    }

    #[test]
    fn a_ceiling_below_the_floor_is_both() {
        let limits = BudgetLimits {
            rate_max: 100_000,
            ..BudgetLimits::default()
        };
        let mut lab = Lab::new();
        lab.budget = Budget::new(lab.now, limits);
        let done = lab.run(seconds(100), LATE, &[Kind::Refill]);
        assert!(done[0].abs_diff(10_000_000) < 200_000, "{done:?}");
    }

    /// What happens between two moments.
    #[derive(Debug, Clone)]
    enum Act {
        Pass(u64),
        Work(usize, u64),
        Answer(u64),
        Observe(usize),
        Shed,
        Crowded,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            4 => (0u64..300_000).prop_map(Act::Pass),
            6 => (0..Kind::ALL.len(), 1u64..3_000_000).prop_map(|(kind, cost)| Act::Work(kind, cost)),
            3 => (0u64..400).prop_map(Act::Answer),
            3 => (0usize..5_000).prop_map(Act::Observe),
            1 => Just(Act::Shed),
            1 => Just(Act::Crowded),
        ]
    }

    proptest! {
        /// Whatever happens, what was done is within the ceiling for that time and one burst, and
        /// the rate between its bounds.
        #[test]
        fn never_over_the_ceiling(
            acts in proptest::collection::vec(act(), 0..400),
            rate_max in 1u64..200_000_000,
        ) {
            let began = MonoTime::from_micros(1);
            let limits = BudgetLimits { rate_max, ..BudgetLimits::default() };
            let mut budget = Budget::new(began, limits);
            let (mut now, mut done) = (began, 0u64);
            for act in acts {
                match act {
                    Act::Pass(micros) => now = now + Duration::from_micros(micros),
                    Act::Work(kind, cost) => {
                        if budget.may(now, Kind::ALL[kind]) {
                            budget.charge(now, Kind::ALL[kind], cost);
                            done += cost;
                        }
                    }
                    Act::Answer(millis) => budget.answered(Duration::from_millis(millis)),
                    Act::Observe(open) => budget.observe(now, open),
                    Act::Shed => budget.shed(),
                    Act::Crowded => budget.crowded(),
                }
                let status = budget.status(now);
                prop_assert!((FLOOR.min(rate_max)..=rate_max).contains(&status.rate));
                let time = now.since(began).as_micros();
                let most = u128::from(rate_max) * time / 1_000_000 + u128::from(budget.burst_max());
                prop_assert!(u128::from(done - status.forgiven) <= most);
            }
        }

        /// Whatever clients do, a kind that wants something gets its share of the floor, but for a
        /// debt.
        #[test]
        fn never_under_the_share_of_the_floor(
            loads in proptest::collection::vec((0u32..20, 0u64..400, 0usize..5_000), 1..8),
            wanting in proptest::sample::subsequence(Kind::ALL.to_vec(), 1..=Kind::ALL.len()),
        ) {
            let mut lab = Lab::new();
            let began = lab.now;
            let mut done = vec![0; wanting.len()];
            for (answers, took, open) in loads {
                let took = Duration::from_millis(took);
                let more = lab.run(seconds(1), (answers, took, open), &wanting);
                done.iter_mut().zip(more).for_each(|(done, more)| *done += more);
            }
            let weights: i64 = wanting.iter().map(|kind| kind.weight()).sum();
            let micros = u64::try_from(lab.now.since(began).as_micros()).expect("short");
            let floor = FLOOR * micros / MICROS;
            for (kind, done) in wanting.iter().zip(done) {
                let share = floor * kind.weight().unsigned_abs() / weights.unsigned_abs();
                prop_assert!(done + (8 << 10) >= share, "{:?}: {} of {}", kind, done, share);
            }
        }
    }
}
