//! The table's part of a page of a scan: records that the engine may not have yet.
//!
//! Rows of a generation lie in the order in which their keys were first written. For scans each
//! vnode's rows get an order by key, made when a scan first comes by and extended as rows are
//! added: replacing a row keeps its key, so an order stays true. Making orders is bounded per page;
//! rows that are in none yet are looked at one by one. So a page costs O(rows of the page, and a
//! binary search per vnode) once orders are made, and never more than O(rows of the generations).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use bytes::Bytes;
use quorate_ring::Durability;

use super::{Step, Table};
use crate::core::generation::{GenerationRows, Row};
use crate::core::key::{PREFIX_BYTES, RecordKey};
use crate::core::scan_page::{PagePart, PageRange};

/// Rows whose order is made for one page: about 4 ms.
const ROWS_ORDERED_PER_PAGE: usize = 32 * 1024;

/// Rows behind an order that are not worth a new one.
const ROWS_UNORDERED_MAX: usize = 64;

/// By (keyspace, vnode), places of a generation's rows in the order of their keys. Rows that were
/// added later are missing at the end.
#[derive(Debug, Default)]
pub(super) struct KeyOrders(BTreeMap<[u8; PREFIX_BYTES], Vec<u32>>);

impl KeyOrders {
    /// Orders more rows of the vnode of `probe`, unless few are missing or `budget` is spent.
    fn extend(&mut self, probe: &RecordKey, rows: &[Row], budget: &mut usize) -> &[u32] {
        let order = self.0.entry(probe.range()).or_default();
        let missing = rows.len() - order.len();
        if missing > ROWS_UNORDERED_MAX && missing > order.len() / 8 && *budget > 0 {
            *budget = budget.saturating_sub(rows.len());
            let from = u32::try_from(order.len()).unwrap_or(u32::MAX);
            let to = u32::try_from(rows.len()).unwrap_or(u32::MAX);
            order.extend(from..to);
            order.sort_unstable_by_key(|place| rows.get(*place as usize).map(|(key, _)| key));
        }
        order
    }
}

/// Rows of one vnode in key order that a page may take from.
struct Source<'a> {
    rows: &'a [Row],
    places: std::slice::Iter<'a, u32>,
    /// The row that takes part in the merge.
    row: Option<&'a Row>,
    /// Of two rows of one key that of the higher age is passed over.
    age: u8,
}

/// A row in no order, with its age.
type Loose<'a> = (&'a RecordKey, u8, &'a Bytes);

/// A row that may be next, smallest key first and of one key the newest first.
type Head<'a> = Reverse<(&'a [u8], u8, usize)>;

impl Table {
    /// Records of `range` that the engine may lack, as reads of a keyspace of this durability show
    /// them, the smallest keys first.
    #[must_use]
    pub fn page(&mut self, range: &PageRange, durability: Durability) -> PagePart {
        let mut budget = ROWS_ORDERED_PER_PAGE;
        // One more than the page may hold, so that it knows where it ends.
        let most = range.rows_max.saturating_add(1);
        let mut loose: Vec<Loose<'_>> = Vec::new();
        let newest: BTreeMap<&RecordKey, &Bytes> = match durability {
            Durability::Disk => BTreeMap::new(),
            // Those of a key come in the order of their LSNs, so that the last one stays.
            Durability::Memory => {
                let in_flight = self.unsettled.iter();
                let in_flight = in_flight.filter_map(|unsettled| match &unsettled.step {
                    Step::Record { slot, record, .. } => {
                        Some((&self.slots.entry(*slot)?.key, record))
                    }
                    Step::Numbers { .. } | Step::Sums { .. } => None,
                });
                in_flight.filter(|(key, _)| range.holds(key)).collect()
            }
        };
        loose.extend(newest.into_iter().map(|(key, record)| (key, 0, record)));
        let mut sources = Vec::new();
        let generations = [
            (1, Some(&self.active), &mut self.active_orders),
            (2, self.frozen.as_deref(), &mut self.frozen_orders),
        ];
        for (age, rows, orders) in generations {
            if let Some(rows) = rows {
                take_sources(
                    range,
                    age,
                    rows,
                    orders,
                    &mut budget,
                    &mut sources,
                    &mut loose,
                );
            }
        }
        loose.sort_unstable_by_key(|(key, age, _)| (key.user_key(), *age));
        let rows = Merge::new(range, sources, &loose).take(most);
        let rows = rows
            .map(|(key, record)| Ok::<_, std::convert::Infallible>((key.clone(), record.clone())));
        let Ok(part) = PagePart::take(range, rows);
        part
    }
}

