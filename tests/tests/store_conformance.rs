//! One suite for every implementation of the store's seams: real and simulated alike.

use std::sync::Arc;

use bytes::Bytes;
use quorate_node::core::generation::GenerationRows;
use quorate_node::core::key::RecordKey;
use quorate_node::core::scan_page::{PagePart, PageRange};
use quorate_node::shell::seam::{Checkpoint, Disk, DiskError, Engine};
use quorate_node::shell::store::disk::RealDisk;
use quorate_node::shell::store::engine::{EngineConfig, FjallEngine};
use quorate_node::shell::store::{OpenError, StoreConfig};
use quorate_ring::{KeyspaceId, Lsn, VnodeId};
use quorate_tests::sim::lab::{Lab, Model, Options, Running, digests_of, key, owner};
use quorate_tests::sim::{SimDisk, SimEngine};

async fn disk_conforms(disk: &dyn Disk) -> Result<(), DiskError> {
    let missing = |result: Result<(), DiskError>| matches!(result, Err(DiskError::NotFound { .. }));
    assert!(disk.read("a", 0, 1).await.is_err(), "nothing is there");
    assert!(
        missing(disk.write("a", 0, b"x").await),
        "a write makes no file"
    );
    assert!(missing(disk.remove("a").await));
    assert!(missing(disk.rename("a", "b").await));

    disk.create_zeroed("a", 10_000).await?;
    assert_eq!(
        disk.read("a", 0, 20_000).await?,
        vec![0; 10_000],
        "zeros, up to the end"
    );
    disk.write("a", 9_998, b"tail").await?;
    assert_eq!(
        disk.read("a", 9_996, 100).await?,
        &b"\0\0tail"[..],
        "a write grows the file"
    );
    assert_eq!(
        disk.read("a", 20_000, 5).await?,
        &b""[..],
        "nothing behind the end"
    );
    disk.sync("a").await?;
    disk.sync_dir().await?;
    disk.create_zeroed("a", 4).await?;
    assert_eq!(disk.read("a", 0, 100).await?, vec![0; 4], "made anew");

    disk.create_zeroed("b", 0).await?;
    disk.write("b", 0, b"bee").await?;
    disk.rename("b", "a").await?;
    assert_eq!(disk.read("a", 0, 9).await?, &b"bee"[..], "replaced");
    disk.write("a", 3, b"!").await?;
    let names: Vec<_> = disk
        .list()
        .await?
        .into_iter()
        .filter(|(n, _)| n != "lock")
        .collect();
    assert_eq!(names, [("a".to_owned(), 4)]);
    disk.sync_dir().await?;
    disk.remove("a").await?;
    assert!(disk.read("a", 0, 1).await.is_err());
    let (free, total) = disk.space().await?;
    assert!(free <= total && total > 0);
    Ok(())
}

fn in_keyspace(keyspace: u32, vnode: u16, name: &str) -> RecordKey {
    RecordKey::new(KeyspaceId(keyspace), VnodeId(vnode), name.as_bytes())
}

fn checkpoint(applied: u64) -> Checkpoint {
    Checkpoint {
        applied: Lsn(applied),
        digest_file: format!("digest-{applied}"),
        digest_checksum: u128::from(applied) << 100,
    }
}

fn generation(rows: &[(RecordKey, Bytes)]) -> Arc<GenerationRows> {
    Arc::new(rows.iter().cloned().collect())
}

