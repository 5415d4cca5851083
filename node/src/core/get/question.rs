//! What the replicas of a get are asked whether they hold it: the digest of the coordinator's own
//! record. Who holds exactly that says so, and no record travels.
//!
//! There is one question in a get, because a reply does not say which one it answers. While the own
//! record is being loaded, its digest may be known already: then replicas are asked by that, and
//! those that say yes are heard once the record is there. If it turns out to be another one, or is
//! late, the question is withdrawn: who said yes, or says so later, is asked anew without one.
//!
//! Not here: whom to ask when (`get`), what answers say together (`answers`).

use std::sync::Arc;

use quorate_antientropy::{Digest, KeyState, PurgeNumbers};
use quorate_ring::NodeId;
use smallvec::SmallVec;

use super::super::node_set::NodeSet;
use super::super::standing::Standing;

/// A replica that holds what was asked about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holder {
    pub(super) node: NodeId,
    pub(super) numbers: PurgeNumbers,
    pub(super) standing: Standing,
}

type Holders = SmallVec<[Holder; 2]>;

/// What replicas are asked.
#[derive(Debug, Default)]
pub(super) enum Question {
    /// For their records.
    #[default]
    Nothing,
    /// Whether they hold a record of this digest, which the coordinator is loading.
    Expected { digest: Digest, said_yes: Holders },
    /// Whether they hold this one.
    Known {
        digest: Digest,
        record: Arc<KeyState>,
    },
    /// For their records, after a question that nobody waits for any more. These had said yes to it
    /// and were asked anew.
    Withdrawn { digest: Digest, asked_anew: NodeSet },
}

/// What to do with a replica that says yes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Yes {
    /// It holds this.
    Holds(Arc<KeyState>),
    /// It is heard later.
    Later,
    /// It is to be asked anew.
    AskAnew,
    /// It was asked anew already, and this is its first word again.
    Again,
    /// It was not asked this.
    Unasked,
}

impl Question {
    /// The coordinator is loading a record of this digest.
    pub(super) fn expect(&mut self, digest: Digest) {
        if matches!(self, Self::Nothing) {
            *self = Self::Expected {
                digest,
                said_yes: Holders::new(),
            };
        }
    }

    /// The coordinator holds this, or nothing. Gives who holds it too, to be heard now, or who is
    /// to be asked anew.
    pub(super) fn answer_self(
        &mut self,
        own: Option<(Digest, Arc<KeyState>)>,
    ) -> Result<Holders, Holders> {
        match (&mut *self, own) {
            (Self::Nothing, Some((digest, record))) => {
                *self = Self::Known { digest, record };
                Ok(Holders::new())
            }
            (Self::Expected { digest, said_yes }, Some((own, record))) if own == *digest => {
                let said_yes = std::mem::take(said_yes);
                *self = Self::Known {
                    digest: own,
                    record,
                };
                Ok(said_yes)
            }
            (Self::Expected { .. }, _) => Err(self.withdraw()),
            // It was late; who says yes still means this one.
            (Self::Withdrawn { digest, .. }, Some((own, record))) if own == *digest => {
                *self = Self::Known {
                    digest: own,
                    record,
                };
                Ok(Holders::new())
            }
            (Self::Nothing | Self::Known { .. } | Self::Withdrawn { .. }, _) => Ok(Holders::new()),
        }
    }

    /// The own record is late: nobody waits for it. Gives who is to be asked anew.
    pub(super) fn withdraw(&mut self) -> Holders {
        let Self::Expected { digest, said_yes } = self else {
            return Holders::new();
        };
        let (digest, said_yes) = (*digest, std::mem::take(said_yes));
        let mut asked_anew = NodeSet::default();
        for holder in &said_yes {
            asked_anew.insert(holder.node);
        }
        *self = Self::Withdrawn { digest, asked_anew };
        said_yes
    }

    /// A replica says that it holds what it was asked about.
    pub(super) fn yes(&mut self, holder: Holder) -> Yes {
        match self {
            Self::Nothing => Yes::Unasked,
            Self::Expected { said_yes, .. } => {
                // Its last word counts: it may have begun a new life since the one before.
                said_yes.retain(|heard| heard.node != holder.node);
                said_yes.push(holder);
                Yes::Later
            }
            Self::Known { record, .. } => Yes::Holds(Arc::clone(record)),
            Self::Withdrawn { asked_anew, .. } => {
                if asked_anew.insert(holder.node) {
                    Yes::AskAnew
                } else {
                    Yes::Again
                }
            }
        }
    }

    /// That a replica said yes counts no more.
    pub(super) fn forget(&mut self, node: NodeId) {
        if let Self::Expected { said_yes, .. } = self {
            said_yes.retain(|heard| heard.node != node);
        }
    }

    /// Whether a replica said yes to a question whose answer is not here.
    pub(super) fn was_heard(&self, node: NodeId) -> bool {
        match self {
            Self::Expected { said_yes, .. } => said_yes.iter().any(|heard| heard.node == node),
            Self::Withdrawn { asked_anew, .. } => asked_anew.contains(node),
            Self::Nothing | Self::Known { .. } => false,
        }
    }

    /// What a replica is asked.
    pub(super) const fn digest(&self) -> Option<Digest> {
        match self {
            Self::Expected { digest, .. } | Self::Known { digest, .. } => Some(*digest),
            Self::Nothing | Self::Withdrawn { .. } => None,
        }
    }

    /// The record that it is about, once that is here.
    pub(super) const fn record(&self) -> Option<&Arc<KeyState>> {
        match self {
            Self::Known { record, .. } => Some(record),
            Self::Nothing | Self::Expected { .. } | Self::Withdrawn { .. } => None,
        }
    }
}
