//! Facts of the machine and of the source that a figure means nothing without.

use std::process::Command;

/// Machine and source of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Cores that this process may use.
    pub cores: usize,
    /// Name of the processor; empty if it is not known.
    pub processor: String,
    /// Memory in bytes; 0 if it is not known.
    pub memory_bytes: u64,
    /// Release of the kernel; empty if it is not known.
    pub kernel: String,
    /// Commit of the working directory, with `-dirty` if it has changes; empty without git.
    pub commit: String,
    /// Profile that the tool was built with, as far as it can tell.
    pub build: &'static str,
}

impl Machine {
    /// Looks around.
    #[must_use]
    pub fn look() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: field(&read("/proc/cpuinfo"), "model name"),
            memory_bytes: kibibytes(&field(&read("/proc/meminfo"), "MemTotal")) * 1_024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            commit: commit(),
            build: if cfg!(debug_assertions) {
                "debug"
            } else {
                "optimised"
            },
        }
    }
}

/// The first value of `name` in lines of `name : value`.
fn field(text: &str, name: &str) -> String {
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    let found = fields.find(|(key, _)| key.trim() == name);
    found.map_or_else(String::new, |(_, value)| value.trim().to_owned())
}

fn kibibytes(text: &str) -> u64 {
    let number = text.split(' ').next().unwrap_or_default();
    number.parse().unwrap_or(0)
}

fn commit() -> String {
    let arguments = [
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
        "--exclude=*",
    ];
    let output = Command::new("git").args(arguments).output();
    let output = output.ok().filter(|output| output.status.success());
    let text = output.and_then(|output| String::from_utf8(output.stdout).ok());
    text.map_or_else(String::new, |text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found() {
        let text = "processor\t: 0\nmodel name\t: Some CPU\nMemTotal:       2048 kB\n";
        assert_eq!(field(text, "model name"), "Some CPU");
        assert_eq!(kibibytes(&field(text, "MemTotal")), 2_048);
        assert_eq!(field(text, "nothing"), "");
    }
}
