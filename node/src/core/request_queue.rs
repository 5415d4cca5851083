//! Clients' requests that wait for the shard: taken connection by connection in turns, and bounded
//! in time as well as in number.
//!
//! More than a node can do makes a queue that never gets empty. Whatever its length, all that it
//! does is to make every request late, until clients have given up what is worked on and try again.
//! So the patience is long while the queue gets empty now and then (a burst, or what came while the
//! node did not come to run), and short once it has stood for a while: what waited longer is
//! refused, *not applied*, with advice when to try again, and what is taken is answered in time.
//! The rule is that of Maurer, "Fail at Scale", ACM Queue 13(8), 2015, after CoDel (Nichols and
//! Jacobson, ACM Queue 10(5), 2012).
//!
//! Turns are in work, not in requests (deficit round robin; Shreedhar and Varghese, SIGCOMM 1995):
//! a batch of a thousand keys owes the turns that a thousand requests would have taken, also when
//! nothing more of its connection waits: turns that nobody else wants are given to debts at once.
//!
//! Invariants: every request comes out once, in the order of its connection, taken or shed; who
//! floods one connection waits behind itself. Not here: how many may wait (the edge looks at
//! [`RequestQueue::len`] and [`RequestQueue::bytes`]).

use std::collections::VecDeque;

use quorate_ring::{FixedMap, MonoTime};

use super::input::Input;

/// Work that one connection gives before the next has its turn.
const WORK_PER_TURN: usize = 8;

/// A queue of which something was left at every take for so long stands.
const STANDING_MICROS: u64 = 100_000;

/// Longest wait in a queue that does not stand.
const BURST_WAIT_MICROS: u64 = 250_000;

/// Longest wait in a queue that stands.
const STANDING_WAIT_MICROS: u64 = 20_000;

/// Requests in the order in which they will be taken.
#[derive(Debug, Default)]
pub struct RequestQueue {
    /// Connections of which something waits, or that owe.
    waiting: FixedMap<u64, OfConnection>,
    /// The same, the next first.
    turns: VecDeque<u64>,
    len: usize,
    bytes: usize,
    /// Since when something has been left at every take.
    stands_since: Option<MonoTime>,
}

/// What waits of one connection.
#[derive(Debug, Default)]
struct OfConnection {
    requests: VecDeque<Input>,
    /// Work that it took beyond its turns.
    owes: usize,
}

impl OfConnection {
    /// Whether it has a place in [`RequestQueue::turns`], and its entry stays.
    fn has_turns(&self) -> bool {
        !self.requests.is_empty() || self.owes > 0
    }
}

impl RequestQueue {
    /// Queues a request; gives back what is none.
    pub fn push(&mut self, input: Input) -> Option<Input> {
        let Some((from, _)) = input.request() else {
            return Some(input);
        };
        self.len += 1;
        self.bytes += input.bytes();
        let waiting = self.waiting.entry(from.connection).or_default();
        if !waiting.has_turns() {
            self.turns.push_back(from.connection);
        }
        waiting.requests.push_back(input);
        None
    }

    /// Requests that wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Memory that those hold, about.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether none waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Moves at most `work_max` of work behind `out`, or one request of more, and what waited too
    /// long as [`Input::Shed`].
    pub fn take(&mut self, now: MonoTime, work_max: usize, out: &mut Vec<Input>) {
        self.shed(now, out);
        let mut work = 0;
        while work < work_max
            && let Some(connection) = self.turns.pop_front()
        {
            let Some(waiting) = self.waiting.get_mut(&connection) else {
                continue;
            };
            let mut turn = WORK_PER_TURN.saturating_sub(waiting.owes);
            waiting.owes = waiting.owes.saturating_sub(WORK_PER_TURN);
            let mut is_full = false;
            while turn > 0
                && let Some(next) = waiting.requests.front()
            {
                let next = next.work();
                is_full = work > 0 && work + next > work_max;
                if is_full {
                    break;
                }
                if let Some(input) = waiting.requests.pop_front() {
                    self.len -= 1;
                    self.bytes -= input.bytes();
                    out.push(input);
                }
                work += next;
                waiting.owes += next.saturating_sub(turn);
                turn = turn.saturating_sub(next);
            }
            if !waiting.has_turns() {
                self.waiting.remove(&connection);
            } else if is_full {
                // Its turn goes on with the next take.
                self.turns.push_front(connection);
                break;
            } else {
                self.turns.push_back(connection);
            }
        }
        self.stands_since = match self.len {
            0 => None,
            _ => Some(self.stands_since.unwrap_or(now)),
        };
    }

