//! Scans of a keyspace in key order, as a stream of pages that can go on anywhere.
//!
//! A page is one request, retried like a get. Where the scan stands is a token that the nodes
//! sealed and do not keep: it works in another process, after a restart of every node, and for
//! ever.
//!
//! Each record is shown as a read of its key at the scan's level would show it at some time while
//! its page was made. A scan is not a snapshot: what is written while it runs may or may not be in
//! it; a key that was acknowledged before it began and not deleted is in it once.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::stream::{Stream, try_unfold};
use quorate_ring::ConsistencyLevel;

use crate::client::{AttemptLimits, Client, IfSuperseded, Operation, Payload};
use crate::error::GetError;
use crate::wire::{self, Code, KEY_BYTES_MAX, SCAN_RECORDS_MAX, ScanToken};

/// Time for one page unless another is given.
const PAGE_DEADLINE_DEFAULT: Duration = Duration::from_secs(10);

/// What is to be scanned; [`Scan::pages`] or [`Scan::records`] begins.
///
/// # Example
/// ```
/// # quorate_client::testing::block_on(async {
/// let users = quorate_client::testing::client().keyspace("default");
/// for name in ["ann", "bob", "eve"] {
///     users.put_blind(name, "1").await?;
/// }
/// let mut pages = users.scan().range("b", "f").pages();
/// let mut names = Vec::new();
/// while let Some(page) = pages.next_page().await? {
///     names.extend(page.records.into_iter().map(|record| record.key));
/// }
/// assert_eq!(names, ["bob", "eve"]);
/// # Ok(()) });
/// ```
#[derive(Debug, Clone)]
#[must_use = "a scan begins with `pages` or `records`"]
pub struct Scan {
    client: Client,
    keyspace: Arc<str>,
    start: Bytes,
    end: Option<Bytes>,
    level: ConsistencyLevel,
    attempts: AttemptLimits,
    limit: Option<u64>,
    page_records: usize,
    deadline: Duration,
    from: Option<ScanPosition>,
    too_long: bool,
}

impl Scan {
    pub(crate) fn new(client: Client, like: Operation) -> Self {
        Self {
            client,
            keyspace: like.keyspace,
            start: Bytes::new(),
            end: None,
            // What the keyspace or the profile says of its reads: owners alone are asked by scans.
            level: like.level.strict(),
            attempts: like.attempts,
            limit: None,
            page_records: SCAN_RECORDS_MAX,
            deadline: PAGE_DEADLINE_DEFAULT,
            from: None,
            too_long: false,
        }
    }

    /// Keys that begin with `prefix`, at most 1,024 bytes.
    pub fn prefix(mut self, prefix: impl Into<Bytes>) -> Self {
        let prefix = prefix.into();
        self.too_long = prefix.len() > KEY_BYTES_MAX;
        self.end = behind_prefix(&prefix);
        self.start = prefix;
        self
    }

    /// Keys from `start` on and before `end`.
    pub fn range(self, start: impl Into<Bytes>, end: impl Into<Bytes>) -> Self {
        self.start_at(start).end_before(end)
    }

    /// Keys from `start` on; all unless set.
    pub fn start_at(mut self, start: impl Into<Bytes>) -> Self {
        self.start = start.into();
        self
    }

    /// Keys before `end`; all unless set.
    pub fn end_before(mut self, end: impl Into<Bytes>) -> Self {
        self.end = Some(end.into());
        self
    }

    /// How many replicas must answer for each record; what the keyspace has, usually `quorum`,
    /// unless set. Owners alone are asked: a sloppy level is refused as [`Code::LevelImpossible`]
    /// when a page is asked for, and where the keyspace or the profile has one for reads, scans use
    /// it without fallbacks.
    pub fn level(mut self, level: impl Into<Option<ConsistencyLevel>>) -> Self {
        self.level = level.into().unwrap_or(self.level);
        self
    }

    /// Most records of the whole scan; no bound unless set.
    pub fn limit(mut self, records: u64) -> Self {
        self.limit = Some(records);
        self
    }

    /// Most records of a page, 1 to 1,000; nodes may send fewer. Small pages cost more per record:
    /// each looks at every vnode.
    pub fn page_records(mut self, records: usize) -> Self {
        self.page_records = records.clamp(1, SCAN_RECORDS_MAX);
        self
    }

    /// Time for one page, over all attempts; 10 s unless set.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Goes on where an earlier scan of the same keyspace and range stood.
    pub fn resume(mut self, position: ScanPosition) -> Self {
        self.from = Some(position);
        self
    }

