//! The harms that are done to a node's disk while it is down, and what may come of each.
//!
//! Not here: how they are done and what is asked afterwards (`flips`).

use self::Outcome::{Healed, SetAside, Whole};

/// What is done to the disk.
#[derive(Debug, Clone, Copy)]
pub(super) enum Harm {
    /// A bit is flipped in the files of a folder of the data directory whose names begin so.
    Flip {
        folder: &'static str,
        prefix: &'static str,
        spot: Spot,
    },
    /// The disk is a copy from rounds before.
    OldCopy,
    /// There is no data at all.
    Empty,
}

/// Which byte is flipped.
#[derive(Debug, Clone, Copy)]
pub(super) enum Spot {
    At(usize),
    /// Of a journal; one that is empty gets as many bytes that mean nothing.
    Journal(usize),
    BeforeEnd(usize),
    Middle,
    /// In some record.
    Record,
    /// In the record that was written last.
    Newest,
}

/// One harm, by the name that the table tells.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) harm: Harm,
    /// Needs hints in the file of hints.
    pub(super) needs_hints: bool,
    /// What may come of it.
    pub(super) expects: &'static [Outcome],
    /// Part of the short version.
    pub(super) is_short: bool,
}

/// What the node did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It had lost nothing.
    Whole,
    /// It got back what it had lost, beside what it still had.
    Healed,
    /// It set its store aside and got everything back.
    SetAside,
}

const LOG: &str = "";
/// Files that are a number and nothing more, but for the ending of fjall's journals.
const JOURNAL: &str = "";
const RECORDS: &str = "engine/keyspaces/1";
const TABLES: &str = "engine/keyspaces/1/tables";
const META: &str = "engine/keyspaces/0";
const META_TABLES: &str = "engine/keyspaces/0/tables";

pub(super) const CASES: [Case; 20] = [
    long(
        "log, a record in the middle",
        LOG,
        "log-",
        Spot::Record,
        &[SetAside],
    )
    .short(),
    long(
        "log, its last record",
        LOG,
        "log-",
        Spot::Newest,
        &[Healed, SetAside],
    ),
    long(
        "log, header of a segment",
        LOG,
        "log-",
        Spot::At(20),
        &[SetAside],
    )
    .short(),
    long(
        "log, header of a first batch",
        LOG,
        "log-",
        Spot::At(4096 + 12),
        // The newest segment may have none yet.
        &[Whole, SetAside],
    ),
    long(
        "engine, framing of the journal",
        "engine",
        JOURNAL,
        Spot::Journal(0),
        &[Whole, SetAside],
    ),
    long(
        "engine, journal further on",
        "engine",
        JOURNAL,
        Spot::Journal(9),
        &[Whole, SetAside],
    )
    .short(),
    long(
        "engine, a table's record",
        TABLES,
        "",
        Spot::Record,
        &[SetAside],
    )
    .short(),
    long(
        "engine, a table's end",
        TABLES,
        "",
        // Where it says that its parts are listed; of their length behind it fjall makes no use.
        Spot::BeforeEnd(12),
        &[SetAside],
    ),
    long(
        "engine, the version in use",
        RECORDS,
        "v",
        Spot::Middle,
        &[SetAside],
    )
    .short(),
    long(
        "engine, its checksum's file",
        RECORDS,
        "current",
        Spot::At(9),
        // fjall writes it and does not look at it.
        &[Whole],
    ),
    long(
        "engine, the number in use",
        RECORDS,
        "current",
        Spot::At(0),
        &[SetAside],
    ),
    long(
        "engine, table of keyspaces",
        META_TABLES,
        "",
        Spot::Middle,
        &[Whole, SetAside],
    ),
    long(
        "engine, version of these",
        META,
        "v",
        Spot::Middle,
        &[SetAside],
    ),
    long(
        "engine, format marker",
        "engine",
        "version",
        Spot::At(1),
        &[SetAside],
    ),
    // One is written ahead of each generation: the newest may not be in use yet.
    long(
        "digest file",
        LOG,
        "digest-",
        Spot::Middle,
        &[Whole, SetAside],
    )
    .short(),
    hints(),
    long(
        "what is known to be lost",
        LOG,
        "losses",
        Spot::Middle,
        // It has lost nothing, and may have been compared with the others before it is asked.
        &[Whole, Healed],
    ),
    long("identity", LOG, "identity", Spot::Middle, &[SetAside]),
    whole(
        "the disk as it was before",
        Harm::OldCopy,
        &[Healed, SetAside],
    ),
    whole("an empty disk", Harm::Empty, &[Healed]),
];

const fn whole(name: &'static str, harm: Harm, expects: &'static [Outcome]) -> Case {
    Case {
        name,
        harm,
        needs_hints: false,
        expects,
        is_short: false,
    }
}

const fn long(
    name: &'static str,
    folder: &'static str,
    prefix: &'static str,
    spot: Spot,
    expects: &'static [Outcome],
) -> Case {
    let harm = Harm::Flip {
        folder,
        prefix,
        spot,
    };
    whole(name, harm, expects)
}

impl Case {
    const fn short(self) -> Self {
        Self {
            is_short: true,
            ..self
        }
    }
}

const fn hints() -> Case {
    Case {
        needs_hints: true,
        ..long("hints", LOG, "hints", Spot::Middle, &[Whole])
    }
}

impl Outcome {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Whole => "had lost nothing",
            Self::Healed => "healed",
            Self::SetAside => "set aside, healed",
        }
    }
}
