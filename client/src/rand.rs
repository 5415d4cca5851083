//! Randomness of the SDK: op ids, jitter, the first seed to ask. All of it follows from one seed.
//!
//! Not here: anything secret; TLS has its own source.

use crate::wire::OpId;

/// Two SplitMix64 streams (Steele et al., OOPSLA 2014). One would put all clients on one orbit of
/// 2^64 numbers; an op id takes one half from each, so that two clients repeat each other's ids
/// only if both streams meet at the same distance.
#[derive(Debug, Clone)]
pub(crate) struct Rand {
    high: u64,
    low: u64,
}

impl Rand {
    /// Everything drawn follows from `seed`.
    pub(crate) fn from_seed(seed: u64) -> Self {
        let mut state = seed;
        let high = step(&mut state);
        Self {
            high,
            low: step(&mut state),
        }
    }

    /// Seeded by the operating system.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where the SDK draws a seed when none is given"
    )]
    pub(crate) fn from_system() -> Self {
        Self {
            high: rand::random(),
            low: rand::random(),
        }
    }

    /// 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        step(&mut self.low)
    }

    /// The identity of a new logical write.
    pub(crate) fn op_id(&mut self) -> OpId {
        let id = u128::from(step(&mut self.high)) << 64 | u128::from(step(&mut self.low));
        OpId(id.to_be_bytes())
    }
}

fn step(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn same_seed_gives_the_same_ids_and_another_seed_gives_others() {
        let ids = |seed| {
            let mut rand = Rand::from_seed(seed);
            (0..100).map(|_| rand.op_id()).collect::<BTreeSet<_>>()
        };
        assert_eq!(ids(7), ids(7));
        assert_eq!(ids(7).len(), 100);
        assert!(ids(7).is_disjoint(&ids(8)));
    }
}
