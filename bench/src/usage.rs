//! What processes have used: CPU time of all their threads, and bytes they handed to files.
//!
//! The system's own count of bytes written to disks is no use here: it counts whole large pages of a
//! file for every small write into them.
//! Read from `/proc`, so the tool must run on the machine of the nodes.
//!
//! A tick of the kernel's accounting is 10 ms: meaningful from some seconds of work on.

use std::time::Duration;

use anyhow::{Context as _, Result};

/// Use of one process since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// User and system time of all its threads, ended ones included.
    pub cpu: Duration,
    /// Bytes that it wrote to files (log, digests, engine); 0 if the system does not tell.
    pub written_bytes: u64,
}

impl Usage {
    /// What was used since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            cpu: self.cpu + other.cpu,
            written_bytes: self.written_bytes + other.written_bytes,
        }
    }
}

/// Use of process `pid`.
///
/// # Errors
/// If there is no such process on this machine.
pub fn of_process(pid: u32) -> Result<Usage> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {path}; does the node run on this machine?"))?;
    let ticks = ticks_of_stat(&stat).with_context(|| format!("{path} is not understood"))?;
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let hertz = rustix::param::clock_ticks_per_second().max(1);
    Ok(Usage {
        cpu: Duration::from_micros(ticks.saturating_mul(1_000_000) / hertz),
        written_bytes: written_of_io(&io),
    })
}

/// Use of this process.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn own() -> Result<Usage> {
    of_process(std::process::id())
}

/// User and system ticks: fields 14 and 15. The name in field 2 may hold blanks and brackets.
fn ticks_of_stat(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn written_of_io(io: &str) -> u64 {
    let lines = io.lines().filter_map(|line| line.strip_prefix("wchar: "));
    lines
        .filter_map(|bytes| bytes.parse().ok())
        .next()
        .unwrap_or(0)
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
    fn written_bytes_are_those_handed_to_files() {
        assert_eq!(
            written_of_io("wchar: 4096\nwrite_bytes: 9\ncancelled_write_bytes: 1\n"),
            4096
        );
        assert_eq!(written_of_io(""), 0);
    }

    #[test]
    fn this_process_can_be_asked() {
        assert!(own().is_ok());
    }
}