async fn engine_conforms(engine: &dyn Engine) {
    assert_eq!(engine.checkpoint().await, Ok(None));
    assert_eq!(engine.scan(None, 10).await, Ok(Vec::new()));
    let mut rows: Vec<(RecordKey, Bytes)> = Vec::new();
    for keyspace in [0, 1, 300] {
        for vnode in [0, 255, 256] {
            for name in ["a", "b", "\0", "\u{ff}"] {
                let key = in_keyspace(keyspace, vnode, name);
                let record = Bytes::from(format!("{keyspace} {vnode} {name}"));
                rows.push((key, record));
            }
        }
    }
    rows.sort();
    engine
        .ingest(generation(&rows), checkpoint(5))
        .await
        .expect("ingested");
    assert_eq!(engine.checkpoint().await, Ok(Some(checkpoint(5))));

    let absent = in_keyspace(1, 0, "c");
    let asked = vec![rows[7].0.clone(), absent.clone(), rows[0].0.clone()];
    let loaded = engine.load(asked).await;
    let want = vec![
        (rows[7].0.clone(), Ok(Some(rows[7].1.clone()))),
        (absent, Ok(None)),
        (rows[0].0.clone(), Ok(Some(rows[0].1.clone()))),
    ];
    assert_eq!(loaded, want, "in the order asked, absent is absent");

    let mut scanned = Vec::new();
    loop {
        let after = scanned
            .last()
            .map(|(key, _): &(RecordKey, Bytes)| key.clone());
        let page = engine.scan(after, 5).await.expect("readable");
        assert!(page.len() <= 5);
        if page.is_empty() {
            break;
        }
        scanned.extend(page);
    }
    assert_eq!(
        scanned, rows,
        "every row once, in key order, without the checkpoint"
    );

    let newer = (rows[3].0.clone(), Bytes::from_static(b"newer"));
    engine
        .ingest(generation(std::slice::from_ref(&newer)), checkpoint(9))
        .await
        .expect("ingested");
    engine
        .ingest(generation(&[]), checkpoint(12))
        .await
        .expect("a checkpoint alone");
    assert_eq!(engine.checkpoint().await, Ok(Some(checkpoint(12))));
    let loaded = engine.load(vec![newer.0.clone()]).await;
    assert_eq!(loaded, vec![(newer.0, Ok(Some(newer.1)))]);
}

/// A page's keys as text, with the bound behind them.
async fn page(engine: &dyn Engine, range: &PageRange) -> (Vec<String>, Option<String>) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let PagePart { rows, until } = engine.page(range.clone()).await.expect("readable");
    for (key, record) in &rows {
        assert!(range.holds(key), "{key:?} of {range:?}");
        let newest = engine.load(vec![key.clone()]).await;
        assert_eq!(newest, vec![(key.clone(), Ok(Some(record.clone())))]);
    }
    let keys = rows.iter().map(|(key, _)| text(key.user_key()));
    (keys.collect(), until.as_deref().map(text))
}

/// Pages merge vnodes in key order, show the newest rows, and say where they were cut.
async fn pages_conform(engine: &dyn Engine) {
    let whole = |vnodes: &[u16]| PageRange {
        keyspace: KeyspaceId(1),
        vnodes: vnodes.iter().copied().map(VnodeId).collect(),
        from: Bytes::new(),
        end: None,
        rows_max: 1000,
        bytes_max: 1 << 20,
    };
    assert_eq!(page(engine, &whole(&[0, 1, 2])).await, (vec![], None));

    // Each key in one vnode, some of them rewritten by a later ingestion; other keyspaces and
    // vnodes lie around them, the last vnode of all included.
    let name = |number: u16| format!("k{number:03}");
    let row = |keyspace, number: u16, text: &str| {
        let key = in_keyspace(keyspace, number % 4, &name(number));
        (key, Bytes::from(format!("{text} {number}")))
    };
    let mut rows: Vec<_> = (0..200).map(|number| row(1, number, "old")).collect();
    rows.extend([row(0, 7, "other"), row(2, 7, "other")]);
    rows.push((in_keyspace(1, u16::MAX, "last"), Bytes::from_static(b"l")));
    rows.sort();
    let newer: Vec<_> = (0..200).step_by(4).map(|n| row(1, n, "new")).collect();
    for (rows, applied) in [(&rows, 20), (&newer, 21)] {
        let ingested = engine.ingest(generation(rows), checkpoint(applied)).await;
        ingested.expect("ingested");
    }
    let names = |numbers: &mut dyn Iterator<Item = u16>| numbers.map(name).collect::<Vec<_>>();
    let all = names(&mut (0..200));
    assert_eq!(
        page(engine, &whole(&[0, 1, 2, 3, 9])).await,
        (all.clone(), None)
    );
    let some = names(&mut (0..200).filter(|n| n % 4 == 1 || n % 4 == 3));
    assert_eq!(page(engine, &whole(&[1, 3])).await, (some, None));
    assert_eq!(page(engine, &whole(&[])).await, (vec![], None));

    // Page by page, by rows and by bytes: each key once, in order.
    for (rows_max, bytes_max) in [(1, 1 << 20), (7, 1 << 20), (200, 1 << 20), (1000, 40)] {
        let (mut found, mut from) = (Vec::new(), Bytes::new());
        loop {
            let range = PageRange {
                from,
                rows_max,
                bytes_max,
                ..whole(&[0, 1, 2, 3])
            };
            let (keys, until) = page(engine, &range).await;
            assert!(!keys.is_empty() && keys.len() <= rows_max, "{keys:?}");
            found.extend(keys);
            match until {
                Some(until) => from = Bytes::from(until),
                None => break,
            }
        }
        assert_eq!(found, all, "{rows_max} rows, {bytes_max} bytes");
    }

    let bounds = [
        // The end is not part of it, whether it is a key or not; nor is what begins with it.
        ("k010", Some("k013"), (10..13), None),
        ("k0105", Some("k0125"), (11..13), None),
        ("k", Some("k002"), (0..2), None),
        ("k198", None, (198..200), None),
        ("l", None, (0..0), None),
        // Ranges that hold nothing are no error, backward ones neither.
        ("k010", Some("k010"), (0..0), None),
        ("k013", Some("k010"), (0..0), None),
        ("k010", Some(""), (0..0), None),
    ];
    for (from, end, numbers, until) in bounds {
        let range = PageRange {
            from: Bytes::from(from),
            end: end.map(Bytes::from),
            ..whole(&[0, 1, 2, 3])
        };
        let want = (names(&mut numbers.into_iter()), until);
        assert_eq!(page(engine, &range).await, want, "{from} to {end:?}");
    }
}

