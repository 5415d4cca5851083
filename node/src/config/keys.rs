//! The catalogue of `quorate.toml`: every key with its meaning and its default.
//!
//! A key `data_dir` is also the flag `--data-dir` of `quorate serve` and the variable
//! `QUORATE_DATA_DIR`. Relative paths in the file are relative to the file's folder; in a flag or
//! a variable, to the working directory.

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name in the file.
    pub name: &'static str,
    /// Shape of its value, for `--help`.
    pub shape: &'static str,
    /// What it holds when nothing is said; `None` if `help` says what follows then.
    pub default: Option<&'static str>,
    /// Meaning, unit, and what raising it costs.
    pub help: &'static str,
}

macro_rules! keys {
    ($($konst:ident = $name:literal, $shape:literal, $default:expr, $help:literal;)*) => {
        $(pub(super) const $konst: Key = Key {
            name: $name, shape: $shape, default: $default, help: $help,
        };)*
        /// Every key, in the order of the documentation.
        pub const KEYS: &[Key] = &[$($konst),*];
    };
}

keys! {
    NODE = "node", "ID", None, "Id of this node; required, and one of those in the cluster file";
    CLUSTER_FILE = "cluster_file", "FILE", Some("cluster.toml"), "Nodes and keyspaces";
    SECRETS_FILE = "secrets_file", "FILE", Some("secrets.toml"),
        "Keys that the cluster shares; only its owner may read it";
    DATA_DIR = "data_dir", "DIR", Some("data"), "Folder of the store";
    LISTEN = "listen", "IP:PORT", None,
        "Where QUIC is listened on; default: the advertised port, on its address if that is an IP \
         address, else on all";
    ADVERTISE = "advertise", "HOST:PORT", None,
        "Where others reach the node; default: its address in the cluster file";
    HTTP_LISTEN = "http_listen", "IP:PORT", None,
        "Metrics, health and readiness; default: 127.0.0.1, the QUIC port + 100";
    TLS_DIR = "tls_dir", "DIR", Some("."),
        "Folder of node.crt, node.key, node-ca.crt and client-ca.crt";
    LOG_LEVEL = "log_level", "error|warn|info|debug|trace", Some("info"),
        "Least severity that is logged; below info costs CPU time per request";
    LOG_FORMAT = "log_format", "text|json", Some("text"), "Form of log lines on standard error";
    TABLE_BYTES = "table_bytes", "SIZE", Some("256MiB"),
        "Newest records that the engine does not have yet. More means fewer rewrites of hot keys \
         in the engine, longer replay at start, and as much log";
    CACHE_BYTES = "cache_bytes", "SIZE", Some("640MiB"),
        "Hot records: a miss costs some ten times a hit. Raising it costs memory only";
    DIGEST_CACHE_BYTES = "digest_cache_bytes", "SIZE", Some("512MiB"),
        "Digests of records that left the cache, 24 bytes each: they spare two of three loads of a \
         write and one of two of a read. None of it is taken while everything fits the cache";
    SEGMENT_BYTES = "segment_bytes", "SIZE", Some("32MiB"),
        "A segment of the log, allocated at once; two of them must fit log_bytes_max";
    LOG_BYTES_MAX = "log_bytes_max", "SIZE", Some("2GiB"),
        "All segments of the log; at this bound writes wait for the engine";
    REQUESTS_IN_FLIGHT_MAX = "requests_in_flight_max", "COUNT", Some("4096"),
        "Requests of clients under way; more are refused as OVERLOADED";
    REQUEST_BYTES_IN_FLIGHT_MAX = "request_bytes_in_flight_max", "SIZE", Some("64MiB"),
        "Bytes of these requests; more are refused as OVERLOADED";
    CONNECTIONS_MAX = "connections_max", "COUNT", Some("2048"),
        "Connections of clients, half of them for one principal; each costs some 100 KiB of memory at most when idle";
    DISK_FREE_PERCENT_MIN = "disk_free_percent_min", "PERCENT", Some("5"),
        "Free space of the file system below which writes are refused as DISK_FULL";
    MTU_BYTES_MAX = "mtu_bytes_max", "BYTES", None,
        "Largest datagram that path discovery may reach, 1200 to 6500; if not given, 1452 and 6500 \
         to loopback addresses; larger ones save up to a third of the CPU time of links";
    DRAIN_TIMEOUT = "drain_timeout", "DURATION", Some("5s"),
        "How long a stopping node lets requests finish";
    EXCHANGE_INTERVAL = "exchange_interval", "DURATION", Some("60s"),
        "How often each pair of nodes compares its copies and brings together what differs; 0s is \
         never";
    HINT_BYTES_MAX = "hint_bytes_max", "SIZE", Some("64MiB"),
        "Memory for keys of which another node missed a write, for each such node; what is over it an \
         exchange finds; 0 keeps none";
    HINT_AGE_MAX = "hint_age_max", "DURATION", Some("3h"),
        "Hints older than this are let go: an exchange finds what they would have brought";
    GUEST_BYTES_MAX = "guest_bytes_max", "SIZE", Some("256MiB"),
        "Records of +sloppy writes that the node holds in place of owners, until these have them; what is \
         over it is refused, and none is ever let go; 0 takes none";
    SCRUB_INTERVAL = "scrub_interval", "DURATION", Some("24h"),
        "How long one slow read of everything that the node holds takes, which finds what the disk \
         lost; 0s is never";
    BACKGROUND_RATE_MAX = "background_rate_max", "SIZE", Some("64MiB"),
        "What hints, exchanges, refills after a loss, purges and the slow read may handle together in a \
         second; more heals sooner and leaves clients less of disks and processors. At least 256KiB; below 2MiB \
         it is what they always may";
    BACKGROUND_LATENCY_TARGET = "background_latency_target", "DURATION", Some("100ms"),
        "They do less, down to 2MiB in a second, while more than one request of a hundred takes longer; 1ms to \
         10s. Raise it where nodes are so far apart that requests always do";
    PROFILE = "profile", "true|false", Some("false"),
        "Count the CPU time of each stage of the node's work, for /metrics; one batch in 64 of each \
         stage is timed";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_there_once() {
        let mut names: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
        assert!(
            names
                .iter()
                .all(|n| n.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        );
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), KEYS.len());
    }
}
