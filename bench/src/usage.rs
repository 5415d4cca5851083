//! What a run has used: CPU time of processes with all their threads, and bytes that the machine's
//! disks wrote. Read from `/proc`, so the tool must run on the machine of the nodes.
//!
//! A tick of the kernel's accounting is 10 ms: meaningful from some seconds of work on. The bytes
//! are those of the whole machine: what `/proc/PID/io` says of one process counts a whole folio of
//! the page cache, up to 1 MiB, for each small write into a log that was filled before.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Bytes of a sector in `/proc/diskstats`, whatever the disk's own are.
const SECTOR_BYTES: u64 = 512;

/// User and system time of process `pid` since its start, ended threads included.
///
/// # Errors
/// If there is no such process on this machine.
pub fn cpu_of(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {path}; does the node run on this machine?"))?;
    cpu_of_stat(&stat).with_context(|| format!("{path} is not understood"))
}

/// User and system time in the `stat` of a process or a thread.
pub(crate) fn cpu_of_stat(stat: &str) -> Option<Duration> {
    let ticks = ticks_of_stat(stat)?;
    let hertz = rustix::param::clock_ticks_per_second().max(1);
    Some(Duration::from_micros(
        ticks.saturating_mul(1_000_000) / hertz,
    ))
}

/// User and system time of this process.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn own_cpu() -> Result<Duration> {
    cpu_of(std::process::id())
}

/// Resident memory of a process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// Now.
    pub resident: u64,
    /// The most so far.
    pub peak: u64,
}

/// Memory of process `pid`.
///
/// # Errors
/// If there is no such process on this machine.
pub fn memory_of(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let field = |name: &str| -> Result<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next());
        let kib: u64 = number
            .with_context(|| format!("{path} has no {name}"))?
            .parse()?;
        Ok(kib * 1024)
    };
    Ok(Memory {
        resident: field("VmRSS:")?,
        peak: field("VmHWM:")?,
    })
}

/// Bytes that all disks of the machine have written since its start; 0 if it does not tell.
#[must_use]
pub fn disk_written_bytes() -> u64 {
    let stats = std::fs::read_to_string("/proc/diskstats").unwrap_or_default();
    // A partition's bytes are its disk's too, and a mapped device's are those below it.
    let is_disk = |name: &str| Path::new("/sys/block").join(name).join("device").exists();
    sectors_written(&stats, is_disk) * SECTOR_BYTES
}

/// User and system ticks: fields 14 and 15. The name in field 2 may hold blanks and brackets.
fn ticks_of_stat(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Field 10 of each disk's line; field 3 is its name.
fn sectors_written(stats: &str, is_disk: impl Fn(&str) -> bool) -> u64 {
    let written = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(2);
        let name = fields.next()?;
        let sectors: u64 = fields.nth(6)?.parse().ok()?;
        is_disk(name).then_some(sectors)
    };
    stats.lines().filter_map(written).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_a_name_with_brackets() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 321 45 0 0 20 0 9 0 100 1 1";
        assert_eq!(ticks_of_stat(stat), Some(366));
        assert_eq!(ticks_of_stat("7 (a) S 1"), None);
    }

    #[test]
    fn written_sectors_are_those_of_disks() {
        let stats = " 254 0 vda 1 2 3 4 5 6 700 8 0 9 10\n 254 1 vda1 1 2 3 4 5 6 600 8 0 9 10\n";
        assert_eq!(sectors_written(stats, |name| name == "vda"), 700);
        assert_eq!(sectors_written("", |_| true), 0);
    }

    #[test]
    fn this_process_can_be_asked() {
        assert!(own_cpu().is_ok());
    }
}
