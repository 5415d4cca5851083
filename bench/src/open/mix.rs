//! Which operations an open loop asks, and how often each.

use std::str::FromStr;

use rand::RngExt;
use rand::rngs::SmallRng;

/// Kind of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Get of a key.
    Read,
    /// Put that supersedes what the key holds.
    Write,
    /// Delete of what the key holds.
    Delete,
    /// Get, then a put after it.
    Update,
    /// Get of [`BATCH_KEYS`] keys in one call.
    MultiGet,
    /// Put of [`BATCH_KEYS`] keys in one call.
    MultiPut,
    /// Scan of [`SCAN_KEYS`] keys in a row.
    Scan,
}

/// Keys of a batch.
pub const BATCH_KEYS: u32 = 10;
/// Keys in the range of a scan.
pub const SCAN_KEYS: u32 = 100;

impl Action {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Read,
        Self::Write,
        Self::Delete,
        Self::Update,
        Self::MultiGet,
        Self::MultiPut,
        Self::Scan,
    ];

    /// Its word on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::Update => "update",
            Self::MultiGet => "multi-get",
            Self::MultiPut => "multi-put",
            Self::Scan => "scan",
        }
    }
}

/// Shares of actions: `read=50,write=50`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mix(Vec<(Action, u32)>);

/// Why a text is no mix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MixError {
    /// A part is not of the form `ACTION=SHARE`.
    #[error("`{0}` is not of the form ACTION=SHARE")]
    Form(String),
    /// There is no such action.
    #[error(
        "there is no action `{0}`; read, write, delete, update, multi-get, multi-put, scan are"
    )]
    Action(String),
    /// An action is named twice.
    #[error("`{0}` is named twice")]
    Twice(String),
    /// All shares are 0.
    #[error("a mix needs a share above 0")]
    Empty,
}

impl FromStr for Mix {
    type Err = MixError;

    fn from_str(text: &str) -> Result<Self, MixError> {
        let mut shares: Vec<(Action, u32)> = Vec::new();
        for part in text.split(',') {
            let form = || MixError::Form(part.to_owned());
            let (name, share) = part.trim().split_once('=').ok_or_else(form)?;
            let action = Action::ALL.into_iter().find(|a| a.name() == name);
            let action = action.ok_or_else(|| MixError::Action(name.to_owned()))?;
            if shares.iter().any(|(known, _)| *known == action) {
                return Err(MixError::Twice(name.to_owned()));
            }
            shares.push((action, share.parse::<u16>().map_err(|_| form())?.into()));
        }
        if shares.iter().all(|(_, share)| *share == 0) {
            return Err(MixError::Empty);
        }
        Ok(Self(shares))
    }
}

impl std::fmt::Display for Mix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (number, (action, share)) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(f, "{comma}{}={share}", action.name())?;
        }
        Ok(())
    }
}

impl Mix {
    /// Draws an action.
    pub(super) fn draw(&self, random: &mut SmallRng) -> Action {
        let all: u32 = self.0.iter().map(|(_, share)| share).sum();
        let mut at = random.random_range(0..all.max(1));
        for (action, share) in &self.0 {
            match at.checked_sub(*share) {
                Some(rest) => at = rest,
                None => return *action,
            }
        }
        Action::Read
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn shares_are_drawn_as_asked_and_bad_texts_say_why() {
        let mix: Mix = "read=75,scan=25".parse().expect("well formed");
        assert_eq!(mix.to_string(), "read=75,scan=25");
        let mut random = SmallRng::seed_from_u64(1);
        let reads = (0..10_000).filter(|_| mix.draw(&mut random) == Action::Read);
        assert!((7_200..7_800).contains(&reads.count()));
        let cases = [
            ("read", MixError::Form("read".into())),
            ("read=x", MixError::Form("read=x".into())),
            ("fly=1", MixError::Action("fly".into())),
            ("read=1,read=2", MixError::Twice("read".into())),
            ("read=0", MixError::Empty),
        ];
        for (text, want) in cases {
            assert_eq!(text.parse::<Mix>(), Err(want));
        }
    }
}
