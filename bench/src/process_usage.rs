//! What one process has used: CPU time, in all and by the names of its threads, and memory. Read
//! from `/proc`.
//!
//! A thread that has ended is in the time of its process and in that of no thread. A tick of the
//! kernel's accounting is 10 ms; that of a thread is cut off, so threads sum up to a little less
//! than their process.
//!
//! Not here: bytes written. The kernel counts for a process what it made dirty, a whole folio of
//! the page cache, up to 1 MiB, for each small write into a file that was filled before: ten times
//! what the disk takes. The machine's own figure (`usage`) tells that, whoever wrote.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::usage::{cpu_of, cpu_of_stat, memory_of};

/// What a process has used.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProcessUsage {
    /// What it is called in reports: a node's name, or `client`.
    pub name: String,
    /// User and system time of all its threads, ended ones included.
    pub cpu: Duration,
    /// The same of the threads that run, by their name; those of one name are summed up.
    pub threads: BTreeMap<String, Duration>,
    /// The most memory that was resident since its start.
    pub memory_peak_bytes: u64,
}

impl ProcessUsage {
    /// Of process `pid` since its start.
    ///
    /// # Errors
    /// If there is no such process on this machine.
    pub fn of(name: &str, pid: u32) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            cpu: cpu_of(pid)?,
            threads: threads_of(pid)?,
            memory_peak_bytes: memory_of(pid)?.peak,
        })
    }

    /// Of this process.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn own(name: &str) -> Result<Self> {
        Self::of(name, std::process::id())
    }

    /// What was used from `before` on; the memory is the most since the process's start.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let spent = |(name, now): (&String, &Duration)| {
            let was = before.threads.get(name).copied().unwrap_or_default();
            (name.clone(), now.saturating_sub(was))
        };
        Self {
            name: self.name.clone(),
            cpu: self.cpu.saturating_sub(before.cpu),
            threads: self.threads.iter().map(spent).collect(),
            memory_peak_bytes: self.memory_peak_bytes,
        }
    }
}

/// CPU times of threads by name.
#[must_use]
pub fn threads_summed<'a>(
    processes: impl IntoIterator<Item = &'a ProcessUsage>,
) -> BTreeMap<&'a str, Duration> {
    let mut sums = BTreeMap::new();
    for (name, cpu) in processes.into_iter().flat_map(|process| &process.threads) {
        *sums.entry(name.as_str()).or_default() += *cpu;
    }
    sums
}

/// Bytes that the machine sent to itself since its start, all processes together; 0 if it does not
/// tell. The kernel counts a send of several segments once, with one header.
#[must_use]
pub fn loopback_bytes() -> u64 {
    loopback_in(&std::fs::read_to_string("/proc/net/dev").unwrap_or_default())
}

fn threads_of(pid: u32) -> Result<BTreeMap<String, Duration>> {
    let folder = format!("/proc/{pid}/task");
    let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))?;
    let mut threads = BTreeMap::new();
    for entry in entries {
        // One that ends between the listing and the look is one that has ended.
        if let Some((name, cpu)) = thread_at(&entry?.path()) {
            *threads.entry(name).or_default() += cpu;
        }
    }
    Ok(threads)
}

fn thread_at(folder: &Path) -> Option<(String, Duration)> {
    let read = |file| std::fs::read_to_string(folder.join(file)).ok();
    let name = read("comm")?.trim().to_owned();
    Some((name, cpu_of_stat(&read("stat")?)?))
}

/// The ninth number of the line: bytes sent.
fn loopback_in(devices: &str) -> u64 {
    let mut lines = devices.lines();
    let line = lines.find_map(|line| line.trim_start().strip_prefix("lo:"));
    let field = line.and_then(|line| line.split_ascii_whitespace().nth(8));
    field.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_their_lines() {
        let devices = "Inter-| Receive\n  eth0: 1 0 0 0 0 0 0 0 2 0\n    lo: 11 1 0 0 0 0 0 0 12 2";
        assert_eq!(loopback_in(devices), 12);
        assert_eq!(loopback_in("  eth0: 1 0 0 0 0 0 0 0 2 0"), 0);
    }

    #[test]
    fn threads_of_one_name_are_summed_over_processes() {
        let process = |ms: &[(&str, u64)]| ProcessUsage {
            threads: ms
                .iter()
                .map(|(name, ms)| ((*name).to_owned(), Duration::from_millis(*ms)))
                .collect(),
            ..ProcessUsage::default()
        };
        let (before, after) = (
            process(&[("main", 10)]),
            process(&[("main", 30), ("commit", 5)]),
        );
        let both = [after.since(&before), process(&[("main", 1)])];
        let sums = threads_summed(&both);
        assert_eq!(sums.get("main"), Some(&Duration::from_millis(21)));
        assert_eq!(sums.get("commit"), Some(&Duration::from_millis(5)));
    }

    #[test]
    fn this_process_has_threads_and_memory() {
        let own = ProcessUsage::own("client").expect("it runs");
        assert!(!own.threads.is_empty());
        assert!(own.memory_peak_bytes > 0);
    }
}
