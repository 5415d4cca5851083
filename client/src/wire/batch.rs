//! Items of a batch and their results as arrays: one field of each kind, exactly one of them there.

use serde::{Deserialize, Serialize};

use super::{Applied, BatchItem, Delete, Failure, Get, ItemResult, Put, Read};

#[derive(Serialize)]
pub(super) struct ItemOut<'a> {
    put: Option<&'a Put>,
    delete: Option<&'a Delete>,
    get: Option<&'a Get>,
}

impl<'a> From<&'a BatchItem> for ItemOut<'a> {
    fn from(item: &'a BatchItem) -> Self {
        let (put, delete, get) = match item {
            BatchItem::Put(put) => (Some(put), None, None),
            BatchItem::Delete(delete) => (None, Some(delete), None),
            BatchItem::Get(get) => (None, None, Some(get)),
        };
        Self { put, delete, get }
    }
}

#[derive(Deserialize)]
pub(super) struct ItemIn {
    put: Option<Put>,
    delete: Option<Delete>,
    get: Option<Get>,
}

impl ItemIn {
    pub(super) fn into_item(self) -> Option<BatchItem> {
        match (self.put, self.delete, self.get) {
            (Some(put), None, None) => Some(BatchItem::Put(put)),
            (None, Some(delete), None) => Some(BatchItem::Delete(delete)),
            (None, None, Some(get)) => Some(BatchItem::Get(get)),
            _ => None,
        }
    }
}

#[derive(Serialize)]
pub(super) struct ResultOut<'a> {
    applied: Option<&'a Applied>,
    read: Option<&'a Read>,
    failure: Option<&'a Failure>,
}

impl<'a> From<&'a ItemResult> for ResultOut<'a> {
    fn from(result: &'a ItemResult) -> Self {
        let (applied, read, failure) = match result {
            ItemResult::Applied(applied) => (Some(applied), None, None),
            ItemResult::Read(read) => (None, Some(read), None),
            ItemResult::Failure(failure) => (None, None, Some(failure)),
        };
        Self {
            applied,
            read,
            failure,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct ResultIn {
    applied: Option<Applied>,
    read: Option<Read>,
    failure: Option<Failure>,
}

impl ResultIn {
    pub(super) fn into_result(self) -> Option<ItemResult> {
        match (self.applied, self.read, self.failure) {
            (Some(applied), None, None) => Some(ItemResult::Applied(applied)),
            (None, Some(read), None) => Some(ItemResult::Read(read)),
            (None, None, Some(failure)) => Some(ItemResult::Failure(failure)),
            _ => None,
        }
    }
}
