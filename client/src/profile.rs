//! Profiles: levels, deadlines and retries under a name, so that they are decided in one place.
//!
//! A profile can be changed while the client runs; keyspaces that use it follow with their next
//! call. What a call sets itself stands above its profile.
//!
//! Not here: what the levels mean (`quorate-ring`), which attempts follow (`retry`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quorate_ring::ConsistencyLevel;
use serde::{Deserialize, Serialize};

use crate::keyspace::DEADLINE_DEFAULT;

/// Longest deadline of a profile.
pub const DEADLINE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How calls are made: levels, deadlines, retries.
///
/// # Example
/// ```
/// # quorate_client::testing::block_on(async {
/// use std::time::Duration;
/// use quorate_client::{Level, Profile};
///
/// let client = quorate_client::testing::client();
/// let hasty = Profile::default().read_level(Level::One).deadline(Duration::from_millis(50));
/// client.set_profile("hasty", hasty)?;
/// let users = client.keyspace("default").profile("hasty")?;
/// users.get("alice").await?;
///
/// let error = client.keyspace("default").profile("hastily").expect_err("no such profile");
/// assert!(error.to_string().contains("hasty"), "{error}");
/// # Ok(()) });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    pub(crate) read_level: ConsistencyLevel,
    pub(crate) write_level: ConsistencyLevel,
    pub(crate) deadline: Duration,
    pub(crate) attempt_deadline: Option<Duration>,
    pub(crate) attempts_max: Option<u16>,
}

impl Default for Profile {
    /// `quorum` for both, 2 s, as many attempts as fit.
    fn default() -> Self {
        Self {
            read_level: ConsistencyLevel::Quorum,
            write_level: ConsistencyLevel::Quorum,
            deadline: DEADLINE_DEFAULT,
            attempt_deadline: None,
            attempts_max: None,
        }
    }
}

impl Profile {
    /// How many replicas must answer a read.
    #[must_use]
    pub const fn read_level(mut self, level: ConsistencyLevel) -> Self {
        self.read_level = level;
        self
    }

    /// How many replicas must hold a write.
    #[must_use]
    pub const fn write_level(mut self, level: ConsistencyLevel) -> Self {
        self.write_level = level;
        self
    }

    /// Time for a whole call, over all attempts.
    #[must_use]
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Longest time for one attempt, so that another node is asked earlier. Unset, the SDK cuts
    /// the deadline into two or three parts of at most 1 s.
    #[must_use]
    pub const fn attempt_deadline(mut self, deadline: Duration) -> Self {
        self.attempt_deadline = Some(deadline);
        self
    }

    /// Most attempts of a call; 1 turns retries off. Unset, as many as fit into the deadline and
    /// the retry budget.
    #[must_use]
    pub const fn attempts_max(mut self, attempts: u16) -> Self {
        self.attempts_max = Some(attempts);
        self
    }

    /// Whether it can be used at all.
    fn check(&self, name: &str) -> Result<(), ProfileError> {
        let wrong = |what| {
            Err(ProfileError::Unusable {
                name: name.to_owned(),
                what,
            })
        };
        let time = |time: Duration| !time.is_zero() && time <= DEADLINE_MAX;
        if !time(self.deadline) || !self.attempt_deadline.is_none_or(time) {
            return wrong("a deadline is over 0 and at most 24 h");
        }
        if self.attempts_max == Some(0) {
            return wrong("there is at least one attempt");
        }
        if matches!(self.read_level.strict(), ConsistencyLevel::Write(_)) {
            return wrong("`w=` is no level of a read");
        }
        if matches!(self.write_level.strict(), ConsistencyLevel::Read(_)) {
            return wrong("`r=` is no level of a write");
        }
        Ok(())
    }
}

