//! The core workloads of YCSB (Cooper et al., "Benchmarking cloud serving systems with YCSB", SoCC
//! 2010, section 4), and what this tool makes of them where a whole value is all a key holds.
//!
//! | workload | operations | keys |
//! | --- | --- | --- |
//! | A | 50 % read, 50 % update | Zipf |
//! | B | 95 % read, 5 % update | Zipf |
//! | C | 100 % read | Zipf |
//! | D | 95 % read, 5 % insert | the latest most often |
//! | E | 95 % scan of 1 to 100 records, 5 % insert | Zipf |
//! | F | 50 % read, 50 % read-modify-write | Zipf |
//!
//! The exponent of Zipf is 0.99. A record has ten fields of 100 bytes, and is one value.
//!
//! An **update** replaces one field and reads nothing, as in YCSB. The store takes whole values, so
//! the whole record is sent: the new field, and the other nine as this client last sent them. It
//! can, because it is the only client and knows what it sent; so an update costs the store a put of
//! 1,000 bytes and no read. Two updates of one record under way at once may each lack the other's
//! field: the later stamp wins, as an lww keyspace promises.
//!
//! A **read-modify-write** reads the record, replaces one field and puts the result after what it
//! read. Two at once leave siblings; whoever reads them next merges them field by field, the newest
//! of each. What still has siblings when a run is over is merged by `read_back`, which then checks
//! that every changed key holds one value and no acknowledged change is lost.
//!
//! Keys are `user` and twelve digits in the order of insertion, because E scans them in order.
//! Where YCSB hashes that order, here the popular ranks are scattered. YCSB draws the keys of E
//! also from those that it expects to be inserted; a run by time expects no number, so scans start
//! at loaded keys and meet inserted ones at the end of the range only.
//!
//! Not here: the loop itself (`closed_loop`), the load (`fill`), cost from rest to rest
//! (`measure`).

mod args;
mod data;
mod draw;
mod operation;
mod read_back;
mod record;
mod report;
mod sequence;
mod suite;

use clap::ValueEnum;

pub use args::YcsbArgs;
pub use data::{Asked, Data, DataSpec, ScanAsked};
pub use draw::{Latest, scan_length};
pub use operation::Mix;
pub use read_back::{ReadBack, read_back};
pub use record::{FIELD_BYTES, FIELDS, Numbers, RECORD_BYTES, Records, merged};
pub use report::{WorkloadReport, YcsbReport};
pub use sequence::Sequence;
pub use suite::measure_all;

use crate::recorder::Kind;

/// Name of a core workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[value(rename_all = "UPPER")]
pub enum Letter {
    /// Update heavy.
    A,
    /// Read mostly.
    B,
    /// Read only.
    C,
    /// Read latest.
    D,
    /// Short ranges.
    E,
    /// Read-modify-write.
    F,
}

/// What a workload asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Definition {
    /// Kinds of operations, and of 100 how many are of each.
    pub shares: &'static [(Kind, u8)],
    /// Which keys are asked for.
    pub keys: KeyChoice,
    /// The records it works on.
    pub data: DataSet,
}

/// Which keys are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyChoice {
    /// The i-th most popular in proportion to 1 / i^0.99, popular ones scattered.
    Zipf,
    /// The same, and the last inserted is the most popular.
    Latest,
}

/// Records that one or more workloads share, each in a cluster of its own: what one left behind
/// costs no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataSet {
    /// Of A to D, in an lww keyspace.
    Lww,
    /// Of E, in an lww keyspace: fewer, because a scan reads many.
    Scanned,
    /// Of F, in a keyspace of siblings, as a causal read-modify-write needs.
    Siblings,
}

impl Letter {
    /// As it is typed and reported.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
            Self::D => "D",
            Self::E => "E",
            Self::F => "F",
        }
    }

    /// What it asks.
    #[must_use]
    pub const fn definition(self) -> Definition {
        let shares: &[(Kind, u8)] = match self {
            Self::A => &[(Kind::Read, 50), (Kind::Update, 50)],
            Self::B => &[(Kind::Read, 95), (Kind::Update, 5)],
            Self::C => &[(Kind::Read, 100)],
            Self::D => &[(Kind::Read, 95), (Kind::Insert, 5)],
            Self::E => &[(Kind::Scan, 95), (Kind::Insert, 5)],
            Self::F => &[(Kind::Read, 50), (Kind::ReadModifyWrite, 50)],
        };
        Definition {
            shares,
            keys: match self {
                Self::A | Self::B | Self::C | Self::E | Self::F => KeyChoice::Zipf,
                Self::D => KeyChoice::Latest,
            },
            data: match self {
                Self::A | Self::B | Self::C | Self::D => DataSet::Lww,
                Self::E => DataSet::Scanned,
                Self::F => DataSet::Siblings,
            },
        }
    }
}

impl KeyChoice {
    /// As it is reported.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zipf => "zipf",
            Self::Latest => "latest",
        }
    }
}

impl DataSet {
    /// All, in the order of their workloads.
    pub const ALL: [Self; 3] = [Self::Lww, Self::Scanned, Self::Siblings];

    /// The keyspace of `quorate dev` that holds it.
    #[must_use]
    pub const fn keyspace(self) -> &'static str {
        match self {
            Self::Lww | Self::Scanned => "lww",
            Self::Siblings => "default",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_six_are_defined_as_in_the_paper() {
        use Kind::{Insert, Read, ReadModifyWrite, Scan, Update};
        let of = |letter: Letter| letter.definition();
        assert_eq!(of(Letter::A).shares, [(Read, 50), (Update, 50)]);
        assert_eq!(of(Letter::B).shares, [(Read, 95), (Update, 5)]);
        assert_eq!(of(Letter::C).shares, [(Read, 100)]);
        assert_eq!(of(Letter::D).shares, [(Read, 95), (Insert, 5)]);
        assert_eq!(of(Letter::E).shares, [(Scan, 95), (Insert, 5)]);
        assert_eq!(of(Letter::F).shares, [(Read, 50), (ReadModifyWrite, 50)]);
        for letter in Letter::value_variants() {
            let Definition { shares, keys, data } = of(*letter);
            let total: u8 = shares.iter().map(|(_, share)| share).sum();
            assert_eq!(total, 100, "{letter:?}");
            assert_eq!(keys == KeyChoice::Latest, *letter == Letter::D);
            assert_eq!(data == DataSet::Siblings, *letter == Letter::F);
        }
    }
}
