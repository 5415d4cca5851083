//! Lets the merges of the engine rest, so that they are a small part of a processor and of the disk
//! for longer, instead of all of both for a while.
//!
//! fjall offers no pace, but asks a filter about every row that it merges. This one keeps them all,
//! and sleeps now and then. A merge that falls behind does not rest: once as many tables as set it
//! off have come meanwhile, it has to end.
//!
//! Not here: that merges have a low priority (`priority`), and that what they write reaches the
//! disk little by little (`writeback`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fjall::compaction::filter::{
    CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict,
};

use super::priority::Pace;

/// A rest is so many times as long as the turn before it. Three nodes on one machine merge at the
/// same time, because they hold the same; together they then take a quarter of a processor, for
/// half a minute.
const REST: u32 = 10;

/// The pace of one engine's merges.
#[derive(Debug, Clone, Default)]
pub(super) struct MergePace {
    is_behind: Arc<AtomicBool>,
}

impl MergePace {
    /// Whether there is no time for rests.
    pub(super) fn set_behind(&self, is_behind: bool) {
        self.is_behind.store(is_behind, Ordering::Relaxed);
    }
}

impl Factory for MergePace {
    fn name(&self) -> &'static str {
        "pace"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(PacedMerge {
            pace: Pace::start(REST),
            is_behind: Arc::clone(&self.is_behind),
        })
    }
}

struct PacedMerge {
    pace: Pace,
    is_behind: Arc<AtomicBool>,
}

impl CompactionFilter for PacedMerge {
    fn filter_item(&mut self, _: ItemAccessor<'_>, _: &Context) -> CompactionFilterResult {
        if !self.is_behind.load(Ordering::Relaxed) {
            self.pace.row();
        }
        Ok(Verdict::Keep)
    }
}
