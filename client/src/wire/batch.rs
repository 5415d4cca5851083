//! Items of a batch and their results as arrays: one field of each kind, exactly one of them there.

use serde::{Deserialize, Serialize};

use super::{Applied, BatchItem, Delete, Failure, Get, ItemResult, Put, Read, SessionGet};

#[derive(Serialize)]
pub(super) struct ItemOut<'a> {
    put: Option<&'a Put>,
    delete: Option<&'a Delete>,
    get: Option<&'a Get>,
    session_get: Option<&'a SessionGet>,
}

impl<'a> From<&'a BatchItem> for ItemOut<'a> {
    fn from(item: &'a BatchItem) -> Self {
        let mut out = Self {
            put: None,
            delete: None,
            get: None,
            session_get: None,
        };
        match item {
            BatchItem::Put(put) => out.put = Some(put),
            BatchItem::Delete(delete) => out.delete = Some(delete),
            BatchItem::Get(get) => out.get = Some(get),
            BatchItem::SessionGet(get) => out.session_get = Some(get),
        }
        out
    }
}

#[derive(Deserialize)]
pub(super) struct ItemIn {
    put: Option<Put>,
    delete: Option<Delete>,
    get: Option<Get>,
    session_get: Option<SessionGet>,
}

impl ItemIn {
    pub(super) fn into_item(self) -> Option<BatchItem> {
        match (self.put, self.delete, self.get, self.session_get) {
            (Some(put), None, None, None) => Some(BatchItem::Put(put)),
            (None, Some(delete), None, None) => Some(BatchItem::Delete(delete)),
            (None, None, Some(get), None) => Some(BatchItem::Get(get)),
            (None, None, None, Some(get)) => Some(BatchItem::SessionGet(get)),
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
