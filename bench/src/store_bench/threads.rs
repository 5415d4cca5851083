//! CPU time of this process, thread by thread, as the kernel accounts it (ticks of 10 ms).

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::usage::cpu_of_stat;

/// CPU time by name of thread, ended threads not included.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn cpu_by_thread() -> Result<BTreeMap<String, Duration>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir("/proc/self/task")? {
        let path = entry?.path();
        // A thread may have ended since it was listed.
        let Ok(stat) = std::fs::read_to_string(path.join("stat")) else {
            continue;
        };
        let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
        let cpu = cpu_of_stat(&stat).context("a thread's stat is not understood")?;
        *all.entry(name.trim().to_owned()).or_insert(Duration::ZERO) += cpu;
    }
    Ok(all)
}
