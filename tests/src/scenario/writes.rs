//! What the writers of a scenario know of each key, and what a read may then find.
//!
//! A key has one writer at a time. A read must find every value that was acknowledged and not
//! superseded, may find values of unknown outcome, and nothing else. A value of unknown outcome may
//! hide exactly what its write had seen.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use bytes::Bytes;
use quorate_client::{Context, Read, Written};

/// Length of a value, so that records fill more than one page.
const VALUE_BYTES: usize = 128;

/// What is known of one key.
#[derive(Debug, Default)]
pub(super) struct KeyHistory {
    /// Writes whose values must be found.
    current: BTreeSet<u64>,
    /// Writes of unknown outcome, each with what it had seen.
    maybe: BTreeMap<u64, BTreeSet<u64>>,
    /// What a next write comes after; absent while the key must be read first.
    context: Option<Context>,
}

impl KeyHistory {
    /// What the next write comes after; `None` while the key must be read first.
    pub(super) const fn context(&self) -> Option<&Context> {
        self.context.as_ref()
    }

    /// The write was acknowledged: it superseded everything that was known.
    pub(super) fn applied(&mut self, write: u64, written: &Written) {
        self.current = [write].into();
        self.context = written.context().cloned();
    }

    /// What became of the write is not known. The key must be read before it is written again.
    pub(super) fn unknown(&mut self, write: u64) {
        self.maybe.insert(write, self.current.clone());
        self.context = None;
    }

    /// Judges what a read at `quorum` found, and takes it as what is there.
    ///
    /// # Errors
    /// If it found what cannot be there, or did not find what must be.
    pub(super) fn read(&mut self, key: &str, read: &Read) -> Result<()> {
        let mut found = BTreeSet::new();
        for value in read.values() {
            let write = write_of(key, value);
            let shown = String::from_utf8_lossy(value);
            let Some(write) = write else {
                anyhow::bail!("key {key} has a value that nobody wrote to it: {shown}");
            };
            ensure!(found.insert(write), "key {key} has write {write} twice");
            let may_be_there = self.current.contains(&write) || self.maybe.contains_key(&write);
            ensure!(may_be_there, "key {key}: write {write} is back; {self:?}");
        }
        for lost in self.current.difference(&found) {
            let mut hiding = self.maybe.iter().filter(|(write, _)| found.contains(write));
            let is_superseded = hiding.any(|(_, seen)| seen.contains(lost));
            ensure!(
                is_superseded,
                "key {key}: acknowledged write {lost} is lost; {self:?}"
            );
        }
        self.maybe.retain(|write, _| !found.contains(write));
        self.current = found;
        self.context = Some(read.context().clone());
        Ok(())
    }

    /// Writes of unknown outcome that no read has found yet.
    pub(super) fn unseen(&self) -> usize {
        self.maybe.len()
    }
}

/// The value of a write: it names its key and itself.
pub(super) fn value_of(key: &str, write: u64) -> Bytes {
    format!("{key}:{write}:{:->VALUE_BYTES$}", "").into()
}

fn write_of(key: &str, value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    let write = text
        .strip_prefix(key)?
        .strip_prefix(':')?
        .split(':')
        .next()?
        .parse()
        .ok()?;
    (value_of(key, write) == value).then_some(write)
}

#[cfg(test)]
mod tests {
    use quorate_client::Keyspace;
    use quorate_client::testing::FakeCluster;

    use super::*;

    /// A key with write 1 acknowledged and write 2, after it, of unknown outcome.
    async fn key_with_an_unknown_write() -> (Keyspace, KeyHistory, Context) {
        let keyspace = FakeCluster::new().client(1).keyspace("default");
        let mut history = KeyHistory::default();
        let written = keyspace
            .put_blind("k", value_of("k", 1))
            .await
            .expect("it works");
        history.applied(1, &written);
        history.unknown(2);
        let context = written.context().expect("a token").clone();
        (keyspace, history, context)
    }

    #[tokio::test]
    async fn an_unknown_write_may_be_there_and_hides_what_it_had_seen() {
        for was_applied in [false, true] {
            let (keyspace, mut history, context) = key_with_an_unknown_write().await;
            if was_applied {
                let write = keyspace.put("k", value_of("k", 2)).after(&context);
                write.await.expect("it works");
            }
            let read = keyspace.get("k").await.expect("it works");
            history.read("k", &read).expect("both are possible");
            assert_eq!(history.unseen(), usize::from(!was_applied));
        }
    }

    #[tokio::test]
    async fn a_superseded_value_that_is_back_is_an_error() {
        let (keyspace, mut history, context) = key_with_an_unknown_write().await;
        keyspace
            .put("k", value_of("k", 2))
            .after(&context)
            .await
            .expect("it works");
        let read = keyspace.get("k").await.expect("it works");
        history
            .read("k", &read)
            .expect("the unknown write was applied");
        keyspace
            .put_blind("k", value_of("k", 1))
            .await
            .expect("it works");
        let read = keyspace.get("k").await.expect("it works");
        let error = history
            .read("k", &read)
            .expect_err("write 1 was superseded");
        assert!(error.to_string().contains("is back"), "{error}");
    }

    #[tokio::test]
    async fn a_lost_value_and_a_foreign_one_are_errors() {
        let (keyspace, mut history, _) = key_with_an_unknown_write().await;
        let nothing = keyspace.get("other").await.expect("it works");
        let error = history
            .read("k", &nothing)
            .expect_err("write 1 must be there");
        assert!(error.to_string().contains("is lost"), "{error}");
        keyspace.put_blind("k", "whatever").await.expect("it works");
        let read = keyspace.get("k").await.expect("it works");
        let error = history.read("k", &read).expect_err("nobody wrote that");
        assert!(error.to_string().contains("nobody wrote"), "{error}");
    }
}