/// What a generation has of `range`: sources in key order, and rows that are in no order yet.
fn take_sources<'a>(
    range: &PageRange,
    age: u8,
    generation: &'a GenerationRows,
    orders: &'a mut KeyOrders,
    budget: &mut usize,
    sources: &mut Vec<Source<'a>>,
    loose: &mut Vec<Loose<'a>>,
) {
    for vnode in range.vnodes.iter() {
        let probe = RecordKey::new(range.keyspace, vnode, &[]);
        let rows = generation.of_range(&probe);
        if rows.is_empty() {
            continue;
        }
        let ordered = orders.extend(&probe, rows, budget).len();
        let rest = rows.iter().skip(ordered);
        let rest = rest.filter(|(key, _)| range.holds(key));
        loose.extend(rest.map(|(key, record)| (key, age, record)));
    }
    let orders: &'a KeyOrders = orders;
    for vnode in range.vnodes.iter() {
        let probe = RecordKey::new(range.keyspace, vnode, &[]);
        let rows = generation.of_range(&probe);
        let order = orders.0.get(&probe.range()).map_or(&[][..], Vec::as_slice);
        let key_at = |place: &u32| rows.get(*place as usize).map(|(key, _)| key.user_key());
        let from = order.partition_point(|place| key_at(place) < Some(&range.from[..]));
        let places = order.get(from..).unwrap_or_default().iter();
        sources.push(Source {
            rows,
            places,
            row: None,
            age,
        });
    }
}

/// Rows of all sources and of `loose`, each key once in its newest state, in key order.
struct Merge<'a> {
    range: &'a PageRange,
    sources: Vec<Source<'a>>,
    heads: BinaryHeap<Head<'a>>,
    loose: std::iter::Peekable<std::slice::Iter<'a, Loose<'a>>>,
    last: Option<&'a [u8]>,
}

impl<'a> Merge<'a> {
    fn new(range: &'a PageRange, sources: Vec<Source<'a>>, loose: &'a [Loose<'a>]) -> Self {
        let mut merge = Self {
            range,
            heads: BinaryHeap::with_capacity(sources.len()),
            sources,
            loose: loose.iter().peekable(),
            last: None,
        };
        for number in 0..merge.sources.len() {
            merge.advance(number);
        }
        merge
    }

    /// Lets the next row of a source take part.
    fn advance(&mut self, number: usize) {
        let Some(source) = self.sources.get_mut(number) else {
            return;
        };
        source.row = source
            .places
            .next()
            .and_then(|place| source.rows.get(*place as usize))
            .filter(|(key, _)| self.range.holds(key));
        if let Some((key, _)) = source.row {
            self.heads
                .push(Reverse((key.user_key(), source.age, number)));
        }
    }

    /// The next row, a key's newest one first.
    fn pop(&mut self) -> Option<(&'a RecordKey, &'a Bytes)> {
        let ordered = self.heads.peek().map(|Reverse((key, age, _))| (*key, *age));
        let loose = self
            .loose
            .peek()
            .map(|(key, age, _)| (key.user_key(), *age));
        let take_loose = match (ordered, loose) {
            (Some(ordered), Some(loose)) => loose < ordered,
            (ordered, _) => ordered.is_none(),
        };
        if take_loose {
            return self.loose.next().map(|(key, _, record)| (*key, *record));
        }
        let Reverse((_, _, number)) = self.heads.pop()?;
        let (key, record) = self.sources.get(number)?.row?;
        self.advance(number);
        Some((key, record))
    }
}

