//! A store on a real file system, killed again and again: every id that was printed after a sync
//! must be there at the next start, or a newer one of the same key.
//!
//! This proves that a killed process loses nothing; power loss is the simulated disk's part.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};

const CYCLES: u64 = 200;

/// Newest acknowledged id of each key.
type Acked = BTreeMap<String, u64>;

struct Cycle {
    acked: u64,
    began: bool,
}

fn start(dir: &str, cycle: u64) -> anyhow::Result<Child> {
    Command::new(env!("CARGO_BIN_EXE_store_child"))
        .args([
            dir,
            &(cycle + 1).to_string(),
            &(cycle * 1_000_000 + 1).to_string(),
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("the child starts")
}

#[expect(
    clippy::disallowed_methods,
    reason = "a real process is killed after a real time"
)]
fn wait(time: Duration) {
    std::thread::sleep(time);
}

/// Lets the child live for a while, kills it, and checks what it printed.
fn run_cycle(dir: &str, cycle: u64, random: u64, acked: &mut Acked) -> anyhow::Result<Cycle> {
    let mut child = start(dir, cycle)?;
    let mut lines = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
    let mut found = Acked::new();
    let mut began = false;
    // One in eight is killed during its recovery.
    if !random.is_multiple_of(8) {
        for line in lines.by_ref() {
            let line = line?;
            if line == "ready" {
                began = true;
                break;
            }
            note(&line, &mut found)?;
        }
    }
    wait(Duration::from_millis(1 + (random >> 8) % 200));
    let alive = child.try_wait()?.is_none();
    child.kill()?;
    let output = child.wait_with_output()?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(alive, "cycle {cycle}: the child ended by itself: {errors}");
    let mut news = Acked::new();
    // The last line may be cut: only whole words before it count.
    for line in lines.map_while(Result::ok) {
        if line == "ready" {
            began = true;
        } else if line.starts_with("have") {
            note(&line, &mut found)?;
        } else {
            note(&line, &mut news)?;
        }
    }
    if began {
        for (key, id) in acked.iter() {
            let there = found.get(key).copied().unwrap_or(0);
            ensure!(
                there >= *id,
                "cycle {cycle}: {key} holds {there}, acknowledged was {id}"
            );
        }
    }
    let count = news.len() as u64;
    acked.extend(news);
    Ok(Cycle {
        acked: count,
        began,
    })
}

fn note(line: &str, into: &mut Acked) -> anyhow::Result<()> {
    let mut words = line.split(' ').skip(1);
    while let (Some(key), Some(id)) = (words.next(), words.next()) {
        into.insert(key.to_owned(), id.parse()?);
    }
    Ok(())
}

#[test]
fn nothing_printed_after_a_sync_is_lost_by_a_kill() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().to_str().context("a path of text")?;
    std::fs::write(dir.path().join("first-start"), b"")?;
    let mut acked = Acked::new();
    let (mut total, mut began, mut random) = (0, 0, 0x5eed_u64);
    for cycle in 0..CYCLES {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let done = run_cycle(path, cycle, random >> 16, &mut acked)?;
        total += done.acked;
        began += u64::from(done.began);
    }
    println!("{CYCLES} kills, {began} of them after recovery, {total} keys acknowledged");
    ensure!(
        began >= CYCLES / 2 && total >= CYCLES * 5,
        "{began} starts, {total} acknowledged"
    );
    Ok(())
}