/// Writes, checkpoints, reopens: the store over any disk and engine.
async fn store_conforms(mut options: impl FnMut(u64) -> Options) {
    let mut want = Model::new();
    for round in 1..=4u64 {
        let mut store = Running::open(options(round)).await.expect("opens");
        let mut found: Model = store
            .handle
            .engine
            .scan(None, 1000)
            .await
            .expect("readable")
            .into_iter()
            .collect();
        found.extend(store.model.clone());
        assert_eq!(found, want, "round {round}");
        assert_eq!(store.digests, digests_of(&want));
        assert_eq!(store.recovered.clean, round % 2 == 0, "round {round}");
        assert_eq!(store.recovered.timeline.lives().len() as u64, round);
        for n in 0..40u8 {
            let record = Bytes::from(format!("{round} {n} {}", "x".repeat(usize::from(n) * 100)));
            store
                .put(key(u64::from(n) % 30), record.clone(), &want)
                .await
                .expect("durable");
            want.insert(key(u64::from(n) % 30), record);
            if n == 20 {
                store.checkpoint().await.expect("ingested");
            }
        }
        if round % 2 == 1 {
            store.stop().await;
        } else {
            store.kill().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn simulated_disk_conforms() {
    let disk = SimDisk::new(1);
    disk_conforms(&*disk.mount()).await.expect("no faults");
}

#[tokio::test]
async fn real_disk_conforms() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = RealDisk::open_locked(dir.path()).expect("opens");
    disk_conforms(&disk).await.expect("no faults");
}

#[tokio::test(start_paused = true)]
async fn simulated_engine_conforms() {
    engine_conforms(&*SimEngine::new(1).mount()).await;
    pages_conform(&*SimEngine::new(2).mount()).await;
}

#[tokio::test]
async fn real_engine_conforms_also_when_opened_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = EngineConfig::new(dir.path().join("engine"));
    let engine = FjallEngine::open(&config).expect("opens");
    engine_conforms(&engine).await;
    let rows = engine.scan(None, 100).await;
    drop(engine);
    let engine = FjallEngine::open(&config).expect("opens");
    assert_eq!(engine.checkpoint().await, Ok(Some(checkpoint(12))));
    assert_eq!(engine.scan(None, 100).await, rows);
    let config = EngineConfig::new(dir.path().join("pages"));
    let engine = FjallEngine::open(&config).expect("opens");
    pages_conform(&engine).await;
}

#[tokio::test(start_paused = true)]
async fn store_conforms_on_simulated_parts() {
    let lab = Lab::new(1);
    store_conforms(|incarnation| {
        let disk = lab.disk.mount();
        Options {
            folder: disk.clone(),
            disk,
            engine: lab.engine.mount(),
            owner: owner(),
            incarnation,
            config: StoreConfig::small(),
        }
    })
    .await;
}

#[tokio::test]
async fn store_conforms_on_real_parts() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("first-start"), b"").expect("writable");
    store_conforms(|incarnation| {
        let disk = RealDisk::open_locked(dir.path().join("store")).expect("opens");
        let engine = FjallEngine::open(&EngineConfig::new(dir.path().join("engine")));
        Options {
            folder: Arc::new(RealDisk::open(dir.path()).expect("opens")),
            disk: Arc::new(disk),
            engine: Arc::new(engine.expect("opens")),
            owner: owner(),
            incarnation,
            config: StoreConfig::small(),
        }
    })
    .await;
}

