//! Clients' requests that wait for the shard: taken connection by connection in turns, and bounded
//! in time as well as in number.
//!
//! More than a node can do makes a queue that never gets empty. Whatever its length, all that it
//! does is to make every request late, until clients have given up what is worked on and try again.
//! So the patience is long while the queue gets empty now and then (a burst), and short once it has
//! stood for a while: what waited longer is refused, *not applied*, with advice when to try again,
//! and what is taken is answered in time. The rule is that of Maurer, "Fail at Scale", ACM Queue
//! 13(8), 2015, after CoDel (Nichols and Jacobson, ACM Queue 10(5), 2012).
//!
//! Invariants: every request comes out once, in the order of its connection, taken or shed; who
//! floods one connection waits behind itself. Not here: how many may wait (the edge looks at
//! [`RequestQueue::len`]).

use std::collections::VecDeque;

use quorate_ring::{FixedMap, MonoTime};

use super::input::Input;

/// Work that one connection gives before the next has its turn.
const WORK_PER_TURN: usize = 8;

/// A queue that was not empty for so long stands.
const STANDING_MICROS: u64 = 100_000;

/// Longest wait in a queue that does not stand: a burst, or a node that did not come to run.
const BURST_WAIT_MICROS: u64 = 250_000;

/// Longest wait in a queue that stands.
const STANDING_WAIT_MICROS: u64 = 20_000;

/// Requests in the order in which they will be taken.
#[derive(Debug, Default)]
pub struct RequestQueue {
    /// What waits, by connection; no queue is empty.
    waiting: FixedMap<u64, VecDeque<Input>>,
    /// Connections of which something waits, the next first.
    turns: VecDeque<u64>,
    len: usize,
    /// When it was empty last.
    empty_at: MonoTime,
}

impl RequestQueue {
    /// Queues a request; gives back what is none.
    pub fn push(&mut self, input: Input) -> Option<Input> {
        let Some((from, received)) = input.request() else {
            return Some(input);
        };
        if self.len == 0 {
            self.empty_at = self.empty_at.max(received);
        }
        self.len += 1;
        let queue = self.waiting.entry(from.connection).or_default();
        if queue.is_empty() {
            self.turns.push_back(from.connection);
        }
        queue.push_back(input);
        None
    }

    /// Requests that wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether none waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Moves about `work_max` of work behind `out`, and what waited too long as [`Input::Shed`].
    pub fn take(&mut self, now: MonoTime, work_max: usize, out: &mut Vec<Input>) {
        self.shed(now, out);
        let mut work = 0;
        while work < work_max
            && let Some(connection) = self.turns.pop_front()
        {
            let Some(queue) = self.waiting.get_mut(&connection) else {
                continue;
            };
            let mut of_turn = 0;
            while of_turn < WORK_PER_TURN
                && let Some(input) = queue.pop_front()
            {
                self.len -= 1;
                of_turn += input.work();
                out.push(input);
            }
            work += of_turn;
            if queue.is_empty() {
                self.waiting.remove(&connection);
            } else {
                self.turns.push_back(connection);
            }
        }
        if self.len == 0 {
            self.empty_at = now;
        }
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
        let waiting = &mut self.waiting;
        self.turns.retain(|connection| {
            let Some(queue) = waiting.get_mut(connection) else {
                return false;
            };
            while let Some(late) = queue.pop_front_if(is_late) {
                out.extend(late.shed());
            }
            let waits = !queue.is_empty();
            if !waits {
                waiting.remove(connection);
            }
            waits
        });
        self.len -= out.len() - before;
    }

    fn patience(&self, now: MonoTime) -> u64 {
        if now.as_micros().saturating_sub(self.empty_at.as_micros()) > STANDING_MICROS {
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
        queue.push(get(1, 1, 0));
        queue.push(get(1, 2, 150 * MS));
        // It stood, and one of the two waited for too long.
        let got = taken(&mut queue, 160 * MS, 10);
        assert_eq!(got, [(1, 1, true), (1, 2, false)]);
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