    /// Begins, as a stream of records. A page is held, and the next one is asked for when that is
    /// used up. To go on from a position later use [`Scan::pages`].
    ///
    /// # Errors
    /// An item is an error as [`ScanPages::next_page`] tells it; then the stream ends.
    ///
    /// # Example
    /// ```
    /// # quorate_client::testing::block_on(async {
    /// use futures_util::TryStreamExt as _;
    ///
    /// let users = quorate_client::testing::client().keyspace("default");
    /// for name in ["ann", "bob", "eve"] {
    ///     users.put_blind(name, "1").await?;
    /// }
    /// let names = users.scan().records().map_ok(|record| record.key);
    /// let names: Vec<_> = names.try_collect().await?;
    /// assert_eq!(names, ["ann", "bob", "eve"]);
    /// # Ok(()) });
    /// ```
    pub fn records(self) -> impl Stream<Item = Result<ScannedRecord, GetError>> + Send {
        let start = (self.pages(), Vec::new().into_iter());
        try_unfold(start, |(mut pages, mut held)| async move {
            loop {
                if let Some(record) = held.next() {
                    return Ok(Some((record, (pages, held))));
                }
                match pages.next_page().await? {
                    Some(page) => held = page.records.into_iter(),
                    None => return Ok(None),
                }
            }
        })
    }

    /// Begins. Nothing is asked before the first page is.
    #[must_use]
    pub fn pages(self) -> ScanPages {
        ScanPages {
            position: self.from.clone(),
            left: self.limit,
            over: false,
            scan: self,
        }
    }
}

/// The first key behind all keys that begin with `prefix`; `None` if there is none.
fn behind_prefix(prefix: &Bytes) -> Option<Bytes> {
    let keep = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix.get(..=keep)?.to_vec();
    *end.last_mut()? += 1;
    Some(end.into())
}

/// A record of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScannedRecord {
    /// The key.
    pub key: Bytes,
    /// Its value, or its concurrent values in an order that all nodes agree on; at least one.
    /// Without a context: read the key before writing it.
    pub values: Vec<Bytes>,
}

/// Records in key order, and where the scan stands behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanPage {
    /// The records. May be none although more follow.
    pub records: Vec<ScannedRecord>,
    /// Where a scan goes on after these records; `None` at the end of the range.
    pub next: Option<ScanPosition>,
}

/// Where a scan stands: opaque, valid on every node of the cluster and for ever, bound to keyspace
/// and range. Its text is for files and other processes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ScanPosition(ScanToken);

/// A text that is no position of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no position of a scan")]
pub struct ScanPositionParseError;

impl fmt::Display for ScanPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(&self.0.0))
    }
}

impl FromStr for ScanPosition {
    type Err = ScanPositionParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = URL_SAFE_NO_PAD.decode(text);
        let bytes = bytes.map_err(|_| ScanPositionParseError)?;
        Ok(Self(ScanToken(bytes.into())))
    }
}

/// A scan under way. Its memory is one page.
#[derive(Debug)]
pub struct ScanPages {
    scan: Scan,
    position: Option<ScanPosition>,
    left: Option<u64>,
    over: bool,
}

impl ScanPages {
    /// The next records; `None` at the end of the range or of the limit.
    ///
    /// # Errors
    /// [`GetError`] if the level could not be met within the deadline, or the level, the range, the
    /// position or the keyspace is refused. The same page can be asked for again.
    ///
    /// # Cancel safety
    /// Safe: the next call asks for the same page again.
    pub async fn next_page(&mut self) -> Result<Option<ScanPage>, GetError> {
        let most = self.left.unwrap_or(u64::MAX);
        if self.over || most == 0 {
            return Ok(None);
        }
        let limit = most.min(self.scan.page_records as u64);
        let operation = Operation {
            keyspace: Arc::clone(&self.scan.keyspace),
            key: self.scan.start.clone(),
            payload: Payload::Scan {
                end: self.scan.end.clone(),
                token: self.position.as_ref().map(|position| position.0.clone()),
                limit: u32::try_from(limit).unwrap_or(u32::MAX),
            },
            level: self.scan.level,
            deadline: self.scan.deadline,
            attempts: self.scan.attempts,
            ttl: None,
            if_superseded: IfSuperseded::default(),
        };
        if self.scan.too_long {
            let failure = operation.refused(Code::RangeInvalid, KEY_BYTES_MAX);
            return Err(GetError::from_failure(failure));
        }
        if self.scan.level.is_sloppy() {
            let failure = operation.refused(Code::LevelImpossible, 0);
            return Err(GetError::from_failure(failure));
        }
        let done = self.scan.client.perform(operation).await;
        let done = done.map_err(GetError::from_failure)?;
        let page = done.into_page().expect("a scan is only done with a page");
        Ok(Some(self.take(page)))
    }

