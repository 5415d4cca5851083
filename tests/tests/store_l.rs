//! The runs of the notes on counterexamples that concern the store alone, on the simulated disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use quorate_node::core::healing::Healed;
use quorate_node::core::hints::HintChange;
use quorate_node::core::key::RecordKey;
use quorate_node::core::timeline::Memory;
use quorate_node::shell::seam::{Checkpoint, Engine};
use quorate_node::shell::store::engine::{EngineConfig, FjallEngine};
use quorate_node::shell::store::{OpenError, Submission};
use quorate_ring::{Incarnation, Lsn, NodeId};
use quorate_tests::sim::lab::{Ended, Lab, Model, Running, digests_of, key};
use quorate_tests::sim::{Crash, DiskFaults, EngineFaults};

const NONE: Model = Model::new();
const SMALL_SEGMENT: u64 = 160 << 10;

/// A record that fills most of a batch, so that every batch holds one.
fn large(text: &str) -> Bytes {
    Bytes::from(format!("{text}{}", "x".repeat(2600)))
}

fn small(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Makes every sync fail.
fn syncs_fail() -> DiskFaults {
    DiskFaults {
        sync_error_ppm: 1_000_000,
        ..DiskFaults::default()
    }
}

fn drop_all() -> DiskFaults {
    DiskFaults {
        drop_all_unsynced: true,
        ..DiskFaults::default()
    }
}

fn segment(lab: &Lab) -> String {
    let mut names = lab.disk.names().into_iter();
    names
        .find(|name| name.starts_with("log-"))
        .expect("there is a segment")
}

/// Offsets of the batches of the first segment: blocks that begin with a batch's magic.
fn batches(lab: &Lab) -> Vec<usize> {
    let segment = lab.disk.get(&segment(lab)).expect("there is a segment");
    let has_magic = |offset: &usize| segment[offset + 8..offset + 12] == *b"QBAT";
    (4096..segment.len())
        .step_by(4096)
        .filter(has_magic)
        .collect()
}

/// The same disk and engine again, to be harmed without harming the original.
fn copy(lab: &Lab) -> Lab {
    Lab {
        disk: lab.disk.copy(1),
        engine: lab.engine.copy(1),
        config: lab.config.clone(),
        incarnation: lab.incarnation + 100,
        owner: lab.owner.clone(),
    }
}

async fn open(lab: &mut Lab) -> Running {
    lab.open().await.expect("the store opens")
}

fn is_damaged(result: &Result<Running, OpenError>) -> bool {
    matches!(
        result,
        Err(OpenError::Damaged { .. } | OpenError::Unreadable { .. })
    )
}

#[tokio::test(start_paused = true)]
async fn l1_what_a_restart_shows_survives_a_power_loss() {
    let mut shown = 0;
    for seed in 0..40 {
        let mut lab = Lab::new(seed);
        let mut store = open(&mut lab).await;
        store
            .put(key(1), small("one"), &NONE)
            .await
            .expect("durable");
        lab.disk.set_faults(syncs_fail());
        let lsn = store.submit(&[(key(2), small("two"))], &NONE);
        let ended = store.wait_durable(lsn).await;
        assert!(matches!(ended, Err(Ended::Failed(_))));
        lab.crash(store, Crash::Kill);
        lab.disk.set_faults(drop_all());
        let store = open(&mut lab).await;
        let served = store.model.clone();
        shown += usize::from(served.contains_key(&key(2)));
        lab.crash(store, Crash::Power);
        let store = open(&mut lab).await;
        assert_eq!(store.model, served, "seed {seed}");
    }
    assert_eq!(shown, 40, "the page cache showed what no sync had kept");
}

/// A group of three batches of which the first is lost: a torn tail with intact batches behind it.
async fn torn_group(lab: &mut Lab) -> Running {
    let mut store = open(lab).await;
    store
        .put(key(1), large("one"), &NONE)
        .await
        .expect("durable");
    let before = batches(lab).len();
    lab.disk.set_faults(syncs_fail());
    let group = [
        (key(2), large("old two")),
        (key(3), large("old three")),
        (key(4), large("old four")),
    ];
    let lsn = store.submit(&group, &NONE);
    let ended = store.wait_durable(lsn).await;
    assert!(matches!(ended, Err(Ended::Failed(_))));
    lab.crash(store, Crash::Kill);
    lab.disk.set_faults(DiskFaults::default());
    let all = batches(lab);
    assert_eq!(all.len(), before + 3);
    lab.disk.overwrite(&segment(lab), all[before], &[0; 4096]);
    open(lab).await
}

#[tokio::test(start_paused = true)]
async fn l2_frames_of_an_older_incarnation_never_follow_a_new_start() {
    let mut lab = Lab::new(1);
    let mut store = torn_group(&mut lab).await;
    let want = BTreeMap::from([(key(1), large("one"))]);
    assert_eq!(store.model, want, "the tail was cut");
    // The start frame took the place of the first old batch, this record that of the second; the
    // third old batch stands where the next one is expected, under the LSN that is expected.
    store
        .put(key(4), large("new four"), &NONE)
        .await
        .expect("durable");
    let want = store.model.clone();
    lab.crash(store, Crash::Kill);
    let store = open(&mut lab).await;
    assert_eq!(store.model, want);
    assert_eq!(store.digests, digests_of(&want));
}

#[tokio::test(start_paused = true)]
async fn l3_an_intact_batch_behind_a_torn_one_is_no_damage() {
    let mut lab = Lab::new(2);
    let store = torn_group(&mut lab).await;
    assert_eq!(store.model.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn l3_a_value_that_contains_batches_is_no_evidence() {
    let mut lab = Lab::new(3);
    let mut store = open(&mut lab).await;
    for n in 0..5 {
        store
            .put(key(n), large("value"), &NONE)
            .await
            .expect("durable");
    }
    let want = store.model.clone();
    let log = lab.disk.get(&segment(&lab)).expect("there is a segment");
    let before = batches(&lab).len();
    lab.disk.set_faults(syncs_fail());
    let copied = Bytes::copy_from_slice(&log[4096..40_960]);
    let lsn = store.submit(&[(key(9), copied)], &NONE);
    let ended = store.wait_durable(lsn).await;
    assert!(matches!(ended, Err(Ended::Failed(_))));
    lab.crash(store, Crash::Kill);
    lab.disk.set_faults(DiskFaults::default());
    let torn = batches(&lab)[before];
    lab.disk.overwrite(&segment(&lab), torn, &[0; 512]);
    // And a whole header of a later batch at a block's start, where evidence is looked for.
    let last = batches(&lab)[before - 1];
    lab.disk
        .overwrite(&segment(&lab), torn + 8192, &log[last..last + 4096]);
    let store = open(&mut lab).await;
    assert_eq!(store.model, want);
}

#[tokio::test(start_paused = true)]
async fn l3_a_lost_batch_that_a_later_one_calls_durable_is_damage() {
    let mut lab = Lab::new(4);
    let mut store = open(&mut lab).await;
    for n in 0..5 {
        store
            .put(key(n), large("value"), &NONE)
            .await
            .expect("durable");
    }
    lab.crash(store, Crash::Kill);
    let all = batches(&lab);
    // The last one has nobody behind it: that is the documented limit.
    for &offset in &all[..all.len() - 1] {
        let mut copy = copy(&lab);
        copy.disk.overwrite(&segment(&copy), offset, &[0; 4096]);
        let untouched = copy.disk.get(&segment(&copy));
        assert!(is_damaged(&copy.open().await), "batch at {offset}");
        assert_eq!(
            copy.disk.get(&segment(&copy)),
            untouched,
            "a damaged log is not changed"
        );
    }
}

/// What one run of the sweep did before it was crashed.
struct Work {
    acked: Model,
    /// Every record that was submitted for a key, oldest first.
    submitted: BTreeMap<quorate_node::core::RecordKey, Vec<Bytes>>,
    finished: bool,
}

async fn work(lab: &Lab, store: &mut Running) -> Work {
    let mut work = Work {
        acked: Model::new(),
        submitted: BTreeMap::new(),
        finished: false,
    };
    for round in 0..14u64 {
        let record = |n| (key((round + n) % 9), large(&format!("{round}-{n}")));
        let records: Vec<_> = (0..6).map(record).collect();
        for (key, record) in &records {
            work.submitted
                .entry(key.clone())
                .or_default()
                .push(record.clone());
        }
        let lsn = store.submit(&records, &lab.engine.rows());
        if store.wait_durable(lsn).await.is_err() {
            return work;
        }
        work.acked.extend(records);
        if round % 4 == 3 {
            // The next rounds go on beside it.
            store.freeze();
        }
    }
    work.finished = true;
    work
}

/// Runs a workload that crosses segments and crashes it at every `step`th operation of the disk.
async fn sweep(crash: Crash, seeds: std::ops::Range<u64>, step: u64) {
    for seed in seeds {
        for at in (1..).map(|n| n * step + seed % step) {
            let mut lab = Lab::new(seed * 1000 + at);
            lab.config.segment_bytes = SMALL_SEGMENT;
            lab.config.first_segment_bytes = SMALL_SEGMENT;
            let mut store = open(&mut lab).await;
            lab.disk.hang_after(at);
            let work = work(&lab, &mut store).await;
            let durable = store.durable;
            lab.crash(store, crash);
            let named = format!("seed {seed}, operation {at}");
            let opened = lab.open().await;
            assert!(opened.is_ok(), "{named}: {:?}", opened.err());
            let store = opened.expect("asserted");
            assert!(store.recovered.durable > durable, "{named}");
            let found = store.contents(&lab.engine);
            for (key, record) in &work.acked {
                // A newer one that was not acknowledged may be there instead.
                let newer = work.submitted[key]
                    .iter()
                    .rev()
                    .take_while(|r| *r != record);
                let mut fits = newer.chain([record]);
                assert!(
                    fits.any(|r| found.get(key) == Some(r)),
                    "{named}: {key:?} is lost"
                );
            }
            assert_eq!(store.digests, digests_of(&found), "{named}");
            if work.finished {
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn l4_a_power_loss_at_any_operation_loses_nothing_that_was_durable() {
    sweep(Crash::Power, 0..9, 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_kill_at_any_operation_loses_nothing_that_was_durable() {
    sweep(Crash::Kill, 0..3, 3).await;
}

#[tokio::test(start_paused = true)]
async fn l5_a_log_that_ends_before_what_the_engine_holds_is_refused() {
    let mut lab = Lab::new(5);
    let mut store = open(&mut lab).await;
    store
        .put(key(1), small("one"), &NONE)
        .await
        .expect("durable");
    lab.crash(store, Crash::Kill);
    let old = lab.disk.copy(1);
    let mut store = open(&mut lab).await;
    store
        .put(key(2), small("two"), &NONE)
        .await
        .expect("durable");
    store.checkpoint().await.expect("ingested");
    lab.crash(store, Crash::Kill);
    let segment = segment(&lab);
    lab.disk
        .put(&segment, &old.get(&segment).expect("it was there"));
    let refused = lab.open().await.expect_err("the log forgot");
    assert!(matches!(refused, OpenError::Forgot { .. }), "{refused}");
    assert!(refused.is_refusal());
}

/// Rewrites the same keys until the log was truncated several times.
async fn rewrite(lab: &Lab, store: &mut Running) {
    for round in 0..30 {
        let record = |n| (key(n), large(&format!("{round}")));
        let records: Vec<_> = (0..6).map(record).collect();
        let lsn = store.submit(&records, &lab.engine.rows());
        store.wait_durable(lsn).await.expect("durable");
        store.checkpoint().await.expect("ingested");
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_behind_the_beginning_of_the_log_is_refused() {
    let mut lab = Lab::new(6);
    lab.config.segment_bytes = SMALL_SEGMENT;
    lab.config.first_segment_bytes = SMALL_SEGMENT;
    let mut store = open(&mut lab).await;
    let old_engine = lab.engine.copy(1);
    rewrite(&lab, &mut store).await;
    store.stop().await;
    lab.engine = old_engine;
    assert!(
        is_damaged(&lab.open().await),
        "rows are missing between engine and log"
    );
}

/// fjall's journals below `path`.
fn journals(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).expect("readable").flatten();
    let files = entries.map(|entry| entry.path());
    files
        .filter(|file| file.extension().is_some_and(|ending| ending == "jnl"))
        .collect()
}

/// The rows of a real engine after ingestions, and what its journals were before the first one.
async fn ingested(path: &Path) -> (Vec<(RecordKey, Bytes)>, Vec<(PathBuf, Vec<u8>)>) {
    let engine = FjallEngine::open(&EngineConfig::new(path)).expect("opens");
    let contents = |file: PathBuf| {
        let bytes = std::fs::read(&file).expect("readable");
        (file, bytes)
    };
    let before: Vec<_> = journals(path).into_iter().map(contents).collect();
    assert!(!before.is_empty(), "fjall has a journal");
    let mut rows: Vec<_> = (0..300).map(|n| (key(n), large(&n.to_string()))).collect();
    rows.sort();
    for (round, part) in rows.chunks(100).enumerate() {
        let checkpoint = checkpoint(round as u64 + 1);
        let fed = engine
            .ingest(
                std::sync::Arc::new(part.iter().cloned().collect()),
                checkpoint,
            )
            .await;
        fed.expect("ingested");
    }
    (rows, before)
}

fn checkpoint(applied: u64) -> Checkpoint {
    Checkpoint {
        applied: Lsn(applied),
        digest_file: format!("digest-{applied}"),
        digest_checksum: 7,
    }
}

/// What stands without a journal needs none, so that a damaged one cannot hide rows.
#[tokio::test]
async fn l6_what_was_ingested_does_not_rest_on_fjalls_journal() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("engine");
    let (rows, before) = ingested(&path).await;
    for (file, bytes) in &before {
        let after = std::fs::read(file).expect("readable");
        assert_eq!(&after, bytes, "ingestions write nothing to {file:?}");
    }
    // All that a journal could have got since the first open is taken away.
    journals(&path)
        .iter()
        .for_each(|file| std::fs::remove_file(file).expect("removable"));
    for (file, bytes) in &before {
        std::fs::write(file, bytes).expect("writable");
    }
    let engine = FjallEngine::open(&EngineConfig::new(&path)).expect("opens");
    assert_eq!(engine.checkpoint().await, Ok(Some(checkpoint(3))));
    assert_eq!(engine.scan(None, 1_000).await, Ok(rows));
}

/// One flipped byte of a journal made fjall open without an error and miss what was below the
/// newest row. Ours holds no row, so that there is nothing to miss: whatever becomes of it, the
/// engine is refused or every row is there.
#[tokio::test]
async fn l6_a_flipped_byte_of_fjalls_journal_hides_no_row() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("engine");
    let (rows, _) = ingested(&path).await;
    let (mut refused, mut whole) = (0, 0);
    for file in journals(&path) {
        let bytes = std::fs::read(&file).expect("readable");
        for offset in (0..64).step_by(4) {
            let mut flipped = bytes.clone();
            flipped.resize(bytes.len().max(64), 0);
            flipped[offset] ^= 1;
            std::fs::write(&file, flipped).expect("writable");
            let opened = std::panic::catch_unwind(|| FjallEngine::open(&EngineConfig::new(&path)));
            let Ok(Ok(engine)) = opened else {
                refused += 1;
                restore(&file, &bytes);
                continue;
            };
            match engine.checkpoint().await {
                Ok(Some(found)) => {
                    assert_eq!(found, checkpoint(3), "offset {offset}");
                    let page = engine.scan(None, 1_000).await;
                    assert!(
                        page.is_err() || page.as_ref() == Ok(&rows),
                        "offset {offset}"
                    );
                    whole += 1;
                }
                // Without a checkpoint the log must begin at its first frame, or the store is
                // refused.
                Ok(None) | Err(_) => refused += 1,
            }
            drop(engine);
            restore(&file, &bytes);
        }
    }
    assert_eq!(refused + whole, 16, "one journal");
}

fn restore(file: &Path, bytes: &[u8]) {
    std::fs::write(file, bytes).expect("writable");
}

#[tokio::test(start_paused = true)]
async fn reads_of_the_disk_that_fail_are_refused_and_prove_no_damage() {
    let mut lab = Lab::new(9);
    let mut store = open(&mut lab).await;
    store
        .put(key(1), small("one"), &NONE)
        .await
        .expect("durable");
    lab.crash(store, Crash::Kill);
    lab.disk.set_faults(DiskFaults {
        read_error_ppm: 1_000_000,
        ..DiskFaults::default()
    });
    let refused = lab.open().await.expect_err("nothing can be read");
    assert!(matches!(refused, OpenError::Unreadable { .. }) && refused.is_refusal());
    assert!(!refused.is_loss(), "it may be readable again");
    lab.disk.set_faults(DiskFaults::default());
    let store = open(&mut lab).await;
    assert_eq!(store.model.get(&key(1)), Some(&small("one")));
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_of_the_log_ends_the_store_and_promises_nothing() {
    let mut lab = Lab::new(10);
    let mut store = open(&mut lab).await;
    lab.disk.set_faults(DiskFaults {
        write_error_ppm: 1_000_000,
        ..DiskFaults::default()
    });
    let lsn = store.submit(&[(key(1), small("one"))], &NONE);
    let ended = store.wait_durable(lsn).await;
    assert!(matches!(ended, Err(Ended::Failed(_))));
}

#[tokio::test(start_paused = true)]
async fn l7_a_damaged_engine_is_refused_and_left_alone() {
    let mut lab = Lab::new(7);
    let mut store = open(&mut lab).await;
    store
        .put(key(1), small("one"), &NONE)
        .await
        .expect("durable");
    store.checkpoint().await.expect("ingested");
    store
        .put(key(2), small("two"), &NONE)
        .await
        .expect("durable");
    lab.crash(store, Crash::Kill);
    lab.engine.break_open();
    let log = lab.disk.get(&segment(&lab));
    let refused = lab.open().await.expect_err("the engine does not open");
    assert!(refused.is_refusal());
    assert_eq!(lab.disk.get(&segment(&lab)), log);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_without_its_digest_file_is_damage() {
    for flip in [false, true] {
        let mut lab = Lab::new(8);
        let mut store = open(&mut lab).await;
        store
            .put(key(1), small("one"), &NONE)
            .await
            .expect("durable");
        store.checkpoint().await.expect("ingested");
        lab.crash(store, Crash::Kill);
        let names = lab.disk.names();
        let name = names
            .iter()
            .find(|name| name.starts_with("digest-"))
            .expect("there is one");
        if flip {
            assert!(lab.disk.flip(name, 9, 1));
        } else {
            lab.disk.erase(name);
        }
        assert!(is_damaged(&lab.open().await));
    }
}

#[tokio::test(start_paused = true)]
async fn l8_a_log_full_of_user_frames_still_starts_and_is_cured_by_a_checkpoint() {
    let mut lab = Lab::new(9);
    lab.config.segment_bytes = SMALL_SEGMENT;
    lab.config.first_segment_bytes = SMALL_SEGMENT;
    lab.config.segments_max = 2;
    let mut store = open(&mut lab).await;
    let mut acked = 0;
    for n in 0..200 {
        let lsn = store.submit(&[(key(n), large("value"))], &NONE);
        let wait = tokio::time::timeout(Duration::from_secs(5), store.wait_durable(lsn));
        if wait.await.is_err() {
            break;
        }
        acked += 1;
    }
    assert!(
        (20..200).contains(&acked),
        "the log filled up after {acked}"
    );
    lab.crash(store, Crash::Kill);
    let files = lab.disk.names().len();
    for _ in 0..4 {
        let store = open(&mut lab).await;
        assert_eq!(store.model.len(), acked);
        lab.crash(store, Crash::Kill);
    }
    assert_eq!(
        lab.disk.names().len(),
        files,
        "starting took no further segment"
    );
    let mut store = open(&mut lab).await;
    store.checkpoint().await.expect("ingested");
    let rows = lab.engine.rows();
    store
        .put(key(0), large("again"), &rows)
        .await
        .expect("there is room again");
}

/// Found by seed 232: the digest file of a checkpoint met a full disk, and the node stopped.
#[tokio::test(start_paused = true)]
async fn a_checkpoint_on_a_full_disk_waits_for_space() {
    let mut lab = Lab::new(10);
    let mut store = open(&mut lab).await;
    store
        .put(key(1), large("value"), &NONE)
        .await
        .expect("durable");
    lab.disk.set_faults(DiskFaults {
        capacity: Some(lab.disk.used()),
        ..DiskFaults::default()
    });
    store.freeze();
    let wait = tokio::time::timeout(Duration::from_secs(5), store.next_event());
    let event = wait.await;
    assert!(
        event.is_err(),
        "nothing is fed and nothing fails: {event:?}"
    );
    assert!(lab.disk.took_effect().contains_key("disk_full"));
    lab.disk.set_faults(DiskFaults::default());
    while !lab.engine.rows().contains_key(&key(1)) {
        store.next_event().await.expect("the feed goes on");
    }
}

/// Found on a real disk that was full: the engine's ingestion failed, and the node stopped.
#[tokio::test(start_paused = true)]
async fn an_ingestion_that_finds_no_room_is_tried_again() {
    let mut lab = Lab::new(10);
    let mut store = open(&mut lab).await;
    store
        .put(key(1), large("value"), &NONE)
        .await
        .expect("durable");
    lab.engine.set_faults(EngineFaults {
        is_full: true,
        ..EngineFaults::default()
    });
    store.freeze();
    let wait = tokio::time::timeout(Duration::from_secs(5), store.next_event());
    let event = wait.await;
    assert!(
        event.is_err(),
        "nothing is fed and nothing fails: {event:?}"
    );
    assert!(
        lab.engine.took_effect()["engine_full"] > 1,
        "it is tried again"
    );
    lab.engine.set_faults(EngineFaults::default());
    while !lab.engine.rows().contains_key(&key(1)) {
        store.next_event().await.expect("the feed goes on");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_waited_out() {
    let mut lab = Lab::new(10);
    let mut store = open(&mut lab).await;
    lab.disk.set_faults(DiskFaults {
        capacity: Some(600 << 10),
        ..DiskFaults::default()
    });
    let records: Vec<_> = (0..200).map(|n| (key(n), large("value"))).collect();
    let lsn = store.submit(&records, &NONE);
    let wait = tokio::time::timeout(Duration::from_secs(5), store.wait_durable(lsn));
    assert!(wait.await.is_err(), "600 KiB do not hold 800");
    assert!(lab.disk.took_effect().contains_key("disk_full"));
    lab.disk.set_faults(DiskFaults::default());
    store
        .wait_durable(lsn)
        .await
        .expect("durable once there is space");
}

#[tokio::test(start_paused = true)]
async fn l11_a_damaged_start_frame_is_damage_not_a_tail() {
    let mut lab = Lab::new(11);
    let mut store = open(&mut lab).await;
    store
        .put(key(1), small("one"), &NONE)
        .await
        .expect("durable");
    lab.crash(store, Crash::Kill);
    let start = batches(&lab).len();
    let mut store = open(&mut lab).await;
    store
        .put(key(2), small("two"), &NONE)
        .await
        .expect("durable");
    lab.crash(store, Crash::Kill);
    let offset = batches(&lab)[start];
    for hit in [0, 8, 24, 60, 56 + 12, 56 + 24] {
        let mut copy = copy(&lab);
        assert!(copy.disk.flip(&segment(&copy), offset + hit, 0x10));
        assert!(is_damaged(&copy.open().await), "byte {hit}");
    }
}

#[tokio::test(start_paused = true)]
async fn v1_every_start_is_a_new_incarnation_also_after_a_clean_stop() {
    let mut lab = Lab::new(12);
    let first = open(&mut lab).await;
    let (incarnation, durable) = (first.recovered.incarnation, first.recovered.durable);
    assert!(!first.recovered.clean);
    first.stop().await;
    let second = open(&mut lab).await;
    assert!(second.recovered.clean);
    assert_ne!(second.recovered.incarnation, incarnation);
    let timeline = second.recovered.timeline.clone();
    assert_eq!(timeline.lives().len(), 2);
    let memory = Memory {
        incarnation,
        durable,
    };
    assert!(timeline.confirms(memory, second.recovered.durable));
    lab.crash(second, Crash::Kill);
    let third = open(&mut lab).await;
    assert!(!third.recovered.clean);
    lab.crash(third, Crash::Kill);
    lab.incarnation -= 1;
    let refused = lab.open().await.expect_err("it was used");
    assert!(matches!(refused, OpenError::IncarnationReused(_)));
}

#[tokio::test(start_paused = true)]
async fn c1_memories_and_the_timeline_survive_truncation() {
    let mut lab = Lab::new(13);
    lab.config.segment_bytes = SMALL_SEGMENT;
    lab.config.first_segment_bytes = SMALL_SEGMENT;
    let mut store = open(&mut lab).await;
    let memory = Memory {
        incarnation: Incarnation(77),
        durable: Lsn(1500),
    };
    store.remember(NodeId(2), memory);
    let first_segment = segment(&lab);
    rewrite(&lab, &mut store).await;
    let timeline = store.recovered.timeline.clone();
    lab.crash(store, Crash::Power);
    let names = lab.disk.names();
    assert!(!names.contains(&first_segment), "the log was truncated");
    let logs = names.iter().filter(|name| name.starts_with("log-")).count();
    assert!(logs <= 3, "the log is bounded, not {logs} segments");
    let store = open(&mut lab).await;
    assert_eq!(store.recovered.memories.get(&NodeId(2)), Some(&memory));
    assert_eq!(&store.recovered.timeline.lives()[..1], timeline.lives());
}

#[tokio::test(start_paused = true)]
async fn directories_of_others_are_refused_and_a_lost_disk_is_known() {
    let mut lab = Lab::new(14);
    open(&mut lab).await.stop().await;
    assert!(
        !lab.disk.names().contains(&"first-start".to_owned()),
        "the mark is used up"
    );
    let mut foreign = copy(&lab);
    foreign.owner.cluster_id = [8; 16];
    assert_eq!(foreign.open().await.err(), Some(OpenError::ForeignCluster));
    let mut foreign = copy(&lab);
    foreign.owner.node = NodeId(2);
    let refused = foreign.open().await.expect_err("it is of node 1");
    assert!(matches!(refused, OpenError::ForeignNode { .. }));
    let mut emptied = copy(&lab);
    emptied.disk.erase(&segment(&lab));
    assert!(is_damaged(&emptied.open().await));
    let mut lost = Lab::new(14);
    lost.disk.erase("first-start");
    let store = open(&mut lost).await;
    assert!(
        store.recovered.losses.why.is_some(),
        "neither mark nor data"
    );
    store.stop().await;
    let store = open(&mut lost).await;
    assert!(store.recovered.losses.why.is_some(), "it stays known");
    let healed = || {
        let mut healed = Submission::default();
        healed.healed = Some(Healed {
            disk: true,
            memory: false,
            but_only_copies: false,
        });
        healed
    };
    store.handle.commits.push(healed()).expect("there is room");
    store.stop().await;
    let store = open(&mut lost).await;
    assert_eq!(store.recovered.losses.why, None, "all has come back");
    let mut again = Submission::default();
    again.lost = Some("again".to_owned());
    store.handle.commits.push(healed()).expect("there is room");
    store.handle.commits.push(again).expect("there is room");
    store.stop().await;
    let store = open(&mut lost).await;
    let why = store.recovered.losses.why.as_deref();
    assert_eq!(why, Some("again"), "in one batch, behind what came back");
    store.stop().await;
    let mut mixed = copy(&lab);
    assert!(mixed.disk.flip(&segment(&mixed), 0, 1));
    assert!(is_damaged(&mixed.open().await));
}

#[tokio::test(start_paused = true)]
async fn hints_outlive_the_process_until_they_end() {
    let mut lab = Lab::new(16);
    let hint = |number| (NodeId(2), key(number));
    let missed = |number| HintChange::Missed(NodeId(2), key(number));
    let store = open(&mut lab).await;
    for number in [1, 2, 3] {
        store.handle.hints.push(missed(number)).expect("room");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    lab.crash(store, Crash::Power);
    let store = open(&mut lab).await;
    assert_eq!(store.recovered.hints, [hint(1), hint(2), hint(3)]);
    let ended = HintChange::Ended(NodeId(2), key(2));
    store.handle.hints.push(ended).expect("room");
    store.stop().await;
    let store = open(&mut lab).await;
    assert_eq!(store.recovered.hints, [hint(1), hint(3)]);
    store.stop().await;
    let length = lab.disk.get("hints").expect("it is there").len();
    assert!(lab.disk.flip("hints", length / 2, 1));
    let store = open(&mut lab).await;
    assert!(
        !store.recovered.hints.contains(&hint(3)),
        "from there on they are let go"
    );
    store.handle.hints.push(missed(4)).expect("room");
    store.stop().await;
    let store = open(&mut lab).await;
    assert!(
        store.recovered.hints.contains(&hint(4)),
        "behind it all is new"
    );
    store.stop().await;
}

#[tokio::test(start_paused = true)]
async fn records_larger_than_a_batch_survive_in_parts() {
    let mut lab = Lab::new(15);
    let mut store = open(&mut lab).await;
    let big = Bytes::from(vec![7u8; 700 << 10]);
    store.put(key(1), big, &NONE).await.expect("durable");
    store
        .put(key(2), small("after"), &NONE)
        .await
        .expect("durable");
    let want = store.model.clone();
    lab.crash(store, Crash::Power);
    assert_eq!(open(&mut lab).await.model, want);
}

#[tokio::test(start_paused = true)]
async fn a_record_cut_between_its_parts_is_a_torn_tail() {
    for at in 1..60 {
        let mut lab = Lab::new(at);
        let mut store = open(&mut lab).await;
        store
            .put(key(1), small("one"), &NONE)
            .await
            .expect("durable");
        lab.disk.hang_after(at);
        let big = Bytes::from(vec![7u8; 700 << 10]);
        let lsn = store.submit(&[(key(2), big)], &NONE);
        let acked = store.wait_durable(lsn).await.is_ok();
        lab.crash(store, Crash::Power);
        let mut store = open(&mut lab).await;
        assert!(
            !acked || store.model.contains_key(&key(2)),
            "operation {at}"
        );
        store
            .put(key(3), small("three"), &NONE)
            .await
            .expect("durable");
        let want = store.model.clone();
        lab.crash(store, Crash::Power);
        assert_eq!(open(&mut lab).await.model, want, "operation {at}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_feed_waits_for_an_engine_that_is_behind() {
    let mut lab = Lab::new(16);
    let mut store = open(&mut lab).await;
    store
        .put(key(1), small("one"), &NONE)
        .await
        .expect("durable");
    lab.engine.set_faults(EngineFaults {
        backlog: 100,
        ..EngineFaults::default()
    });
    let early = tokio::time::timeout(Duration::from_secs(20), store.checkpoint());
    assert!(early.await.is_err(), "it waits");
    lab.engine.set_faults(EngineFaults::default());
    store.next_event().await.expect("ingested");
    assert_eq!(lab.engine.rows().len(), 1);
}

/// Every byte of a log that spans two incarnations, one bit at a time.
#[tokio::test(start_paused = true)]
async fn a_flipped_bit_is_detected_or_harmless() {
    let mut lab = Lab::new(17);
    let mut store = open(&mut lab).await;
    for n in 0..2 {
        store
            .put(key(n), small("value"), &NONE)
            .await
            .expect("durable");
    }
    lab.crash(store, Crash::Kill);
    let mut store = open(&mut lab).await;
    store
        .put(key(0), small("newer"), &NONE)
        .await
        .expect("durable");
    let before_last = store.model.clone();
    store
        .put(key(3), small("last"), &NONE)
        .await
        .expect("durable");
    let full = store.model.clone();
    lab.crash(store, Crash::Kill);
    let name = segment(&lab);
    let log = lab.disk.get(&name).expect("there is a segment");
    let last_batch = *batches(&lab).last().expect("there are batches");
    let (mut detected, mut harmless, mut tail) = (0, 0, 0);
    for offset in (0..log.len()).filter(|&at| log[at] != 0 || at % 1021 == 0) {
        let mut copy = copy(&lab);
        assert!(copy.disk.flip(&name, offset, 1 << (offset % 8)));
        match copy.open().await {
            Err(error) => {
                assert!(error.is_refusal(), "byte {offset}: {error}");
                detected += 1;
            }
            Ok(store) if store.model == full => harmless += 1,
            Ok(store) => {
                assert!(
                    offset >= last_batch,
                    "byte {offset} lost something silently"
                );
                assert_eq!(store.model, before_last, "byte {offset}");
                tail += 1;
            }
        }
    }
    assert!(
        detected > 200 && harmless > 50 && tail > 50,
        "{detected} {harmless} {tail}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_log_that_was_truncated_inside_a_record_opens() {
    for pad in 0..12 {
        let mut lab = Lab::new(pad);
        lab.config.segment_bytes = SMALL_SEGMENT;
        lab.config.first_segment_bytes = SMALL_SEGMENT;
        let mut store = open(&mut lab).await;
        for n in 0..pad {
            store
                .put(key(n), large("pad"), &NONE)
                .await
                .expect("durable");
        }
        let big = Bytes::from(vec![7u8; 120 << 10]);
        for _ in 0..4 {
            let rows = lab.engine.rows();
            store
                .put(key(1), big.clone(), &rows)
                .await
                .expect("durable");
            store.checkpoint().await.expect("ingested");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        lab.crash(store, Crash::Kill);
        let store = open(&mut lab).await;
        let found = store.contents(&lab.engine);
        assert_eq!(found.get(&key(1)), Some(&big), "pad {pad}");
    }
}

/// A full segment is checkpointed while the first batch of the next one is in flight; the power
/// goes at some moment of it.
async fn checkpoint_at_a_segments_end(ingest_max: Duration) {
    for seed in 0..60 {
        let mut lab = Lab::new(seed);
        lab.config.segment_bytes = SMALL_SEGMENT;
        lab.config.first_segment_bytes = SMALL_SEGMENT;
        let mut store = open(&mut lab).await;
        // Header and start frame take a block each, every record another one.
        for n in 0..SMALL_SEGMENT / 4096 - 2 {
            store
                .put(key(n), large("value"), &NONE)
                .await
                .expect("durable");
        }
        let want = store.model.clone();
        lab.disk.set_faults(DiskFaults {
            drop_all_unsynced: true,
            latency_max: Duration::from_millis(10),
            ..DiskFaults::default()
        });
        lab.engine.set_faults(EngineFaults {
            ingest_max,
            ..EngineFaults::default()
        });
        store.freeze();
        tokio::time::sleep(Duration::from_millis(seed)).await;
        store.submit(&[(key(0), large("newer"))], &NONE);
        tokio::time::sleep(Duration::from_millis(seed * 7 % 40)).await;
        lab.crash(store, Crash::Power);
        lab.disk.set_faults(DiskFaults::default());
        lab.engine.set_faults(EngineFaults::default());
        let opened = lab.open().await;
        assert!(opened.is_ok(), "seed {seed}: {:?}", opened.err());
        let found = opened.expect("asserted").contents(&lab.engine);
        for (key, record) in &want {
            let newer = found.get(key) == Some(&large("newer"));
            assert!(newer || found.get(key) == Some(record), "seed {seed}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_segment_stays_until_the_one_behind_it_holds_a_durable_batch() {
    checkpoint_at_a_segments_end(Duration::ZERO).await;
}

#[tokio::test(start_paused = true)]
async fn a_segment_stays_until_the_ingestion_has_returned() {
    checkpoint_at_a_segments_end(Duration::from_millis(80)).await;
}

/// C7: once a life has ended without a clean stop, no later clean stop makes up for what memory
/// keyspaces may have lost; and a store that stopped cleanly every time has lost nothing.
#[tokio::test(start_paused = true)]
async fn c7_a_clean_stop_after_an_unclean_end_still_says_that_memory_was_lost() {
    use quorate_node::core::input::Volatile;
    let mut lab = Lab::new(1);
    for _ in 0..2 {
        let store = lab.open().await.expect("opens");
        assert_eq!(store.recovered.volatile, Volatile::Whole);
        store.stop().await;
    }
    let store = lab.open().await.expect("opens");
    assert_eq!(store.recovered.volatile, Volatile::Whole);
    lab.crash(store, Crash::Kill);
    for _ in 0..2 {
        let store = lab.open().await.expect("opens");
        assert_eq!(store.recovered.volatile, Volatile::Lost);
        store.stop().await;
    }
}