impl<'a> Iterator for Merge<'a> {
    type Item = (&'a RecordKey, &'a Bytes);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (key, record) = self.pop()?;
            let is_first = self.last != Some(key.user_key());
            self.last = Some(key.user_key());
            if is_first {
                return Some((key, record));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_antientropy::{BucketDigests, RecordChange};
    use quorate_ring::{BucketId, KeyspaceId, Lsn, VnodeId};

    use super::super::TableLimits;
    use super::*;

    const VNODES: u16 = 4;

    fn key(number: u32) -> RecordKey {
        let vnode = VnodeId(u16::try_from(number % u32::from(VNODES)).unwrap_or(0));
        RecordKey::new(KeyspaceId(1), vnode, format!("{number:06}").as_bytes())
    }

    struct Filled {
        table: Table,
        lsn: Lsn,
    }

    impl Filled {
        fn new() -> Self {
            let limits = TableLimits {
                generation_bytes: 1,
                generation_log_bytes: 1 << 40,
                cache_bytes: 1 << 30,
                digest_cache_bytes: 0,
            };
            let table = Table::new(limits, Lsn(1), vec![], BucketDigests::default(), 0);
            Self { table, lsn: Lsn(1) }
        }

        fn append(&mut self, number: u32, text: &str) {
            self.lsn = self.lsn.next();
            self.table.hold(key(number), None);
            let record = Bytes::copy_from_slice(text.as_bytes());
            let change = RecordChange::default();
            self.table
                .append(self.lsn, &key(number), BucketId(0), change, record);
        }

        fn settle(&mut self) {
            self.table.settle(self.lsn);
        }

        fn page(&mut self, from: u32, rows: usize, durability: Durability) -> Vec<(u32, String)> {
            let range = PageRange {
                keyspace: KeyspaceId(1),
                vnodes: (0..VNODES).map(VnodeId).collect(),
                from: Bytes::from(format!("{from:06}")),
                end: None,
                rows_max: rows,
                bytes_max: 1 << 30,
            };
            let PagePart { rows, until } = self.table.page(&range, durability);
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            if let (Some(until), Some((last, _))) = (&until, rows.last()) {
                assert!(last.user_key() < &until[..], "it is complete up to there");
            }
            let rows = rows.iter();
            let row = |(key, record): &(RecordKey, Bytes)| {
                let number = text(key.user_key()).parse();
                (number.expect("a number"), text(record))
            };
            rows.map(row).collect()
        }
    }

    #[test]
    fn pages_show_each_key_once_in_its_newest_durable_state_through_all_generations() {
        let mut filled = Filled::new();
        for number in (0..3000).rev() {
            filled.append(number, "old");
        }
        filled.settle();
        drop(filled.table.freeze_if_due().expect("it is due"));
        for number in (0..4000).step_by(3) {
            filled.append(number, "new");
        }
        filled.settle();
        for number in (0..4000).step_by(5) {
            filled.append(number, "in flight");
        }
        let want = |number: u32| {
            if number.is_multiple_of(3) {
                "new"
            } else {
                "old"
            }
        };
        let all: Vec<u32> = (0..4000).filter(|n| *n < 3000 || n % 3 == 0).collect();
        // The first pages meet rows without an order, later ones all orders, then some again.
        for round in 0..3 {
            let (mut from, mut found) = (0, Vec::new());
            loop {
                let page = filled.page(from, 700, Durability::Disk);
                found.extend(page.iter().map(|(number, _)| *number));
                for (number, text) in &page {
                    assert_eq!(text, want(*number), "{number} in round {round}");
                }
                match page.last() {
                    Some((last, _)) => from = last + 1,
                    None => break,
                }
            }
            assert_eq!(found, all, "round {round}");
        }
        let newest = filled.page(0, 6, Durability::Memory);
        let texts: Vec<&str> = newest.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(
            texts,
            ["in flight", "old", "old", "new", "old", "in flight"]
        );
    }

    #[test]
    fn orders_follow_rows_that_are_added_and_generations_that_go() {
        let mut filled = Filled::new();
        for number in (0..2000).step_by(2) {
            filled.append(number, "even");
        }
        filled.settle();
        assert_eq!(filled.page(0, 5000, Durability::Disk).len(), 1000);
        for number in (1..2000).step_by(2) {
            filled.append(number, "odd");
        }
        filled.settle();
        let page = filled.page(500, 5000, Durability::Disk);
        assert!(page.iter().map(|(number, _)| *number).eq(500..2000));
        drop(filled.table.freeze_if_due().expect("it is due"));
        assert_eq!(filled.page(0, 5000, Durability::Disk).len(), 2000);
        filled.table.ingested();
        assert_eq!(filled.page(0, 5000, Durability::Disk), []);
    }
}
