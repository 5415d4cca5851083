//! A replica's part of one page of a scan: the smallest keys of some of its vnodes, in key order.
//!
//! A keyspace's keys are spread over all vnodes by token. The engine keeps each vnode as a range of
//! its own, so a page in key order is a merge over them; what the table holds and the engine does
//! not have yet is laid over it. Both parts say how far they are complete, so that the page ends
//! where the first of them does.
//!
//! Not here: reading the engine (`shell::store`), what replicas' pages mean together (`scan`).

use std::cmp::Ordering;

use bytes::Bytes;
use quorate_antientropy::{Digest, DigestSecret};
use quorate_ring::planted::{Bug, planted};
use quorate_ring::{KeyspaceId, VnodeId};

use super::key::RecordKey;
use super::vnode_set::VnodeSet;

/// Records of one keyspace from `from` on, before `end`, of some vnodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRange {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// Of these vnodes.
    pub vnodes: VnodeSet,
    /// The first key that may be in it.
    pub from: Bytes,
    /// The first key that may not; `None` = to the end of the keyspace.
    pub end: Option<Bytes>,
    /// Most records; at least 1.
    pub rows_max: usize,
    /// The page ends with the record that reaches this many bytes of keys and records.
    pub bytes_max: usize,
}

impl PageRange {
    /// Whether `key` lies between the bounds of the range, in one of its vnodes.
    #[must_use]
    pub fn holds(&self, key: &RecordKey) -> bool {
        let user_key = key.user_key();
        key.keyspace() == self.keyspace
            && user_key >= &self.from[..]
            && self.end.as_ref().is_none_or(|end| user_key < &end[..])
            && self.vnodes.contains(key.vnode())
    }
}

/// Records in the order of their keys, with how far they are complete.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PagePart {
    /// The records.
    pub rows: Vec<(RecordKey, Bytes)>,
    /// All of the range in front of this key is there; `None` = all of the range.
    pub until: Option<Bytes>,
}

impl PagePart {
    /// Takes `rows`, which come in key order, up to the bounds of `range`.
    ///
    /// # Errors
    /// The first error of `rows`.
    pub fn take<E>(
        range: &PageRange,
        rows: impl Iterator<Item = Result<(RecordKey, Bytes), E>>,
    ) -> Result<Self, E> {
        let mut part = Self::default();
        let mut bytes = 0;
        for row in rows {
            let (key, record) = row?;
            if part.rows.len() >= range.rows_max || bytes >= range.bytes_max {
                part.until = Some(Bytes::copy_from_slice(key.user_key()));
                break;
            }
            bytes += key.as_bytes().len() + record.len();
            part.rows.push((key, record));
        }
        Ok(part)
    }

    /// Lays `newer` over this part and cuts the result to the range's bounds. A row of no bytes in
    /// `newer` takes the one under it away.
    #[must_use]
    pub fn under(self, newer: Self, range: &PageRange) -> Self {
        let until = earlier(self.until, newer.until);
        let within = |key: &RecordKey| match &until {
            Some(until) => key.user_key() < &until[..],
            None => true,
        };
        let (mut older, mut newer) = (
            self.rows.into_iter().peekable(),
            newer.rows.into_iter().peekable(),
        );
        let rows = std::iter::from_fn(|| {
            let order = match (older.peek(), newer.peek()) {
                (Some((one, _)), Some((other, _))) => one.user_key().cmp(other.user_key()),
                (Some(_), None) => Ordering::Less,
                (None, _) => Ordering::Greater,
            };
            match order {
                Ordering::Less => older.next(),
                Ordering::Equal if planted(Bug::ScanStaleRowWins) => {
                    newer.next();
                    older.next()
                }
                Ordering::Equal => {
                    older.next();
                    newer.next()
                }
                Ordering::Greater => newer.next(),
            }
        });
        let rows = rows.take_while(|(key, _)| within(key));
        let rows = rows.filter(|(_, record)| !record.is_empty());
        let Ok(mut part) = Self::take(range, rows.map(Ok::<_, std::convert::Infallible>));
        part.until = part.until.or(until);
        part
    }
}

/// The bound that comes first; `None` is the end.
#[must_use]
pub fn earlier(one: Option<Bytes>, other: Option<Bytes>) -> Option<Bytes> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// What a replica tells of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowContent {
    /// The record in its canonical form.
    Whole(Bytes),
    /// Its digest alone: enough to see whether replicas agree.
    Digest(Digest),
}

/// One record of a replica's page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanRow {
    /// The vnode of its key.
    pub vnode: VnodeId,
    /// The user's key.
    pub key: Bytes,
    /// What the replica holds.
    pub content: RowContent,
}

