//! Which key is next: uniform, or Zipf with exponent 0.99 as YCSB draws it.
//!
//! Zipf follows Gray et al., "Quickly generating billion-record synthetic databases" (SIGMOD 1994),
//! section 3.2. Popular ranks are scattered over the keys by a fixed permutation, so that hot keys
//! are not neighbours.
//!
//! A key is named by its index: `key-` and twelve digits, 16 bytes.

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::SmallRng;

/// The exponent of YCSB.
const THETA: f64 = 0.99;

/// A prime; times this, modulo a count that it does not divide, is a permutation.
const SCATTER: u128 = 2_654_435_761;

/// How keys are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Distribution {
    /// Each key as often as any other.
    Uniform,
    /// The i-th most popular key in proportion to 1 / i^0.99.
    Zipf,
}

impl Distribution {
    /// As it is typed and reported.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Zipf => "zipf",
        }
    }
}

/// Draws indices of keys.
#[derive(Debug, Clone)]
pub struct KeyDraw {
    count: u32,
    zipf: Option<Zipf>,
}

/// Draws ranks below a count that may grow.
#[derive(Debug, Clone)]
pub(crate) struct Zipf {
    count: u32,
    zeta: f64,
    eta: f64,
}

impl KeyDraw {
    /// Draws from the indices below `count`, at least 1. O(count) for Zipf.
    #[must_use]
    pub fn new(distribution: Distribution, count: u32) -> Self {
        let count = count.max(1);
        let zipf = match distribution {
            Distribution::Uniform => None,
            Distribution::Zipf => Some(Zipf::new(count)),
        };
        Self { count, zipf }
    }

    /// The next index.
    pub fn draw(&self, random: &mut SmallRng) -> u32 {
        let Some(zipf) = &self.zipf else {
            return random.random_range(0..self.count);
        };
        scattered(zipf.rank(random.random::<f64>()), self.count)
    }
}

impl Zipf {
    /// Ranks below `count`, at least 1. O(count).
    pub(crate) fn new(count: u32) -> Self {
        let mut zipf = Self {
            count: 0,
            zeta: 0.0,
            eta: 0.0,
        };
        zipf.grow_to(count.max(1));
        zipf
    }

    /// From now on ranks below `count`, never fewer than before. O(those that are new).
    pub(crate) fn grow_to(&mut self, count: u32) {
        if count <= self.count {
            return;
        }
        let term = |i: u32| f64::from(i).powf(-THETA);
        self.zeta += (self.count + 1..=count).map(term).sum::<f64>();
        self.count = count;
        let zeta_of_two = term(1) + term(2);
        let n = f64::from(count);
        self.eta = (1.0 - (2.0 / n).powf(1.0 - THETA)) / (1.0 - zeta_of_two / self.zeta);
    }

    /// The rank, 0 the most popular, at `point` of the unit interval.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the product lies between 0 and the count, and is cut to it"
    )]
    pub(crate) fn rank(&self, point: f64) -> u32 {
        let count = self.count;
        let scaled = point * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5_f64.powf(THETA) {
            return 1.min(count - 1);
        }
        let share = (self.eta * point - self.eta + 1.0).powf(1.0 / (1.0 - THETA));
        ((f64::from(count) * share) as u32).min(count - 1)
    }
}

fn scattered(rank: u32, count: u32) -> u32 {
    let index = u128::from(rank) * SCATTER % u128::from(count);
    u32::try_from(index).expect("a remainder is below the count, a u32")
}

/// Name of the key with this index: 16 bytes.
#[must_use]
pub fn key_of(index: u32) -> Bytes {
    numbered(*b"key-", index)
}

/// The index of a key that [`numbered`] named with `prefix`.
pub(crate) fn index_of(prefix: [u8; 4], key: &[u8]) -> Option<u32> {
    let digits = std::str::from_utf8(key.strip_prefix(&prefix)?).ok()?;
    let index = digits.parse().ok()?;
    (numbered(prefix, index) == key).then_some(index)
}

/// `prefix` and the index in twelve digits, 16 bytes: in the order of the indices.
pub(crate) fn numbered(prefix: [u8; 4], index: u32) -> Bytes {
    let mut name = *b"0000000000000000";
    for (byte, of_prefix) in name.iter_mut().zip(prefix) {
        *byte = of_prefix;
    }
    let mut left = index;
    for digit in name.iter_mut().rev() {
        if left == 0 {
            break;
        }
        *digit = b'0' + u8::try_from(left % 10).expect("a digit");
        left /= 10;
    }
    Bytes::copy_from_slice(&name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;

    use super::*;

    #[test]
    fn keys_have_sixteen_bytes_and_differ() {
        assert_eq!(&key_of(0)[..], b"key-000000000000");
        assert_eq!(&key_of(1_000_000)[..], b"key-000001000000");
        assert_eq!(&key_of(u32::MAX)[..], b"key-004294967295");
    }

    #[test]
    fn a_name_tells_its_index_and_nothing_else_does() {
        for index in [0, 7, 1_000_000, u32::MAX] {
            assert_eq!(index_of(*b"user", &numbered(*b"user", index)), Some(index));
        }
        for name in [
            "key-000000000001",
            "user1",
            "user+00000000001",
            "user004294967296",
        ] {
            assert_eq!(index_of(*b"user", name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn scattering_is_a_permutation() {
        for count in [1, 2, 10, 1_000, 4_096] {
            let seen: BTreeSet<u32> = (0..count).map(|rank| scattered(rank, count)).collect();
            assert_eq!(seen.len(), count as usize);
        }
    }

    #[test]
    fn uniform_keys_come_equally_often() {
        let counts = counted(Distribution::Uniform, 10, 100_000);
        assert!(
            counts.iter().all(|n| (9_000..11_000).contains(n)),
            "{counts:?}"
        );
    }

    #[test]
    fn zipf_keys_follow_their_rank() {
        let counts = counted(Distribution::Zipf, 1_000, 200_000);
        let of_rank = |rank| f64::from(counts[scattered(rank, 1_000) as usize]);
        let first = of_rank(0);
        for (rank, want) in [(1, 2_f64), (9, 10.0), (99, 100.0)] {
            let ratio = first / of_rank(rank);
            let want = want.powf(THETA);
            assert!(
                (0.7..1.4).contains(&(ratio / want)),
                "rank {rank}: {ratio} of {want}"
            );
        }
    }

    #[test]
    fn a_count_that_grew_is_as_one_that_was_there_from_the_start() {
        let mut grown = Zipf::new(10);
        (11..=1_000).for_each(|count| grown.grow_to(count));
        let whole = Zipf::new(1_000);
        for point in [0.0, 0.1, 0.5, 0.9, 0.999_999] {
            assert_eq!(grown.rank(point), whole.rank(point), "{point}");
        }
    }

    #[test]
    fn one_key_is_drawn_for_ever() {
        assert_eq!(counted(Distribution::Zipf, 1, 100), [100]);
    }

    fn counted(distribution: Distribution, keys: u32, draws: u32) -> Vec<u32> {
        let mut random = SmallRng::seed_from_u64(7);
        let draw = KeyDraw::new(distribution, keys);
        let mut counts = vec![0; keys as usize];
        for _ in 0..draws {
            counts[draw.draw(&mut random) as usize] += 1;
        }
        counts
    }
}
