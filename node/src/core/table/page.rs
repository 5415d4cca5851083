//! The table's part of a page of a scan: durable records that the engine may not have yet.
//!
//! O(records of the two generations) per page, at a few nanoseconds each: a record is compared with
//! the largest key taken so far and mostly passed over.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Table;
use crate::core::key::RecordKey;
use crate::core::scan_page::{PagePart, PageRange};

impl Table {
    /// Durable records of `range` that the engine may lack, the smallest keys first.
    #[must_use]
    pub fn durable_page(&self, range: &PageRange) -> PagePart {
        let frozen = self.frozen.iter().flat_map(|frozen| frozen.iter());
        // One more than the page may hold, so that it knows where it ends.
        let most = range.rows_max.saturating_add(1);
        let mut found: BTreeMap<&[u8], (&RecordKey, &Bytes)> = BTreeMap::new();
        // Active records are listed last, so that they replace frozen ones of the same key.
        for (key, record) in frozen.chain(self.active.iter()) {
            let user_key = key.user_bytes();
            let too_late = found.len() >= most
                && found
                    .last_key_value()
                    .is_some_and(|(last, _)| *last < user_key);
            if too_late || !range.holds(key) {
                continue;
            }
            found.insert(user_key, (key, record));
            if found.len() > most {
                found.pop_last();
            }
        }
        let rows = found.into_values();
        let rows = rows
            .map(|(key, record)| Ok::<_, std::convert::Infallible>((key.clone(), record.clone())));
        let Ok(part) = PagePart::take(range, rows);
        part
    }
}
