//! What the tool knows of each key: the context token of its last write, and whether one is under
//! way. A million tokens are some 100 MB: each is one exact allocation, never a piece of a larger
//! network buffer.
//!
//! Invariant: at most one write per key is under way, so a key's writes supersede each other and
//! leave one value.

use quorate_client::Context;

/// What is known of one key.
#[derive(Debug)]
enum Slot {
    /// Its token must be read before the next write.
    Unread,
    /// A write is under way.
    Busy,
    /// The token of the last write or read.
    Seen(Box<[u8]>),
}

/// What a write of a key has to come after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Nothing is known: read the key first.
    ReadFirst,
    /// This token.
    After(Context),
}

/// The tokens of all keys, by index.
#[derive(Debug)]
pub struct Tokens {
    slots: Vec<Slot>,
}

impl Tokens {
    /// `count` keys of which nothing is known.
    #[must_use]
    pub fn unread(count: u32) -> Self {
        let slots = (0..count).map(|_| Slot::Unread).collect();
        Self { slots }
    }

    /// Claims a key for a write; `None` if one is under way. The claim ends with
    /// [`Tokens::written`] or [`Tokens::forget`].
    pub fn claim(&mut self, index: u32) -> Option<Claim> {
        let slot = self.slots.get_mut(index as usize)?;
        match std::mem::replace(slot, Slot::Busy) {
            Slot::Busy => None,
            Slot::Unread => Some(Claim::ReadFirst),
            Slot::Seen(token) => {
                Some(Context::from_bytes(Vec::from(token)).map_or(Claim::ReadFirst, Claim::After))
            }
        }
    }

    /// Ends a claim: the next write comes after `context`.
    pub fn written(&mut self, index: u32, context: &Context) {
        self.set(index, Slot::Seen(context.as_bytes().into()));
    }

    /// Ends a claim whose write is of unknown outcome, or whose reply had no token.
    pub fn forget(&mut self, index: u32) {
        self.set(index, Slot::Unread);
    }

    /// Keys whose token is known.
    #[must_use]
    pub fn known(&self) -> usize {
        let known = self
            .slots
            .iter()
            .filter(|slot| matches!(slot, Slot::Seen(_)));
        known.count()
    }

    fn set(&mut self, index: u32, to: Slot) {
        if let Some(slot) = self.slots.get_mut(index as usize) {
            *slot = to;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_write_at_a_time() {
        let mut tokens = Tokens::unread(2);
        assert_eq!(tokens.claim(0), Some(Claim::ReadFirst));
        assert_eq!(tokens.claim(0), None);
        assert_eq!(tokens.claim(1), Some(Claim::ReadFirst));
        let context = Context::from_bytes(vec![1, 2, 3]).expect("not empty");
        tokens.written(0, &context);
        assert_eq!(tokens.known(), 1);
        assert_eq!(tokens.claim(0), Some(Claim::After(context)));
        tokens.forget(0);
        assert_eq!(tokens.claim(0), Some(Claim::ReadFirst));
    }

    #[test]
    fn there_is_no_claim_beyond_the_keys() {
        assert_eq!(Tokens::unread(1).claim(1), None);
    }
}
