//! The target that is a whole log, and the inputs that other targets begin with.
//!
//! An input of the log's target is a list of edits of what a killed node left on its disk. The
//! store that opens then either says what is wrong, or holds exactly what was written up to some
//! batch: nothing invented, nothing mixed. One edit alone loses at most the last batch, which
//! cannot be told from a torn tail.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use quorate_antientropy::{
    Attempt, Context, Dot, KeyState, LwwVersion, LwwWrite, Minting, Put, Record,
};
use quorate_client::testing::FakeCluster;
use quorate_client::{Session, SessionError, SessionToken};
use quorate_ring::{Actor, Incarnation, NodeId};

use super::targets::{Target, op_id};
use super::{Shape, corpus_folder};
use crate::sim::lab::{Lab, Model, key};
use crate::sim::{Crash, SimDisk};

/// Batches that the recorded log holds.
const BATCHES: u64 = 12;
/// Bytes of an edit: four of the place, one of what is flipped.
const EDIT_BYTES: usize = 5;
/// Edits that are made at most.
const EDITS_MAX: usize = 8;

/// A recorded log, and the states that its batches made.
#[derive(Debug)]
pub(super) struct Log {
    disk: SimDisk,
    segments: Vec<(String, usize)>,
    states: Vec<Model>,
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without IO needs nothing of the system")
}

impl Log {
    /// Writes batches into a new store and kills it.
    pub(super) fn record() -> Self {
        runtime().block_on(async {
            let mut lab = Lab::new(11);
            let mut running = lab.open().await.expect("a new store opens");
            let mut states = vec![running.model.clone()];
            for batch in 0..BATCHES {
                let record = Bytes::from(vec![u8::try_from(batch).unwrap_or(0); 300]);
                let old = Model::default();
                let put = running.put(key(batch % 5), record, &old).await;
                put.expect("nothing is wrong with the disk");
                states.push(running.model.clone());
            }
            lab.crash(running, Crash::Kill);
            let names = lab.disk.names().into_iter();
            let logs = names.filter(|name| name.ends_with(".log"));
            let size = |name: &String| lab.disk.get(name).map_or(0, |bytes| bytes.len());
            let segments = logs.map(|name| (name.clone(), size(&name))).collect();
            Self {
                disk: lab.disk.clone(),
                segments,
                states,
            }
        })
    }

    fn edits(input: &[u8]) -> impl Iterator<Item = (u32, u8)> + '_ {
        let edits = input.chunks_exact(EDIT_BYTES).take(EDITS_MAX);
        edits.filter_map(|edit| {
            let (place, mask) = edit.split_first_chunk::<4>()?;
            Some((u32::from_le_bytes(*place), *mask.first()?))
        })
    }
}

impl Target for Log {
    fn name(&self) -> &'static str {
        "log"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        let edit = |place: u32, mask: u8| [&place.to_le_bytes()[..], &[mask]].concat();
        // In the header of the segment, and around each batch.
        let mut seeds: Vec<Vec<u8>> = (0..16).map(|block| edit(block * 4096 + 9, 1)).collect();
        seeds.push(Vec::new());
        seeds.push([edit(4096, 0xff), edit(8192, 0xff)].concat());
        seeds
    }

    fn run(&self, input: &[u8]) -> Result<Shape, String> {
        let mut lab = Lab::new(11);
        lab.incarnation += 1_000;
        lab.disk = self.disk.copy(11);
        let mut edited = 0;
        for (place, mask) in Self::edits(input) {
            let mut place = usize::try_from(place).unwrap_or(usize::MAX);
            for (name, bytes) in &self.segments {
                if place < *bytes {
                    edited += usize::from(mask != 0 && lab.disk.flip(name, place, mask));
                    break;
                }
                place -= bytes;
            }
        }
        let opened = runtime().block_on(async {
            let opened = lab.open().await;
            opened.map(|running| running.model.clone())
        });
        match opened {
            Ok(model) => {
                let Some(batch) = self.states.iter().rposition(|state| *state == model) else {
                    return Err(format!("after {edited} edits the store holds {model:?}"));
                };
                if edited <= 1 && batch + 1 < self.states.len() - usize::from(edited > 0) {
                    return Err(format!("one edit loses all behind batch {batch}"));
                }
                Ok(Shape::of(&format!("open {}", "x".repeat(batch))))
            }
            Err(error) => Ok(Shape::of(&error.to_string())),
        }
    }

    fn allowance(&self) -> u64 {
        // The store's segments and buffers.
        256 << 20
    }
}

