//! The catalogue of metrics: every name with its kind, unit, labels and help.

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; 0 at the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations by size.
    Histogram,
}

/// One metric. Every one also has the label `node`.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// Unit of its value.
    pub unit: &'static str,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// Meaning, and when to worry.
    pub help: &'static str,
}

const fn metric(
    kind: Kind,
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind,
        unit,
        labels,
        help,
    }
}

const fn count(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    metric(Kind::Counter, name, unit, &[], help)
}

const fn gauge(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    metric(Kind::Gauge, name, unit, &[], help)
}

/// Every metric of a node.
#[rustfmt::skip]
pub const CATALOGUE: &[Metric] = &[
    metric(Kind::Gauge, "quorate_build_info", "1", &["version"], "Always 1; the label names the release"),
    metric(Kind::Counter, "quorate_requests_total", "requests", &["op", "outcome"], "Requests of clients that ended here, by outcome; worry when outcome=unknown grows"),
    metric(Kind::Histogram, "quorate_request_seconds", "seconds", &["op"], "Time from a request's arrival to its answer"),
    count("quorate_requests_forwarded_total", "requests", "Requests handed to an owner of the key; clients that know the ring cause few"),
    count("quorate_requests_shed_total", "requests", "Requests refused because too much is in flight; worry above 1 percent of requests"),
    count("quorate_messages_expired_total", "messages", "Work dropped because its deadline had passed"),
    count("quorate_hints_wanted_total", "hints", "Writes that a primary missed; worry when it grows while every node is up"),
    count("quorate_hints_delivered_total", "hints", "Records that were brought to a node that had missed a write of them"),
    count("quorate_guests_taken_total", "records", "Records of sloppy writes that this node took in place of an owner"),
    count("quorate_guests_delivered_total", "records", "Such records that an owner has from here"),
    count("quorate_guests_refused_total", "records", "Such records that found no room under guest_bytes_max; worry when it grows"),
    count("quorate_guests_outdated_total", "records", "Such records from before a purge, which an earlier life of this node had handed over; worry above 0: a disk was replaced by an old copy"),
    count("quorate_read_repairs_total", "records", "Stale replicas that a read repaired"),
    count("quorate_duplicate_attempts_total", "requests", "Attempts recognised by their op id"),
    count("quorate_sibling_reads_total", "reads", "Reads that found concurrent values; worry when it grows with all reads"),
    count("quorate_reads_widened_total", "reads", "Reads that asked further replicas because the first were slow or did not count"),
    count("quorate_exchanges_total", "exchanges", "Comparisons with a co-replica that this node began and completed"),
    count("quorate_exchanges_failed_total", "exchanges", "Comparisons that ended before they were complete; worry when it grows while every node is up"),
    count("quorate_exchange_keys_healed_total", "keys", "Keys on which copies differed and that all owners that are up hold alike now"),
    count("quorate_scrubbed_vnodes_total", "vnodes", "Copies of vnodes that the slow read has read; scrub_interval is the time for all of them"),
    count("quorate_scrub_faults_total", "faults", "Records or sums that the slow read found wrong; worry when it is not 0"),
    count("quorate_purged_total", "keys", "Deleted keys of which this node dropped the last trace, because no owner holds anything older"),
    count("quorate_pruned_total", "records", "Records of keys that stay from which this node left out what no owner needs any more: entries of ended lives, and operations tried more than once"),
    count("quorate_purge_rounds_total", "rounds", "Purge rounds that this node led to their end"),
    count("quorate_purge_rounds_failed_total", "rounds", "Purge rounds that this node led and gave up, because an owner went away or was slow; worry when it grows while every node is up"),
    count("quorate_below_floor_total", "records", "Records refused because they are from before a purge; worry when it keeps growing"),
    count("quorate_exchange_keys_failed_total", "keys", "Keys on which copies differ and that could not be read from all owners that are up"),
    count("quorate_writes_looked_further_total", "writes", "Writes after writes that their coordinator did not know, which it found at other owners first"),
    count("quorate_sends_refused_total", "batches", "Batches of messages to a node that found no connection or a full queue"),
    count("quorate_engine_loads_total", "records", "Records loaded from the engine because memory did not have them"),
    count("quorate_engine_loads_spared_total", "records", "Records not loaded because memory had their digests, which was enough"),
    count("quorate_peer_messages_refused_total", "messages", "Messages of nodes that could not be used; worry above 0"),
    count("quorate_frames_refused_total", "frames", "Frames that could not be read; their stream or connection was closed"),
    count("quorate_handshakes_refused_total", "connections", "TLS handshakes that failed or named nobody who may connect"),
    count("quorate_streams_not_opened_total", "connections", "Connections of clients that did not open their streams in time"),
    count("quorate_slow_readers_total", "connections", "Connections closed because the client did not read its answers"),
    count("quorate_requests_unknown_total", "requests", "Requests of a kind that this release does not know"),
    count("quorate_requests_shed_at_edge_total", "requests", "Requests refused before they reached the shard, because one connection or the node had too many"),
    count("quorate_log_syncs_total", "syncs", "Syncs of the log"),
    metric(Kind::Histogram, "quorate_log_sync_seconds", "seconds", &[], "Time of one write and sync of the log; worry above 0.1"),
    metric(Kind::Histogram, "quorate_log_batch_frames", "frames", &[], "Frames that one sync made durable"),
    count("quorate_log_written_bytes_total", "bytes", "Bytes written to the log"),
    gauge("quorate_ready", "bool", "1 once the node listens and has replayed its log"),
    gauge("quorate_vnodes_owned", "vnodes", "Vnodes of which the node owns a copy, over all keyspaces' N"),
    gauge("quorate_vnodes_counting", "vnodes", "Owned vnodes for which the node counts; worry when below owned for long"),
    gauge("quorate_hints", "hints", "Keys that wait for nodes that missed a write of them; worry when it does not fall while every node is up"),
    gauge("quorate_hint_bytes", "bytes", "Memory that they take; hint_bytes_max bounds it for each node that is away"),
    gauge("quorate_hints_let_go", "hints", "Keys that were let go since the start because of a bound; exchanges find them"),
    gauge("quorate_guests", "records", "Records of sloppy writes held in place of owners; worry when it does not fall while every node is up"),
    gauge("quorate_guest_bytes", "bytes", "What they take, about; over guest_bytes_max no more are taken"),
    gauge("quorate_copies_lacking", "copies", "Copies, one per keyspace and vnode, for which the node does not count because it may lack acknowledged writes; worry when it does not fall while every node is up"),
    gauge("quorate_purge_waiting", "keys", "Deleted keys that wait to be purged, of the vnodes whose rounds this node leads"),
    gauge("quorate_purge_oldest_seconds", "seconds", "How long the oldest of them has waited; worry when it is over ten minutes while every node is up"),
    gauge("quorate_purge_blocked_by", "nodes", "Nodes that are down and without which deleted keys cannot be purged"),
    gauge("quorate_background_rate", "bytes", "Bytes, with a fixed part for each record, that hints, exchanges, refills, purges and the slow read may handle together in a second; falls to 2 MiB while clients wait longer than background_latency_target"),
    gauge("quorate_background_forgiven_bytes", "bytes", "Bytes that they handled since the start over the bound of a debt, and that nothing waits for; worry when it keeps growing"),
    metric(Kind::Gauge, "quorate_background_waiting", "bool", &["kind"], "1 where work of this kind had to wait for that within the last second"),
    metric(Kind::Counter, "quorate_background_bytes_total", "bytes", &["kind"], "Bytes, with a fixed part for each record, that this kind of work handled"),
    gauge("quorate_scrub_age_seconds", "seconds", "Since the last full pass of the slow read began, or since the start; worry when it is over three times scrub_interval"),
    gauge("quorate_exchange_age_seconds", "seconds", "Since the copies of a pair of nodes that this one compares were last compared, the oldest pair; worry when it is over three times exchange_interval while every node is up"),
    gauge("quorate_peers_up", "nodes", "Other nodes heard from within the last second"),
    gauge("quorate_peers", "nodes", "Other nodes of the topology"),
    gauge("quorate_requests_in_flight", "requests", "Requests of clients under way"),
    gauge("quorate_durable_lsn", "frames", "Newest durable LSN of the log"),
    gauge("quorate_applied_lsn", "frames", "LSN up to which the engine holds everything; worry when it stops rising under writes"),
    gauge("quorate_table_records", "records", "Records that the engine does not have yet"),
    gauge("quorate_table_bytes", "bytes", "Bytes of these records"),
    gauge("quorate_cache_bytes", "bytes", "Bytes of cached records"),
    gauge("quorate_log_bytes", "bytes", "Bytes of log segments that are still needed"),
    gauge("quorate_engine_backlog", "runs", "Work that the engine has left before it is at rest"),
    metric(Kind::Gauge, "quorate_keyspace_keys", "keys", &["keyspace"], "Keys with a value that the node holds; divided by N, the keys of a keyspace are the sum over all nodes"),
    metric(Kind::Gauge, "quorate_keyspace_tombstones", "keys", &["keyspace"], "Deleted keys of which the node still holds the tombstone; worry when it only grows"),
    metric(Kind::Gauge, "quorate_keyspace_bytes", "bytes", &["keyspace"], "Bytes of keys and records that the node holds, before compression"),
    gauge("quorate_disk_free_bytes", "bytes", "Free bytes of the store's file system; writes stop below `disk_free_percent_min`"),
    gauge("quorate_disk_full", "bool", "1 while the store's file system has less free space than it must have: no writes are taken"),
    gauge("quorate_copies_in_doubt", "copies", "Copies that count again although something that was acknowledged may be lost of them"),
    gauge("quorate_disk_total_bytes", "bytes", "Size of the store's file system"),
    metric(Kind::Counter, "quorate_thread_cpu_seconds_total", "seconds", &["thread"], "CPU time by thread; those of one name together, those that ended as `ended`"),
    metric(Kind::Counter, "quorate_stage_seconds_total", "seconds", &["stage"], "CPU time by stage of the work, in all that of the process; estimated from samples, and only with profile = true, for the stages of the runtime's thread"),
    metric(Kind::Counter, "quorate_stage_items_total", "items", &["stage"], "Items that each stage handled, such as messages, frames or records; 0 unless profile = true"),
    gauge("quorate_uptime_seconds", "seconds", "Time since the node started"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        for metric in CATALOGUE {
            let name = metric.name;
            assert!(name.starts_with("quorate_"), "{name}");
            assert_eq!(
                name.ends_with("_total"),
                metric.kind == Kind::Counter,
                "{name}"
            );
            assert!(
                !metric.help.ends_with('.') && !metric.unit.is_empty(),
                "{name}"
            );
        }
    }
}
