//! A node's timeline and what peers remember of it: how forgetting is noticed.
//!
//! A timeline lists the incarnations of one shard of a node with the first LSN of each. A memory is
//! the highest (incarnation, durable LSN) that a peer has seen from it. A memory that does not lie
//! on the timeline means that the node forgot something it had promised (DESIGN 4, continuity).
//!
//! A node that found out what it forgot says so from then on: its timeline names the lives whose
//! end it does not hold. Who remembers one of them takes that for confirmed, because the node
//! knows.

use std::collections::BTreeSet;

use quorate_ring::{Incarnation, Lsn};

/// What a peer remembers of a node: this incarnation had made everything up to `durable` durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Memory {
    /// The incarnation that said so.
    pub incarnation: Incarnation,
    /// Its durable LSN.
    pub durable: Lsn,
}

/// One incarnation of a timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// The incarnation.
    pub incarnation: Incarnation,
    /// LSN of its start frame.
    pub first: Lsn,
}

/// Every incarnation of one shard in the order it lived them; first LSNs strictly rise.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Timeline {
    lives: Vec<Life>,
    /// Lives that came to more than is held of them.
    lost: BTreeSet<Incarnation>,
}

impl Timeline {
    /// Checks that first LSNs strictly rise and that no incarnation is named twice.
    #[must_use]
    pub fn from_lives(lives: Vec<Life>) -> Option<Self> {
        let mut timeline = Self::default();
        lives
            .into_iter()
            .all(|life| timeline.push(life))
            .then_some(timeline)
    }

    /// Adds the next life; false, and nothing changes, if it does not follow the last one.
    #[must_use]
    pub fn push(&mut self, life: Life) -> bool {
        let rises = self.lives.last().is_none_or(|last| last.first < life.first);
        let fits = rises && !self.knows(life.incarnation);
        if fits {
            self.lives.push(life);
        }
        fits
    }

    /// The same, knowing that these lives came to more than is held of them.
    #[must_use]
    pub fn with_lost(self, lost: BTreeSet<Incarnation>) -> Self {
        Self { lost, ..self }
    }

    /// Lives that came to more than is held of them, whether they are among [`Self::lives`] or not.
    #[must_use]
    pub const fn lost(&self) -> &BTreeSet<Incarnation> {
        &self.lost
    }

    /// The lives, oldest first.
    #[must_use]
    pub fn lives(&self) -> &[Life] {
        &self.lives
    }

    /// The present life; `None` on an empty timeline.
    #[must_use]
    pub fn present(&self) -> Option<Life> {
        self.lives.last().copied()
    }

    /// Whether `incarnation` is one of the lives.
    #[must_use]
    pub fn knows(&self, incarnation: Incarnation) -> bool {
        self.lives
            .iter()
            .any(|life| life.incarnation == incarnation)
    }

    /// Whether `memory` lies on this timeline, given that it reaches up to `durable` now.
    ///
    /// False means that who has this timeline forgot what it told the owner of the memory, and does
    /// not know it.
    #[must_use]
    pub fn confirms(&self, memory: Memory, durable: Lsn) -> bool {
        if self.lost.contains(&memory.incarnation) {
            return true;
        }
        let Some(at) = self
            .lives
            .iter()
            .position(|l| l.incarnation == memory.incarnation)
        else {
            return false;
        };
        match self.lives.get(at + 1) {
            // An ended life holds what came before the next one's start frame.
            Some(next) => memory.durable < next.first,
            None => memory.durable <= durable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(lives: &[(u64, u64)]) -> Timeline {
        let lives = lives
            .iter()
            .map(|&(incarnation, first)| Life {
                incarnation: Incarnation(incarnation),
                first: Lsn(first),
            })
            .collect();
        Timeline::from_lives(lives).expect("first LSNs rise")
    }

    #[test]
    fn a_memory_is_confirmed_only_on_the_life_that_made_it() {
        let cases = [
            ("inside an ended life", (5, 99), true),
            ("past where the next life began", (5, 100), false),
            ("inside the present life", (9, 120), true),
            ("past what is durable now", (9, 131), false),
            ("of a life that never was", (7, 1), false),
        ];
        let own = timeline(&[(5, 1), (9, 100)]);
        for (name, (incarnation, durable), want) in cases {
            let memory = Memory {
                incarnation: Incarnation(incarnation),
                durable: Lsn(durable),
            };
            assert_eq!(own.confirms(memory, Lsn(130)), want, "{name}");
        }
    }

    #[test]
    fn a_life_that_is_known_to_be_lost_confirms_what_is_remembered_of_it() {
        let own = timeline(&[(5, 1), (9, 100)]).with_lost([Incarnation(5), Incarnation(7)].into());
        let of = |incarnation, durable| Memory {
            incarnation: Incarnation(incarnation),
            durable: Lsn(durable),
        };
        assert!(own.confirms(of(5, 1500), Lsn(130)));
        assert!(own.confirms(of(7, 1), Lsn(130)));
        assert!(
            !own.confirms(of(8, 1), Lsn(130)),
            "another one was lost, too"
        );
    }

    #[test]
    fn a_rollback_that_outgrew_the_memory_is_still_noticed() {
        // C1: rolled back to 1000 and grown to 1600 under a new incarnation.
        let grown = timeline(&[(5, 1), (6, 1001)]);
        let memory = Memory {
            incarnation: Incarnation(5),
            durable: Lsn(1500),
        };
        assert!(!grown.confirms(memory, Lsn(1600)));
    }
}
