//! Resolvers: what becomes of siblings.
//!
//! A resolver sees all siblings at once and gives one value. To converge whoever resolves, its
//! result should depend on the values alone and not on their order, and hold all that the values
//! hold that is worth keeping.
//!
//! Not here: reading and writing (`update`).

use std::collections::BTreeSet;

use crate::codec::Packed;

/// Chooses or merges one value of siblings.
///
/// Implemented for closures `Fn(Vec<T>) -> Result<T, Rejected>`. It runs on a thread of its own,
/// so that one that never ends costs its caller no more than the deadline.
///
/// # Example
/// ```
/// # quorate_client::testing::block_on(async {
/// use quorate_client::{Rejected, resolvers};
///
/// let names = quorate_client::testing::client().keyspace("default");
/// names.put_blind("pet", "cat").await?;
/// names.put_blind("pet", "dog").await?;
/// let both = |siblings: Vec<String>| -> Result<String, Rejected> { Ok(siblings.join("-")) };
/// names.update("pet", both, |name| name).await?;
/// let read = names.get("pet").await?;
/// assert_eq!(read.value().map(|v| v.len()), Some(7));
///
/// // Ready-made ones: the greatest value, the newest by a field, the union of sets.
/// names.update("score", resolvers::Max, |score: Option<u64>| Some(score.unwrap_or(0) + 1)).await?;
/// # Ok(()) });
/// ```
pub trait Resolve<T>: Send + Sync + 'static {
    /// One value for two or more.
    ///
    /// # Errors
    /// [`Rejected`] if it cannot; nothing is written then.
    fn resolve(&self, siblings: Vec<T>) -> Result<T, Rejected>;
}

/// Why a resolver gave no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Rejected {
    reason: String,
}

impl Rejected {
    /// With a reason for people.
    pub fn new(reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { reason }
    }
}

impl<T, F> Resolve<T> for F
where
    F: Fn(Vec<T>) -> Result<T, Rejected> + Send + Sync + 'static,
{
    fn resolve(&self, siblings: Vec<T>) -> Result<T, Rejected> {
        self(siblings)
    }
}

/// Ready-made resolvers.
pub mod resolvers {
    use super::{BTreeSet, Packed, Rejected, Resolve};

    /// The greatest value.
    #[derive(Debug, Clone, Copy, Default)]
    pub struct Max;

    impl<T: Ord> Resolve<T> for Max {
        fn resolve(&self, siblings: Vec<T>) -> Result<T, Rejected> {
            siblings.into_iter().max().ok_or_else(none)
        }
    }

    /// The value whose field is the greatest, such as a time of change; of equal ones the last in
    /// the order that all nodes agree on. What the others hold is lost: that is last-write-wins,
    /// by a field of your own.
    #[derive(Debug, Clone, Copy)]
    pub struct LastBy<F>(pub F);

    impl<T, K, F> Resolve<T> for LastBy<F>
    where
        K: Ord,
        F: Fn(&T) -> K + Send + Sync + 'static,
    {
        fn resolve(&self, siblings: Vec<T>) -> Result<T, Rejected> {
            siblings.into_iter().max_by_key(&self.0).ok_or_else(none)
        }
    }

    /// All elements of all sets. An element that one writer took out and another left in comes
    /// back: keep removals as elements of their own if that matters.
    #[derive(Debug, Clone, Copy, Default)]
    pub struct Union;

    impl<E: Ord + Send + 'static> Resolve<Packed<BTreeSet<E>>> for Union {
        fn resolve(
            &self,
            siblings: Vec<Packed<BTreeSet<E>>>,
        ) -> Result<Packed<BTreeSet<E>>, Rejected> {
            let elements = siblings.into_iter().flat_map(|Packed(set)| set);
            Ok(Packed(elements.collect()))
        }
    }

    /// Refuses siblings: a person has to look.
    #[derive(Debug, Clone, Copy, Default)]
    pub struct Refuse;

    impl<T> Resolve<T> for Refuse {
        fn resolve(&self, siblings: Vec<T>) -> Result<T, Rejected> {
            Err(Rejected::new(format!(
                "there are {} concurrent values",
                siblings.len()
            )))
        }
    }

    fn none() -> Rejected {
        Rejected::new("there is no value")
    }
}

#[cfg(test)]
mod tests {
    use super::resolvers::{LastBy, Max, Refuse, Union};
    use super::*;

    #[test]
    fn ready_made_resolvers_do_not_depend_on_the_order() {
        assert_eq!(Max.resolve(vec![3, 9, 7]), Ok(9));
        assert_eq!(Max.resolve(vec![9, 7, 3]), Ok(9));
        let last = LastBy(|value: &(u64, &str)| value.0);
        assert_eq!(last.resolve(vec![(2, "b"), (1, "a")]), Ok((2, "b")));
        assert_eq!(last.resolve(vec![(1, "a"), (2, "b")]), Ok((2, "b")));
        let set = |elements: &[u8]| Packed(elements.iter().copied().collect::<BTreeSet<u8>>());
        assert_eq!(
            Union.resolve(vec![set(&[1, 2]), set(&[2, 3])]),
            Ok(set(&[1, 2, 3]))
        );
        assert!(Refuse.resolve(vec![1, 2]).is_err());
    }
}