    /// Where the scan stands: behind the last page that was handed out. `None` before the first
    /// page of a scan that was not resumed, and at the end of the range.
    #[must_use]
    pub const fn position(&self) -> Option<&ScanPosition> {
        self.position.as_ref()
    }

    fn take(&mut self, page: wire::ScanPage) -> ScanPage {
        let wire::ScanPage { records, next } = page;
        self.over = next.is_none();
        self.position = next.map(ScanPosition);
        self.left = self
            .left
            .map(|left| left.saturating_sub(records.len() as u64));
        let record = |wire::ScanRecord { key, values }| ScannedRecord {
            key,
            values: values.into_iter().map(|wire::Value(value)| value).collect(),
        };
        ScanPage {
            records: records.into_iter().map(record).collect(),
            next: self.position.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{block_on, client};

    #[test]
    fn a_prefix_ends_in_front_of_the_first_key_that_has_it_not() {
        let cases: [(&[u8], Option<&[u8]>); 5] = [
            (b"", None),
            (b"a", Some(b"b")),
            (b"a\xff", Some(b"b")),
            (b"\xff\xff", None),
            (b"ab", Some(b"ac")),
        ];
        for (prefix, want) in cases {
            let end = behind_prefix(&Bytes::from_static(prefix));
            assert_eq!(end.as_deref(), want, "{prefix:?}");
        }
    }

    #[test]
    fn a_scan_goes_on_from_the_text_of_its_position() {
        block_on(async {
            let keyspace = client().keyspace("default");
            for key in ["a1", "a2", "a3", "b1"] {
                keyspace.put_blind(key, "v").await?;
            }
            let mut first = keyspace.scan().prefix("a").page_records(2).pages();
            let page = first.next_page().await?.expect("a page");
            assert_eq!(page.records.len(), 2);
            let text = page.next.expect("more follows").to_string();
            let rest = keyspace.scan().prefix("a").resume(text.parse()?);
            let mut rest = rest.pages();
            let page = rest.next_page().await?.expect("a page");
            assert_eq!(page.records[0].key, "a3");
            assert_eq!((page.records.len(), page.next), (1, None));
            assert_eq!(rest.next_page().await?, None);
            Ok(())
        });
    }

    #[test]
    fn bad_ranges_and_positions_are_refused() {
        block_on(async {
            let keyspace = client().keyspace("default");
            let long = keyspace.scan().prefix(vec![b'a'; KEY_BYTES_MAX + 1]);
            let error = long.pages().next_page().await.expect_err("too long");
            assert_eq!(error.code(), Code::RangeInvalid);
            for key in ["a", "b"] {
                keyspace.put_blind(key, "v").await?;
            }
            let mut pages = keyspace.scan().page_records(1).pages();
            let position = pages.next_page().await?.and_then(|page| page.next);
            let other = keyspace.scan().prefix("b").resume(position.expect("more"));
            let error = other.pages().next_page().await.expect_err("another range");
            assert_eq!(error.code(), Code::ScanTokenInvalid);
            assert_eq!(
                "not/a token".parse::<ScanPosition>(),
                Err(ScanPositionParseError)
            );
            Ok(())
        });
    }

    #[test]
    fn a_sloppy_level_is_refused_and_one_of_the_profile_is_met_by_owners() {
        block_on(async {
            let client = client();
            let keyspace = client.keyspace("default");
            keyspace.put_blind("a", "v").await?;
            let sloppy = ConsistencyLevel::Quorum.sloppy();
            let refused = keyspace.scan().level(sloppy).pages().next_page().await;
            let error = refused.expect_err("scans ask owners alone");
            assert_eq!(error.code(), Code::LevelImpossible);
            let profile = crate::Profile::default().read_level(sloppy);
            client.set_profile("sloppy", profile)?;
            let mut pages = keyspace.profile("sloppy")?.scan().pages();
            let page = pages.next_page().await?.expect("a page");
            assert_eq!(page.records.len(), 1);
            Ok(())
        });
    }

    #[test]
    fn a_limit_counts_over_all_pages() {
        block_on(async {
            let keyspace = client().keyspace("default");
            for key in ["a", "b", "c", "d"] {
                keyspace.put_blind(key, "v").await?;
            }
            let mut pages = keyspace.scan().limit(3).page_records(2).pages();
            let mut found = 0;
            while let Some(page) = pages.next_page().await? {
                found += page.records.len();
            }
            assert_eq!(found, 3);
            Ok(())
        });
    }
}