impl ScanRow {
    /// Bytes of its key and of what is told of its record.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let content = match &self.content {
            RowContent::Whole(record) => record.len(),
            RowContent::Digest(_) => size_of::<Digest>(),
        };
        (self.key.len() + content) as u64
    }
}

/// One page to be read from the store. Answered by [`super::StoreEvent::Scanned`].
#[derive(Debug, Clone)]
pub struct ScanRead {
    /// The shard's number for it.
    pub number: u64,
    /// What is wanted.
    pub range: PageRange,
    /// Vnodes whose records are wanted whole; of the others digests are.
    pub whole: VnodeSet,
    /// What the table holds and the engine may lack, from before the engine is read.
    pub newer: PagePart,
    /// Seeds digests.
    pub digest: DigestSecret,
}

impl ScanRead {
    /// The page, once the engine's part is there.
    #[must_use]
    pub fn finish(self, older: PagePart) -> (Vec<ScanRow>, Option<Bytes>) {
        let Self {
            range,
            whole,
            newer,
            digest,
            ..
        } = self;
        let PagePart { rows, until } = older.under(newer, &range);
        let row = |(key, record): (RecordKey, Bytes)| ScanRow {
            vnode: key.vnode(),
            key: Bytes::copy_from_slice(key.user_key()),
            content: if whole.contains(key.vnode()) {
                RowContent::Whole(record)
            } else {
                RowContent::Digest(Digest::of(digest, key.as_bytes(), &record))
            },
        };
        (rows.into_iter().map(row).collect(), until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(rows_max: usize) -> PageRange {
        PageRange {
            keyspace: KeyspaceId(1),
            vnodes: [VnodeId(0), VnodeId(3)].into_iter().collect(),
            from: Bytes::from_static(b"b"),
            end: Some(Bytes::from_static(b"x")),
            rows_max,
            bytes_max: 1 << 20,
        }
    }

    fn part(rows: &[(u16, &str, &'static str)], until: Option<&'static str>) -> PagePart {
        let row = |(vnode, key, record): &(u16, &str, &'static str)| {
            let key = RecordKey::new(KeyspaceId(1), VnodeId(*vnode), key.as_bytes());
            (key, Bytes::from_static(record.as_bytes()))
        };
        PagePart {
            rows: rows.iter().map(row).collect(),
            until: until.map(|until| Bytes::from_static(until.as_bytes())),
        }
    }

    #[test]
    fn a_range_holds_keys_of_its_vnodes_between_its_bounds() {
        let cases = [
            (0, "b", true),
            (3, "w", true),
            (0, "a", false),
            (3, "x", false),
            (1, "c", false),
        ];
        for (vnode, key, want) in cases {
            let key = RecordKey::new(KeyspaceId(1), VnodeId(vnode), key.as_bytes());
            assert_eq!(range(9).holds(&key), want, "{key:?}");
        }
    }

    #[test]
    fn newer_rows_win_and_the_page_ends_where_a_part_does() {
        let older = part(
            &[(0, "b", "old"), (3, "c", "old"), (0, "e", "old")],
            Some("f"),
        );
        let newer = part(&[(3, "c", "new"), (0, "d", "new")], Some("e"));
        let page = older.under(newer, &range(9));
        assert_eq!(
            page,
            part(
                &[(0, "b", "old"), (3, "c", "new"), (0, "d", "new")],
                Some("e")
            )
        );
    }

    #[test]
    fn a_page_that_is_cut_says_where() {
        let rows = part(&[(0, "b", "1"), (3, "c", "2"), (0, "d", "3")], None);
        let cut = rows.clone().under(PagePart::default(), &range(2));
        assert_eq!(cut, part(&[(0, "b", "1"), (3, "c", "2")], Some("d")));
        let whole = rows.clone().under(PagePart::default(), &range(3));
        assert_eq!(whole, rows);
    }

    #[test]
    fn a_page_has_a_row_however_large_it_is() {
        let mut narrow = range(9);
        narrow.bytes_max = 0;
        let rows = part(&[(0, "b", "1"), (3, "c", "2")], None);
        let page = rows.under(PagePart::default(), &narrow);
        // A bound of no bytes would make no progress; the caller asks for at least one.
        assert_eq!(page.until, Some(Bytes::from_static(b"b")));
        narrow.bytes_max = 1;
        let rows = part(&[(0, "b", "1"), (3, "c", "2")], None);
        let page = rows.under(PagePart::default(), &narrow);
        assert_eq!(page, part(&[(0, "b", "1")], Some("c")));
    }
}
