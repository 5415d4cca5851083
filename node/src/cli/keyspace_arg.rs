//! `--keyspace NAME[,mode=M][,n=N][,durability=D][,r=LEVEL][,w=LEVEL][,ttl=TIME]`: a keyspace as it
//! is asked for when a cluster is created.

use std::str::FromStr;

use quorate_ring::{
    ConsistencyLevel, Copies, Durability, Keyspace, KeyspaceId, KeyspaceMode, KeyspaceName,
    KeyspaceOptions, Ttl,
};

use super::exit::Problem;
use crate::config::units::parse_duration;

/// A keyspace that is asked for; what was not said is `None`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct KeyspaceArg {
    name: KeyspaceName,
    mode: Option<KeyspaceMode>,
    copies: Option<Copies>,
    durability: Option<Durability>,
    read_level: Option<ConsistencyLevel>,
    write_level: Option<ConsistencyLevel>,
    ttl: Option<Ttl>,
}

impl KeyspaceArg {
    /// A keyspace of which only the mode is said.
    ///
    /// # Errors
    /// A usage [`Problem`] if `name` is no name.
    pub(super) fn named(name: &str, mode: KeyspaceMode) -> Result<Self, Problem> {
        let name = name.parse().map_err(|e| Problem::usage(format!("{e}")))?;
        Ok(Self {
            mode: Some(mode),
            ..Self::unsaid(name)
        })
    }

    const fn unsaid(name: KeyspaceName) -> Self {
        Self {
            name,
            mode: None,
            copies: None,
            durability: None,
            read_level: None,
            write_level: None,
            ttl: None,
        }
    }

    /// The same with what `usual` says where this one is silent about the mode.
    pub(super) fn or_mode_of(self, usual: &Self) -> Self {
        Self {
            mode: self.mode.or(usual.mode),
            ..self
        }
    }

    /// Its name.
    pub(super) const fn name(&self) -> &KeyspaceName {
        &self.name
    }

    /// The keyspace with number `id`, and N = `copies` if it says none.
    pub(super) fn keyspace(&self, id: KeyspaceId, copies: Copies) -> Keyspace {
        let usual = KeyspaceOptions::default();
        Keyspace {
            id,
            name: self.name.clone(),
            mode: self.mode.unwrap_or_default(),
            copies: self.copies.unwrap_or(copies),
            options: KeyspaceOptions {
                durability: self.durability.unwrap_or(usual.durability),
                read_level: self.read_level.unwrap_or(usual.read_level),
                write_level: self.write_level.unwrap_or(usual.write_level),
                ttl: self.ttl.or(usual.ttl),
            },
        }
    }

    /// Whether `keyspace` is what is asked for, as far as that goes.
    pub(super) fn fits(&self, keyspace: &Keyspace) -> bool {
        fn same<T: PartialEq>(asked: Option<T>, present: &T) -> bool {
            asked.is_none_or(|asked| asked == *present)
        }
        let options = &keyspace.options;
        self.name == keyspace.name
            && same(self.mode, &keyspace.mode)
            && same(self.copies, &keyspace.copies)
            && same(self.durability, &options.durability)
            && same(self.read_level, &options.read_level)
            && same(self.write_level, &options.write_level)
            && same(self.ttl.map(Some), &options.ttl)
    }

    fn set(&mut self, option: &str, value: &str) -> Result<(), String> {
        match option {
            "mode" => put(&mut self.mode, option, value.parse().map_err(text)?),
            "n" => {
                let n: u8 = value
                    .parse()
                    .map_err(|_| format!("n={value} is no number from 1 to 255"))?;
                put(&mut self.copies, option, Copies::new(n).map_err(text)?)
            }
            "durability" => put(&mut self.durability, option, value.parse().map_err(text)?),
            "r" => put(&mut self.read_level, option, level(option, value)?),
            "w" => put(&mut self.write_level, option, level(option, value)?),
            "ttl" => {
                let duration = parse_duration(value).map_err(text)?;
                let ttl = Ttl::from_duration(duration).map_err(text)?;
                put(&mut self.ttl, option, ttl)
            }
            _ => Err(format!(
                "`{option}={value}` is none of mode=M, n=N, durability=D, r=LEVEL, w=LEVEL, ttl=TIME"
            )),
        }
    }
}

impl FromStr for KeyspaceArg {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, String> {
        let mut parts = given.split(',');
        let name = parts.next().unwrap_or_default();
        let mut keyspace = Self::unsaid(name.parse().map_err(text)?);
        for part in parts {
            let (option, value) = part
                .split_once('=')
                .ok_or_else(|| format!("`{part}` is not OPTION=VALUE, as in mode=lww or n=2"))?;
            keyspace.set(option, value)?;
        }
        Ok(keyspace)
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn put<T>(slot: &mut Option<T>, option: &str, value: T) -> Result<(), String> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("`{option}=` is there twice")),
    }
}

/// A level: one, two, quorum, all, or a count of replicas.
fn level(option: &str, value: &str) -> Result<ConsistencyLevel, String> {
    let counted = value.bytes().all(|b| b.is_ascii_digit()) && !value.is_empty();
    if counted {
        format!("{option}={value}").parse().map_err(text)
    } else {
        value.parse().map_err(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyspace_is_a_name_and_options() {
        for good in [
            "users",
            "users,mode=siblings,n=2",
            "cache,mode=lww,durability=memory,r=one,w=2,ttl=30d",
        ] {
            assert!(good.parse::<KeyspaceArg>().is_ok(), "{good}");
        }
        let bad = [
            ("users,mode=strong", "later work"),
            ("users,mode=odd", "no keyspace mode"),
            ("users,n=0", "0 copies"),
            ("users,n=x", "no number"),
            ("users,n=1,n=2", "twice"),
            ("users,durability=tape", "no durability"),
            ("users,r=most", "no consistency level"),
            ("users,r=0", "1 to 255"),
            ("users,w=each-quorum", "later work"),
            ("users,ttl=0s", "1 ms to ten years"),
            ("users,ttl=3651d", "1 ms to ten years"),
            ("users,ttl=5", "no duration"),
            ("users,size=1", "none of"),
            ("users,lww", "not OPTION=VALUE"),
            ("", "no keyspace name"),
        ];
        for (given, want) in bad {
            let error = given.parse::<KeyspaceArg>().expect_err(given);
            assert!(error.contains(want), "{given}: {error}");
        }
    }

    #[test]
    fn what_is_not_said_fits_any_keyspace() {
        let parse = |text: &str| text.parse::<KeyspaceArg>().expect(text);
        let three = Copies::new(3).expect("not 0");
        let keyspace = parse("a,mode=lww,n=2,ttl=5s").keyspace(KeyspaceId(1), three);
        for (asked, fits) in [
            ("a", true),
            ("a,n=2", true),
            ("a,mode=lww,ttl=5s", true),
            ("b", false),
            ("a,n=3", false),
            ("a,mode=siblings", false),
            ("a,ttl=6s", false),
            ("a,durability=memory", false),
        ] {
            assert_eq!(parse(asked).fits(&keyspace), fits, "{asked}");
        }
    }
}
