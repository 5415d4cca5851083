//! Fuzzing of everything that reads bytes from outside, on stable Rust.
//!
//! Stable Rust gives no coverage to steer by without unsafe code, so what steers here is what a
//! target says of an input: a *shape*, such as which error it was refused with or which message it
//! is. An input with a new shape joins the corpus and is mutated further.
//!
//! A target checks more than that nothing panics: what is read can be written and reads the same,
//! what was altered is refused, what is refused says why. Beside that, an input may not take long,
//! nor allocate more than in proportion to its size.
//!
//! Corpora are in `tests/corpus`, one folder a target; `tests/tests/fuzz_corpus.rs` replays them
//! with some thousand mutants each, and the binary `fuzz` goes on for as long as it is told.

mod memory;
mod mutate;
mod run;
mod targets;
mod targets_log;

pub use memory::Meter;
pub use run::{Finding, Fuzz, Progress, corpus_folder};
pub use targets::{Target, all_targets};

/// What kind of input a target was given, as far as it can tell: equal for equal behaviour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape(pub u64);

impl Shape {
    /// The shape that this text names, such as an error without its figures.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let words = text.bytes().filter(|byte| !byte.is_ascii_digit());
        let words: Vec<u8> = words.collect();
        Self(xxhash_rust::xxh3::xxh3_64(&words))
    }
}