/// Frames between nodes: every message, as committed.
pub(super) fn peer_frames() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../node/tests/fixtures/peer");
    let all = std::fs::read(folder.join("every_message.bin"));
    vec![all.unwrap_or_else(|_| vec![0; 8])]
}

/// Cluster files: those of the committed corpus alone.
pub(super) fn cluster_files() -> Vec<Vec<u8>> {
    let file = corpus_folder("cluster-file").join("three-nodes.toml");
    vec![std::fs::read(file).unwrap_or_default()]
}

fn actor(node: u32) -> Actor {
    Actor {
        node: NodeId(node),
        incarnation: Incarnation(u64::from(node) * 1_000_003),
    }
}

/// Contexts of several shapes.
pub(super) fn contexts() -> Vec<Context> {
    let mut vector = Context::new();
    (1..=5).for_each(|node| vector.raise(actor(node), u64::from(node) * 100));
    let mut loose = vector.clone();
    for counter in [7, 900, 1 << 40] {
        let dot = Dot {
            actor: actor(9),
            counter,
        };
        loose.add_dot_loose(dot);
    }
    vec![Context::new(), vector, loose]
}

/// Canonical records of several shapes.
pub(super) fn records() -> Vec<Vec<u8>> {
    let mut record = Record::default();
    let mut all = vec![KeyState::Siblings(record.clone())];
    for number in 1..=6 {
        let put = Put {
            op_id: op_id(number),
            attempt: if number % 2 == 0 {
                Attempt::Later
            } else {
                Attempt::First
            },
            value: (number != 3).then(|| Bytes::from(vec![number; usize::from(number) * 9])),
            context: (number == 5).then(|| record.context().clone()),
            seen: Default::default(),
            dot: Dot {
                actor: actor(u32::from(number) % 3 + 1),
                counter: number.into(),
            },
            minting: if number == 4 {
                Minting::Fallback
            } else {
                Minting::Primary
            },
            timestamp: 1_000 + u64::from(number),
            expiry: (number == 2).then_some(5_000),
            now_wall: Some(1_000),
        };
        record = record.put(put).expect("each dot is new").record;
        all.push(KeyState::Siblings(record.clone()));
    }
    let version = LwwVersion {
        stamp: 1_750_000_000_000_000,
        op_id: op_id(8),
    };
    let value = LwwWrite::value(version, Bytes::from_static(b"value"), Some(9));
    all.push(KeyState::Lww(Some(value)));
    all.push(KeyState::Lww(Some(LwwWrite::tombstone(version))));
    all.iter().map(|state| state.to_bytes().to_vec()).collect()
}

/// Texts of sessions.
pub(super) fn session_tokens() -> Vec<Vec<u8>> {
    runtime().block_on(async {
        let cluster = FakeCluster::new();
        let client = cluster.client(1);
        let session: Session = client.session();
        let users = client.keyspace("default").in_session(&session);
        let mut tokens = Vec::new();
        for name in ["a", "b", "a longer key"] {
            tokens.push(session.token());
            let put = users.put_blind(name, name).await;
            put.expect("all nodes are up");
            users.get(name).await.expect("all nodes are up");
        }
        tokens.push(session.token());
        let texts = tokens.into_iter().flatten();
        texts.map(|token| token.to_string().into_bytes()).collect()
    })
}

/// Goes on with a session in the cluster that its seeds are of.
pub(super) fn resume(token: &SessionToken) -> Result<(), SessionError> {
    runtime().block_on(async {
        let cluster: Arc<FakeCluster> = FakeCluster::new();
        cluster.client(1).resume_session(token).map(|_| ())
    })
}