    /// Refuses what waited too long; a connection's requests came in order.
    fn shed(&mut self, now: MonoTime, out: &mut Vec<Input>) {
        if self.len == 0 {
            return;
        }
        let patience = self.patience(now);
        let is_late = |input: &mut Input| {
            let waited = input.request().map(|(_, received)| now.since(received));
            waited.is_some_and(|waited| waited.as_micros() > u128::from(patience))
        };
        let before = out.len();
        let (waiting, bytes) = (&mut self.waiting, &mut self.bytes);
        self.turns.retain(|connection| {
            let Some(of_connection) = waiting.get_mut(connection) else {
                return false;
            };
            while let Some(late) = of_connection.requests.pop_front_if(is_late) {
                *bytes -= late.bytes();
                out.extend(late.shed());
            }
            let has_turns = of_connection.has_turns();
            if !has_turns {
                waiting.remove(connection);
            }
            has_turns
        });
        self.len -= out.len() - before;
    }

    fn patience(&self, now: MonoTime) -> u64 {
        let stands = |since: MonoTime| now.since(since).as_micros() > u128::from(STANDING_MICROS);
        if self.stands_since.is_some_and(stands) {
            STANDING_WAIT_MICROS
        } else {
            BURST_WAIT_MICROS
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use quorate_ring::ConsistencyLevel;

    use super::super::input::RequestId;
    use super::super::message::{ReadRequest, Request};
    use super::*;

    const MS: u64 = 1_000;

    fn at(micros: u64) -> MonoTime {
        MonoTime::from_micros(micros)
    }

    fn get(connection: u64, id: u64, received_us: u64) -> Input {
        Input::Request {
            from: RequestId { connection, id },
            received: at(received_us),
            deadline: at(received_us) + Duration::from_secs(1),
            request: Request::Read(ReadRequest {
                keyspace: "default".into(),
                key: Bytes::from_static(b"k"),
                level: ConsistencyLevel::Quorum,
            }),
        }
    }

    /// Connection, id and whether it was shed.
    fn taken(queue: &mut RequestQueue, now_us: u64, work: usize) -> Vec<(u64, u64, bool)> {
        let mut out = Vec::new();
        queue.take(at(now_us), work, &mut out);
        let told = |input: &Input| match input {
            Input::Request { from, .. } => (from.connection, from.id, false),
            Input::Shed { from, .. } => (from.connection, from.id, true),
            other => panic!("{other:?}"),
        };
        out.iter().map(told).collect()
    }

    #[test]
    fn a_flood_of_one_connection_waits_behind_itself() {
        let mut queue = RequestQueue::default();
        for id in 0..100 {
            assert!(queue.push(get(1, id, 0)).is_none());
        }
        assert!(queue.push(get(2, 7, 0)).is_none());
        let first = taken(&mut queue, 0, 16);
        assert!(first.contains(&(2, 7, false)), "{first:?}");
        assert!(first.len() < 20, "{first:?}");
        let rest = taken(&mut queue, 0, usize::MAX);
        let all = first.iter().chain(&rest);
        let flood: Vec<u64> = all
            .filter(|(of, ..)| *of == 1)
            .map(|(_, id, _)| *id)
            .collect();
        assert!(flood.into_iter().eq(0..100));
        assert!(queue.is_empty());
        assert_eq!(queue.bytes(), 0);
    }

    fn batch(connection: u64, id: u64, items: usize) -> Input {
        let Input::Request {
            from,
            received,
            deadline,
            request,
        } = get(connection, id, 0)
        else {
            panic!("a get");
        };
        Input::Batch {
            from,
            received,
            deadline,
            items: vec![request; items],
        }
    }

    fn connections(out: &[Input]) -> Vec<u64> {
        let connection = |input: &Input| input.request().map(|(from, _)| from.connection);
        out.iter().filter_map(connection).collect()
    }

    #[test]
    fn a_flood_of_batches_waits_behind_itself() {
        let mut queue = RequestQueue::default();
        for id in 0..20 {
            queue.push(batch(1, id, 1_000));
        }
        for id in 0..300 {
            queue.push(get(2, id, 0));
        }
        let mut out = Vec::new();
        // The batch is started, though it is more than there is room for, and then owes.
        for _ in 0..3 {
            queue.take(at(0), 256, &mut out);
        }
        let taken = connections(&out);
        assert_eq!(taken.iter().filter(|of| **of == 1).count(), 1);
        assert_eq!(
            taken.iter().filter(|of| **of == 2).count(),
            300,
            "{taken:?}"
        );
        out.clear();
        queue.take(at(0), 256, &mut out);
        assert_eq!(connections(&out), [1]);
    }

    #[test]
    fn a_batch_at_a_time_owes_its_turns_too() {
        let mut queue = RequestQueue::default();
        for id in 0..900 {
            queue.push(get(2, id, 0));
        }
        let mut out = Vec::new();
        for id in 0..3 {
            queue.push(batch(1, id, 1_000));
            queue.take(at(0), 100, &mut out);
            queue.take(at(0), 100, &mut out);
        }
        let batches = connections(&out).iter().filter(|of| **of == 1).count();
        assert_eq!(batches, 1, "the others had their turns meanwhile");
        // Nobody else waits: what was owed is repaid at once.
        queue.take(at(0), 5_000, &mut out);
        assert!(queue.is_empty());
        assert_eq!(queue.waiting.len() + queue.turns.len(), 0);
    }

    #[test]
    fn a_batch_that_will_be_refused_takes_the_turn_of_one_request() {
        let mut queue = RequestQueue::default();
        queue.push(batch(1, 0, 5_000));
        queue.push(get(2, 0, 0));
        let mut out = Vec::new();
        queue.take(at(0), 2, &mut out);
        assert_eq!(connections(&out), [1, 2]);
    }

    #[test]
    fn a_batch_that_finds_no_room_is_the_next_one() {
        let mut queue = RequestQueue::default();
        for connection in [1, 2, 3] {
            queue.push(get(connection, 0, 0));
        }
        queue.push(batch(2, 1, 6));
        queue.push(get(3, 1, 0));
        let mut out = Vec::new();
        queue.take(at(0), 5, &mut out);
        assert_eq!(connections(&out), [1, 2]);
        out.clear();
        queue.take(at(0), 5, &mut out);
        assert_eq!(connections(&out), [2]);
        out.clear();
        queue.take(at(0), 5, &mut out);
        assert_eq!(connections(&out), [3, 3]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_node_that_did_not_come_to_run_serves_what_came_meanwhile() {
        let mut queue = RequestQueue::default();
        for id in 0..100 {
            queue.push(get(1, id, id * 2 * MS));
        }
        let got = taken(&mut queue, 240 * MS, 1_000);
        assert!(got.iter().all(|(.., shed)| !shed), "{got:?}");
    }

    #[test]
    fn a_burst_is_worked_off_though_its_end_waits() {
        let mut queue = RequestQueue::default();
        for id in 0..100 {
            queue.push(get(1, id, 0));
        }
        for round in 0..10 {
            let now = round * 9 * MS;
            let got = taken(&mut queue, now, 10);
            assert!(got.iter().all(|(.., shed)| !shed), "at {now} us: {got:?}");
        }
    }

    #[test]
    fn a_queue_that_stands_sheds_what_waited() {
        let mut queue = RequestQueue::default();
        let (mut id, mut shed, mut served_late) = (0, 0, 0);
        // Twice what is taken comes in every millisecond.
        for now in 0..1_000 {
            for _ in 0..32 {
                queue.push(get(id % 3, id, now * MS));
                id += 1;
            }
            let mut out = Vec::new();
            queue.take(at(now * MS), 16, &mut out);
            for input in &out {
                match input {
                    Input::Shed { .. } => shed += 1,
                    Input::Request { received, .. } if now > 300 => {
                        served_late += u64::from(at(now * MS).since(*received).as_millis() > 20);
                    }
                    _ => {}
                }
            }
        }
        assert_eq!(served_late, 0);
        assert!((10_000..18_000).contains(&shed), "{shed} of {id} shed");
        assert!(queue.len() < 2_000, "{} wait", queue.len());
    }

    #[test]
    fn once_it_got_empty_it_is_patient_again() {
        let mut queue = RequestQueue::default();
        queue.push(get(1, 0, 0));
        queue.push(get(1, 1, 0));
        assert_eq!(taken(&mut queue, 0, 1), [(1, 0, false)]);
        queue.push(get(1, 2, 150 * MS));
        // It stood, and one of the two waited for too long.
        let got = taken(&mut queue, 160 * MS, 10);
        assert_eq!(got, [(1, 1, true), (1, 2, false)]);
        assert_eq!(queue.bytes(), 0);
        queue.push(get(1, 3, 200 * MS));
        let got = taken(&mut queue, 290 * MS, 10);
        assert_eq!(got, [(1, 3, false)]);
    }

    #[test]
    fn what_is_no_request_comes_back() {
        let mut queue = RequestQueue::default();
        assert!(matches!(queue.push(Input::Tick), Some(Input::Tick)));
        assert!(queue.is_empty());
    }
}