/// Why a profile cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// There is none of this name.
    #[error(
        "there is no profile `{name}`; {}", known_ones(.known)
    )]
    Unknown {
        /// The name that was given.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// It contradicts itself.
    #[error("profile `{name}` cannot be used: {what}")]
    Unusable {
        /// Its name.
        name: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A part of it cannot be read.
    #[error("profile `{name}` cannot be used: {key} = `{given}`: {expected}")]
    Malformed {
        /// Its name.
        name: String,
        /// The key.
        key: &'static str,
        /// What was given.
        given: String,
        /// What is expected.
        expected: String,
    },
}

fn known_ones(known: &[String]) -> String {
    if known.is_empty() {
        "none is set: use `Client::set_profile` or `[profiles.NAME]` in client.toml".to_owned()
    } else {
        format!("the profiles are {}", known.join(", "))
    }
}

/// A profile as `client.toml` has it: `[profiles.NAME]`, every key optional.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileConfig {
    /// Level of reads: `one`, `two`, `quorum`, `all`, `r=N`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<String>,
    /// Level of writes: `one`, `two`, `quorum`, `all`, `w=N`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write: Option<String>,
    /// Time for a whole call: `50ms`, `2s`, `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
    /// Longest time for one attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt_deadline: Option<String>,
    /// Most attempts; 1 turns retries off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts_max: Option<u16>,
}

impl ProfileConfig {
    /// The profile that it describes.
    ///
    /// # Errors
    /// [`ProfileError`] that names the key and what is expected.
    pub fn to_profile(&self, name: &str) -> Result<Profile, ProfileError> {
        let Self {
            read,
            write,
            deadline,
            attempt_deadline,
            attempts_max,
        } = self;
        let malformed = |key, given: &str, expected: String| ProfileError::Malformed {
            name: name.to_owned(),
            key,
            given: given.to_owned(),
            expected,
        };
        let level = |key, text: &Option<String>, unset| match text {
            None => Ok(unset),
            Some(text) => text
                .parse::<ConsistencyLevel>()
                .map_err(|error| malformed(key, text, error.to_string())),
        };
        let time = |key, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => duration(text).map(Some).ok_or_else(|| {
                let expected = "a number and ms, s, m or h, such as `50ms`".to_owned();
                malformed(key, text, expected)
            }),
        };
        let unset = Profile::default();
        let profile = Profile {
            read_level: level("read", read, unset.read_level)?,
            write_level: level("write", write, unset.write_level)?,
            deadline: time("deadline", deadline)?.unwrap_or(unset.deadline),
            attempt_deadline: time("attempt_deadline", attempt_deadline)?,
            attempts_max: *attempts_max,
        };
        profile.check(name)?;
        Ok(profile)
    }
}

/// `50ms`, `2s`, `5m`, `12h`.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    let millis = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

/// A profile that keyspaces share, so that they follow when it is changed.
pub(crate) type ProfileSlot = Arc<Mutex<Profile>>;

pub(crate) fn present(slot: &ProfileSlot) -> Profile {
    *slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The profiles of a client, by name.
#[derive(Debug, Default)]
pub(crate) struct Profiles(Mutex<BTreeMap<String, ProfileSlot>>);

impl Profiles {
    pub(crate) fn set(&self, name: &str, profile: Profile) -> Result<(), ProfileError> {
        profile.check(name)?;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = known.get(name) {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = profile;
        } else {
            known.insert(name.to_owned(), Arc::new(Mutex::new(profile)));
        }
        Ok(())
    }

    pub(crate) fn find(&self, name: &str) -> Result<ProfileSlot, ProfileError> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .get(name)
            .cloned()
            .ok_or_else(|| ProfileError::Unknown {
                name: name.to_owned(),
                known: known.keys().cloned().collect(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_of_a_file_says_what_is_wrong_with_it() {
        let config = |key: &str, text: &str| {
            let text = format!("{key} = {text}");
            let config: ProfileConfig = toml::from_str(&text).expect("good TOML");
            config.to_profile("p").map_err(|error| error.to_string())
        };
        let good = config("deadline", "\"50ms\"").expect("a deadline");
        assert_eq!(good, Profile::default().deadline(Duration::from_millis(50)));
        let cases = [
            ("deadline", "\"0s\"", "over 0 and at most 24 h"),
            ("deadline", "\"25h\"", "over 0 and at most 24 h"),
            ("attempt_deadline", "\"50\"", "such as `50ms`"),
            ("attempts_max", "0", "at least one attempt"),
            ("read", "\"w=2\"", "no level of a read"),
            ("write", "\"most\"", "`most`"),
        ];
        for (key, text, want) in cases {
            let error = config(key, text).expect_err(want);
            assert!(error.contains(want), "{error}");
        }
    }
}
