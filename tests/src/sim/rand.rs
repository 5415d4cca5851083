//! Streams of random numbers: one per (seed, node, purpose), so that a new draw in one place does
//! not reshuffle another.
//!
//! xoshiro256++ seeded through splitmix64; small, fast and fixed for good, because a seed that is
//! kept as a test must draw the same in every release.

use quorate_node::shell::seam::Rand;

/// One stream.
#[derive(Debug, Clone)]
pub struct SimRand {
    state: [u64; 4],
}

impl SimRand {
    /// The stream of `purpose` at `node` in the run of `seed`.
    #[must_use]
    pub fn derive(seed: u64, node: u64, purpose: &str) -> Self {
        let mut mixed =
            xxhash_rust::xxh3::xxh3_64_with_seed(purpose.as_bytes(), seed) ^ node.rotate_left(32);
        let mut next = || {
            mixed = mixed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = mixed;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        Self {
            state: [next(), next(), next(), next()],
        }
    }

    /// 64 random bits.
    pub fn next_bits(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c, d) = (c ^ a, d ^ b);
        self.state = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        result
    }

    /// A number from 0 to `bound` - 1; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.next_bits()) * u128::from(bound);
        u64::try_from(product >> 64).unwrap_or(0)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// An index of a list of `len` items; 0 if it is empty.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// A number from 0 to just under 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
    pub fn unit(&mut self) -> f64 {
        (self.next_bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// One of `items`, or `None` if there is none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.index(items.len()))
    }

    /// Puts `items` into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }

    /// Exponentially distributed with this mean.
    pub fn exponential(&mut self, mean: u64) -> u64 {
        whole(-(1.0 - self.unit()).ln() * to_float(mean))
    }

    /// Log-normal with this median; `sigma` 0.5 is mild, 1.0 has a long tail.
    pub fn log_normal(&mut self, median: u64, sigma: f64) -> u64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * self.unit()).cos();
        whole(to_float(median) * (sigma * normal).exp())
    }
}

impl Rand for SimRand {
    fn bits(&mut self) -> u64 {
        self.next_bits()
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "times and counts are far under 2^53"
)]
fn to_float(number: u64) -> f64 {
    number as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and what is drawn is not negative"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_one_purpose_repeat_and_others_differ() {
        let draw = |node, purpose| SimRand::derive(7, node, purpose).next_bits();
        assert_eq!(draw(1, "net"), draw(1, "net"));
        assert_ne!(draw(1, "net"), draw(2, "net"));
        assert_ne!(draw(1, "net"), draw(1, "disk"));
    }

    #[test]
    fn draws_stay_in_their_bounds_and_reach_them() {
        let mut rand = SimRand::derive(1, 0, "t");
        let mut seen = [0u32; 5];
        for _ in 0..1000 {
            seen[rand.index(5)] += 1;
        }
        assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
        let mean = (0..10_000).map(|_| rand.exponential(1000)).sum::<u64>() / 10_000;
        assert!((900..1100).contains(&mean), "{mean}");
    }
}
