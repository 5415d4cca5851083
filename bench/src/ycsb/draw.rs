//! The draws of YCSB that the load tool does not have: the latest keys, and lengths of scans.

use rand::RngExt;
use rand::rngs::SmallRng;

use crate::keys::Zipf;

/// Most records of a scan.
const SCAN_RECORDS_MAX: u32 = 100;

/// Draws indices of keys: the i-th latest in proportion to 1 / i^0.99.
#[derive(Debug, Clone)]
pub struct Latest {
    zipf: Zipf,
}

impl Latest {
    /// Draws from `count` keys or more. O(count).
    #[must_use]
    pub fn new(count: u32) -> Self {
        Self {
            zipf: Zipf::new(count),
        }
    }

    /// An index below `count`, the number of keys by now, never fewer than before. O(those that are
    /// new).
    pub fn draw(&mut self, count: u32, random: &mut SmallRng) -> u32 {
        self.zipf.grow_to(count);
        let newest = count.saturating_sub(1);
        newest.saturating_sub(self.zipf.rank(random.random()))
    }
}

/// Records of a scan: 1 to 100, each length as often as any other.
pub fn scan_length(random: &mut SmallRng) -> u32 {
    random.random_range(1..=SCAN_RECORDS_MAX)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn the_latest_key_is_drawn_most_often_also_after_inserts() {
        let mut random = SmallRng::seed_from_u64(3);
        let mut latest = Latest::new(1_000);
        for count in [1_000, 1_001, 1_500] {
            let mut counts = vec![0_u32; count as usize];
            for _ in 0..100_000 {
                counts[latest.draw(count, &mut random) as usize] += 1;
            }
            counts.reverse();
            let first = f64::from(counts[0]);
            for (rank, want) in [(1, 2_f64), (9, 10.0), (99, 100.0)] {
                let ratio = first / f64::from(counts[rank]) / want.powf(0.99);
                assert!((0.6..1.6).contains(&ratio), "{count}, rank {rank}: {ratio}");
            }
        }
    }

    #[test]
    fn scans_have_one_to_a_hundred_records_equally_often() {
        let mut random = SmallRng::seed_from_u64(3);
        let mut counts = [0_u32; 102];
        for _ in 0..100_000 {
            counts[scan_length(&mut random) as usize] += 1;
        }
        assert_eq!((counts[0], counts[101]), (0, 0));
        let within = counts[1..=100].iter().all(|n| (800..1_200).contains(n));
        assert!(within, "{counts:?}");
    }
}
