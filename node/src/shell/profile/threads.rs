//! CPU time of this process's threads, by name, as the system counts it.
//!
//! Looked up when it is asked for and by nobody else; some dozen files of `/proc` are read. Where
//! the system does not tell of single threads, all of the process counts as [`ENDED`].

use std::collections::BTreeMap;

use rustix::time::{ClockId, clock_gettime};

/// The name of the first thread, on which the runtime is.
pub(super) const MAIN: &str = "main";

/// The name of what no living thread has used: threads that have ended, and what is not yet
/// counted of those that run.
pub(super) const ENDED: &str = "ended";

/// CPU nanoseconds by thread; threads of one name together. They add up to the process's.
pub(super) fn cpu_nanos() -> BTreeMap<String, u64> {
    let mut threads = BTreeMap::new();
    let own = std::process::id().to_string();
    let tasks = std::fs::read_dir("/proc/self/task");
    for task in tasks.into_iter().flatten().flatten() {
        // A thread may end while it is looked at.
        let file = |name| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        if let Some(nanos) = on_processor(&file("schedstat")) {
            let name = if task.file_name().to_str() == Some(&own) {
                MAIN.to_owned()
            } else {
                as_label(file("comm").trim_end())
            };
            *threads.entry(name).or_default() += nanos;
        }
    }
    let known: u64 = threads.values().sum();
    let ended = process_nanos().saturating_sub(known);
    threads.insert(ENDED.to_owned(), ended);
    threads
}

fn process_nanos() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let part = |value: i64| u64::try_from(value).unwrap_or_default();
    part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec)
}

/// The first field: nanoseconds on a processor.
fn on_processor(schedstat: &str) -> Option<u64> {
    schedstat.split_ascii_whitespace().next()?.parse().ok()
}

/// What may stand in a label without being quoted.
fn as_label(name: &str) -> String {
    let plain = |c: char| if c == '"' || c == '\\' { '_' } else { c };
    name.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_add_up_to_the_process() {
        let before = process_nanos();
        let mut sum = 0_u64;
        while process_nanos() - before < 20_000_000 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let threads = cpu_nanos();
        let known: u64 = threads.values().sum();
        assert!(known >= before + 20_000_000, "{threads:?}");
        assert!(threads.contains_key(MAIN), "{threads:?}");
    }

    #[test]
    fn what_is_no_number_is_no_time() {
        assert_eq!(on_processor("92473 5 1\n"), Some(92_473));
        assert_eq!(on_processor(""), None);
    }
}