#[test]
fn a_second_process_is_locked_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = RealDisk::open_locked(dir.path()).expect("opens");
    let second = RealDisk::open_locked(dir.path()).expect_err("the first holds it");
    assert!(matches!(second, OpenError::Locked { .. }) && second.is_refusal());
    drop(first);
    assert!(RealDisk::open_locked(dir.path()).is_ok());
}

/// Every file below `dir`.
fn files_below(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).expect("readable").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn copy_tree(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).expect("writable");
    for file in files_below(from) {
        let target = to.join(file.strip_prefix(from).expect("below"));
        std::fs::create_dir_all(target.parent().expect("a folder")).expect("writable");
        std::fs::copy(&file, &target).expect("copied");
    }
}

/// L6 and L7: whichever byte of the real engine flips, nothing that was ingested is silently
/// absent.
#[tokio::test]
async fn a_flipped_byte_of_the_real_engine_hides_no_row() {
    let dir = tempfile::tempdir().expect("a directory");
    let original = dir.path().join("original");
    let engine = FjallEngine::open(&EngineConfig::new(&original)).expect("opens");
    let rows: Vec<_> = {
        let mut keys: Vec<_> = (0..60).map(key).collect();
        keys.sort();
        keys.into_iter()
            .map(|k| (k, Bytes::from(vec![b'r'; 200])))
            .collect()
    };
    engine
        .ingest(generation(&rows), checkpoint(60))
        .await
        .expect("ingested");
    drop(engine);
    let (mut refused, mut damaged, mut whole) = (0, 0, 0);
    for file in files_below(&original) {
        let bytes = std::fs::read(&file).expect("readable");
        let used = bytes
            .iter()
            .rposition(|&b| b != 0)
            .map_or(0, |last| last + 1);
        let step = (used / 8).max(1);
        for offset in (0..used).step_by(step) {
            let copy = dir.path().join("copy");
            copy_tree(&original, &copy);
            let target = copy.join(file.strip_prefix(&original).expect("below"));
            let mut flipped = bytes.clone();
            flipped[offset] ^= 0x20;
            std::fs::write(&target, flipped).expect("writable");
            let config = EngineConfig {
                cache_bytes: 1 << 20,
                ..EngineConfig::new(&copy)
            };
            let opened = std::panic::catch_unwind(|| FjallEngine::open(&config));
            match opened {
                Ok(Ok(engine)) => match engine.checkpoint().await {
                    Ok(Some(found)) => {
                        assert_eq!(found, checkpoint(60));
                        let keys = rows.iter().map(|(key, _)| key.clone()).collect();
                        let loaded = engine.load(keys).await;
                        let bad = loaded.iter().filter(|(_, row)| row.is_err()).count();
                        for ((_, row), (key, record)) in loaded.into_iter().zip(&rows) {
                            if let Ok(row) = row {
                                assert_eq!(row.as_ref(), Some(record), "{key:?} {offset} {file:?}");
                            }
                        }
                        if bad == 0 { whole += 1 } else { damaged += 1 }
                    }
                    // No checkpoint: the log begins behind what the engine holds, or is replayed
                    // from its beginning.
                    Ok(None) | Err(_) => refused += 1,
                },
                Ok(Err(_)) | Err(_) => refused += 1,
            }
            std::fs::remove_dir_all(&copy).expect("removable");
        }
    }
    println!("refused {refused}, damaged {damaged}, whole {whole}");
    assert!(refused > 0 && whole > 0);
}
