//! Whether a replica's word counts towards a level.

/// How a replica stood for a vnode when it answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It counts for R and W.
    Counts,
    /// It is starting: it answers, and is asked again within the deadline.
    NotYet,
}

impl From<bool> for Standing {
    /// As answers carry it: whether the replica counts.
    fn from(counts: bool) -> Self {
        if counts { Self::Counts } else { Self::NotYet }
    }
}
