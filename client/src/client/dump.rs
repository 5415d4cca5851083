//! All records of one node in the order of (keyspace, key).
//!
//! A node keeps its records by vnode, so that a vnode is one range; inside it they are in key
//! order. The pages of all vnodes of a keyspace are therefore merged here. Memory is a page per
//! vnode, and the node pins nothing between two pages.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Client;
use super::admin::{no_answer, unexpected};
use crate::error::NodeError;
use crate::transport::NodeEndpoint;
use crate::wire::{DumpLocal, DumpPage, LocalRecord, Request, Response};

/// Time for a page of records, which are read from the disk.
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// Records of a vnode that are asked for at once; the node may send fewer.
const PAGE_RECORDS: u32 = 500;
/// Records that are handed out at once.
const CHUNK_RECORDS: usize = 1_000;

/// Pages of one node's records, in the order of (keyspace id, key).
#[derive(Debug)]
pub struct DumpPages {
    client: Client,
    endpoint: Arc<NodeEndpoint>,
    keyspaces: VecDeque<u32>,
    vnodes: Vec<Cursor>,
    /// First waiting key of each vnode that has one.
    heads: BTreeMap<Bytes, usize>,
}

/// Where the dump stands in one vnode of the present keyspace.
#[derive(Debug)]
struct Cursor {
    vnode: u16,
    waiting: VecDeque<LocalRecord>,
    after: Option<Bytes>,
    over: bool,
}

impl DumpPages {
    pub(super) fn new(client: Client, endpoint: Arc<NodeEndpoint>) -> Self {
        let topology = client.topology();
        let mut keyspaces: Vec<u32> = topology.ring().keyspaces().iter().map(|k| k.id.0).collect();
        keyspaces.sort_unstable();
        let mut pages = Self {
            client,
            endpoint,
            keyspaces: keyspaces.into(),
            vnodes: Vec::new(),
            heads: BTreeMap::new(),
        };
        pages.begin_keyspace();
        pages
    }

    fn begin_keyspace(&mut self) {
        let topology = self.client.topology();
        let cursor = |vnode: quorate_ring::VnodeId| Cursor {
            vnode: vnode.0,
            waiting: VecDeque::new(),
            after: None,
            over: false,
        };
        self.vnodes = topology.ring().vnode_count().vnodes().map(cursor).collect();
    }

    /// The next records; `None` at the end.
    ///
    /// # Errors
    /// [`NodeError`] if the node refuses or does not answer within 30 s. The same page can be
    /// asked for again.
    ///
    /// # Cancel safety
    /// Safe: the next call asks for the same page again.
    pub async fn next_page(&mut self) -> Result<Option<Vec<LocalRecord>>, NodeError> {
        while let Some(keyspace) = self.keyspaces.front().copied() {
            for index in 0..self.vnodes.len() {
                self.fill(keyspace, index).await?;
            }
            let records = self.merge();
            if !records.is_empty() {
                return Ok(Some(records));
            }
            self.keyspaces.pop_front();
            self.begin_keyspace();
        }
        Ok(None)
    }

    /// Asks for a vnode's next page if none of its records wait.
    async fn fill(&mut self, keyspace: u32, index: usize) -> Result<(), NodeError> {
        let Some(cursor) = self.vnodes.get_mut(index) else {
            return Ok(());
        };
        if cursor.over || !cursor.waiting.is_empty() {
            return Ok(());
        }
        let request = Request::DumpLocal(DumpLocal {
            keyspace,
            vnode: cursor.vnode,
            after: cursor.after.clone(),
            limit: PAGE_RECORDS,
        });
        let answer = self
            .client
            .ask(&self.endpoint, request, PAGE_TIMEOUT)
            .await?;
        let DumpPage { records, end } = match answer {
            Response::Dump(page) => page,
            other => return Err(no_answer(&self.endpoint, other)),
        };
        match (records.first(), records.last()) {
            (Some(first), Some(last)) => {
                cursor.after = Some(last.key.clone());
                self.heads.insert(first.key.clone(), index);
            }
            // A page that is empty and not the last would be asked for again for ever.
            _ if !end => return Err(unexpected(&self.endpoint)),
            _ => {}
        }
        cursor.over = end;
        cursor.waiting = records.into();
        Ok(())
    }

    /// Takes records in key order until a vnode must be asked again, or there are enough.
    fn merge(&mut self) -> Vec<LocalRecord> {
        let mut records = Vec::new();
        while records.len() < CHUNK_RECORDS
            && let Some((_, index)) = self.heads.pop_first()
        {
            let Some(cursor) = self.vnodes.get_mut(index) else {
                continue;
            };
            records.extend(cursor.waiting.pop_front());
            match cursor.waiting.front() {
                Some(next) => {
                    self.heads.insert(next.key.clone(), index);
                }
                // What this vnode holds behind may come before what the others have waiting.
                None if !cursor.over => break,
                None => {}
            }
        }
        records
    }
}
