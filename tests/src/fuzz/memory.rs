//! Bounds what one input may allocate, by the counting allocator of the process that fuzzes.

/// Allocations of this many bytes are free for any input.
const FREE_BYTES: u64 = 1 << 20;

/// Bytes that may be allocated for each byte of an input.
const BYTES_PER_BYTE: u64 = 256;

/// Reads the allocator's counters: all bytes allocated so far, whether freed or not.
#[derive(Debug, Clone, Copy)]
pub struct Meter(pub fn() -> u64);

impl Meter {
    /// A process without a counting allocator: nothing is measured.
    #[must_use]
    pub fn none() -> Self {
        Self(|| 0)
    }

    pub(super) fn now(self) -> u64 {
        (self.0)()
    }

    /// What is wrong with what was allocated since `before` for an input of this length.
    pub(super) fn complaint(self, before: u64, length: usize, allowance: u64) -> Option<String> {
        let used = self.now().saturating_sub(before);
        let allowed = allowance + FREE_BYTES + BYTES_PER_BYTE * length as u64;
        (used > allowed).then(|| format!("it allocates {used} bytes, {allowed} are allowed"))
    }
}
