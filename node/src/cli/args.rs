//! What can be typed: every command with its options, help and an example.
//!
//! Not here: what a command does; each has a file of its own.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use quorate_ring::Ttl;

use super::keyspace_arg::KeyspaceArg;
use super::level::LevelChoice;
use super::new_cluster::NodeArg;
use super::output::Format;
use super::ring::RingArgs;
use super::serve::ServeArgs;
use crate::config::units::parse_duration;

/// How a keyspace is asked for.
const KEYSPACE_FORM: &str = "NAME[,mode=M][,n=N][,durability=D][,r=LEVEL][,w=LEVEL][,ttl=TIME]";

/// A leaderless quorum key-value store: one binary for nodes, operators and users.
#[derive(Debug, Parser)]
#[command(
    name = "quorate",
    version,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = false,
    after_help = "Exit codes: 0 ok, 1 failed and not applied, 2 usage, 3 degraded, 4 deadline \
                  passed while waiting,\n5 outcome unknown, 6 refused by a safety check or a role, \
                  7 not found.\n\nExample:\n  quorate dev            # a cluster of three nodes \
                  on this machine\n  quorate put hello world && quorate get hello"
)]
pub(super) struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub(super) global: Global,
    /// The command.
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub(super) struct Global {
    /// Form of what is printed.
    #[arg(
        short = 'o',
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORM"
    )]
    pub(super) output: Format,
    /// How to reach the cluster [default: ./client.toml, then ./quorate-data/client.toml].
    #[arg(long, global = true, env = "QUORATE_CLIENT", value_name = "FILE")]
    pub(super) client: Option<PathBuf>,
}

/// Every command.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a cluster of real processes on this machine, in the foreground.
    Dev(DevArgs),
    /// Run one node.
    Serve(ServeArgs),
    /// Write a value; supersedes what is there.
    Put(PutArgs),
    /// Read a key.
    Get(GetArgs),
    /// Delete a key; supersedes what is there.
    Delete(DeleteArgs),
    /// Write every record of a file of JSON lines.
    Import(ImportArgs),
    /// Write the records of a keyspace or a range to a file of JSON lines, as import takes them.
    Export(ExportArgs),
    /// Read, write or delete many keys in one call; each has its own outcome.
    Multi(MultiArgs),
    /// Say whether all is well, or wait until it is (exit code 3 if not, 4 if it did not become
    /// so).
    Health(HealthArgs),
    /// Show the nodes, and whether they are up (exit code 3 if one is not).
    #[command(after_help = "Example:\n  quorate status -o json")]
    Status,
    /// Show where data lies, and what a change would move.
    Ring(RingArgs),
    /// Show the nodes that keep a key, and what each of them holds.
    Whereis(WhereisArgs),
    /// Print every record that one node holds, as JSON lines.
    DumpLocal(DumpLocalArgs),
    /// Read every record of the nodes' stores and say what is wrong (exit code 1 if anything is).
    Verify(VerifyArgs),
    /// Show which nodes missed writes, and where these wait for them.
    #[command(after_help = "Example:\n  quorate hints -o json")]
    Hints,
    /// Compare the nodes' copies and bring together what differs (exit code 1 if something is
    /// left).
    Repair(RepairArgs),
    /// Be a client on standard input and output: one JSON line per request and reply.
    Driver(DriverArgs),
    /// Print the records of a keyspace or a range in key order, as JSON lines.
    Scan(ScanArgs),
    /// Create a cluster.
    Cluster(ClusterArgs),
    /// Make and show certificates.
    Certs(CertsArgs),
    /// Check a node's configuration, or show it with where each value comes from.
    Config(ConfigArgs),
    /// Print a script by which a shell completes the words of this program.
    Completions(CompletionsArgs),
    /// Say what an error code means and what to do about it.
    Explain(ExplainArgs),
}

/// What every command on data takes.
#[derive(Debug, Clone, Args)]
pub(super) struct DataOptions {
    /// Keyspace of the keys.
    #[arg(long, default_value = "default", value_name = "NAME")]
    pub(super) keyspace: String,
    /// one, two, quorum, all, r=COUNT, w=COUNT or r=COUNT,w=COUNT; each with +sloppy, nodes that do
    /// not own the key stand in for owners that are down [default: the keyspace's, usually quorum].
    #[arg(long, value_name = "LEVEL")]
    pub(super) consistency: Option<LevelChoice>,
    /// Time for each operation, as 500ms, 2s or 1m.
    #[arg(long, default_value = "2s", value_name = "TIME", value_parser = parse_duration)]
    pub(super) deadline: Duration,
}

/// What every command takes that reads records in key order.
#[derive(Debug, Clone, Args)]
pub(super) struct ScanOptions {
    /// Keyspace of the keys.
    #[arg(long, default_value = "default", value_name = "NAME")]
    pub(super) keyspace: String,
    /// one, two, quorum, all or r=COUNT; only owners of the keys are asked, so there is no +sloppy
    /// [default: the keyspace's, usually quorum].
    #[arg(long, value_name = "LEVEL")]
    pub(super) consistency: Option<LevelChoice>,
    /// Time for each page, as 500ms, 2s or 1m.
    #[arg(long, default_value = "2s", value_name = "TIME", value_parser = parse_duration)]
    pub(super) deadline: Duration,
}

/// Arguments of `export`.
#[derive(Debug, Args)]
#[command(
    after_help = "Interrupted, the same command with --resume goes on where it stood.\n\nExample:\n  \
                        quorate export users.jsonl --prefix user/"
)]
pub(super) struct ExportArgs {
    /// The file to write.
    pub(super) file: PathBuf,
    /// Keys that begin with this, up to 1,024 bytes.
    #[arg(long)]
    pub(super) prefix: Option<OsString>,
    /// Go on where an interrupted export of the same range stood.
    #[arg(long)]
    pub(super) resume: bool,
    /// Keyspace, level, and deadline of each page.
    #[command(flatten)]
    pub(super) data: ScanOptions,
}

/// Arguments of `multi`.
#[derive(Debug, Args)]
#[command(subcommand_required = true)]
pub(super) struct MultiArgs {
    /// What is done.
    #[command(subcommand)]
    pub(super) command: MultiCommand,
}

/// What is done with many keys, at most 1,000 and each once.
#[derive(Debug, Subcommand)]
pub(super) enum MultiCommand {
    /// Read keys.
    #[command(after_help = "Example:\n  quorate multi get ann bob eve")]
    Get {
        /// The keys.
        #[arg(required = true)]
        keys: Vec<OsString>,
        /// Keyspace, level, deadline of all.
        #[command(flatten)]
        data: DataOptions,
    },
    /// Write values; each supersedes what its key holds.
    #[command(
        after_help = "Example:\n  quorate multi put ann 1 bob 2 photo @cat.jpg\n  \
                            quorate multi put s1 on s2 off --ttl 30m"
    )]
    Put {
        /// Keys and values in turn; a value may be @FILE, and one may be - for standard input.
        #[arg(required = true, num_args = 2.., value_name = "KEY VALUE",
              allow_negative_numbers = true)]
        pairs: Vec<OsString>,
        /// Keyspace, level, deadline of all.
        #[command(flatten)]
        data: DataOptions,
        /// Hide the values after this time, as 30s or 7d; 1 ms to ten years [default: the
        /// keyspace's].
        #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
        ttl: Option<Ttl>,
    },
    /// Delete keys.
    #[command(after_help = "Example:\n  quorate multi delete ann bob")]
    Delete {
        /// The keys.
        #[arg(required = true)]
        keys: Vec<OsString>,
        /// Keyspace, level, deadline of all.
        #[command(flatten)]
        data: DataOptions,
    },
}

/// Arguments of `health`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  quorate health --wait --timeout 30s && ./deploy")]
pub(super) struct HealthArgs {
    /// Wait until every node is up and counts for all its vnodes.
    #[arg(long)]
    pub(super) wait: bool,
    /// Longest wait.
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = parse_duration,
          requires = "wait")]
    pub(super) timeout: Duration,
}

/// Arguments of `config`.
#[derive(Debug, Args)]
#[command(subcommand_required = true)]
pub(super) struct ConfigArgs {
    /// What is done.
    #[command(subcommand)]
    pub(super) command: ConfigCommand,
}

/// What is done with a node's configuration.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Tell everything that is wrong with it (exit code 2 if anything is).
    #[command(after_help = "Example:\n  quorate config check --config mycluster/a/quorate.toml")]
    Check {
        /// The node's file.
        #[arg(
            long,
            env = "QUORATE_CONFIG",
            default_value = "quorate.toml",
            value_name = "FILE"
        )]
        config: PathBuf,
    },
    /// Print every key with the value that holds.
    #[command(after_help = "Example:\n  quorate config dump --origin -o json")]
    Dump {
        /// The node's file.
        #[arg(
            long,
            env = "QUORATE_CONFIG",
            default_value = "quorate.toml",
            value_name = "FILE"
        )]
        config: PathBuf,
        /// Tell where each value was said: in a variable, in the file, nowhere.
        #[arg(long)]
        origin: bool,
    },
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  quorate completions bash > /etc/bash_completion.d/quorate")]
pub(super) struct CompletionsArgs {
    /// The shell.
    pub(super) shell: clap_complete::Shell,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  quorate explain QUORUM_NOT_REACHED")]
pub(super) struct ExplainArgs {
    /// Name or number of the code; without it all codes are listed.
    pub(super) code: Option<String>,
}

/// Arguments of `put`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  quorate put greeting 'hello world'\n  \
                        quorate put photo @cat.jpg\n  date | quorate put now -\n  \
                        quorate put session 42 --ttl 30m")]
pub(super) struct PutArgs {
    /// The key, 1 to 1,024 bytes.
    pub(super) key: OsString,
    /// The value, - for standard input, or @FILE for a file's content; up to 1 MiB.
    #[arg(allow_negative_numbers = true)]
    pub(super) value: OsString,
    #[command(flatten)]
    /// Keyspace, level, deadline.
    pub(super) data: DataOptions,
    /// What the write has seen.
    #[command(flatten)]
    pub(super) seen: SeenOptions,
    /// Hide the value after this time, as 30s or 7d; 1 ms to ten years [default: the keyspace's].
    #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
    pub(super) ttl: Option<Ttl>,
}

fn parse_ttl(text: &str) -> Result<Ttl, String> {
    let duration = parse_duration(text).map_err(|e| e.to_string())?;
    Ttl::from_duration(duration).map_err(|e| e.to_string())
}

/// What a write has seen: by default what it reads first.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct SeenOptions {
    /// Do not read first: supersede nothing, become a sibling of what is there.
    #[arg(long)]
    pub(super) blind: bool,
    /// Supersede exactly what this context of a read or a write covers.
    #[arg(long, value_name = "TOKEN")]
    pub(super) context: Option<String>,
}

/// Arguments of `get`.
#[derive(Debug, Args)]
#[command(
    after_help = "One value is printed raw; several concurrent ones are numbered.\n\n\
                        Example:\n  quorate get greeting\n  quorate get greeting -o json"
)]
pub(super) struct GetArgs {
    /// The key.
    pub(super) key: OsString,
    /// Keyspace, level, deadline.
    #[command(flatten)]
    pub(super) data: DataOptions,
}

/// Arguments of `delete`.
#[derive(Debug, Args)]
#[command(
    after_help = "Deleting what is not there is done at once, and is 0.\n\n\
                        Example:\n  quorate delete greeting"
)]
pub(super) struct DeleteArgs {
    /// The key.
    pub(super) key: OsString,
    /// Keyspace, level, deadline.
    #[command(flatten)]
    pub(super) data: DataOptions,
    /// What the write has seen.
    #[command(flatten)]
    pub(super) seen: SeenOptions,
}

/// Arguments of `import`.
#[derive(Debug, Args)]
#[command(
    after_help = "A line is {\"key\":..,\"value\":..} or {\"key\":..,\"siblings\":[..]}; \
                        \"b64\":true says that values are\nbase64, \"kb64\":true that the key is. \
                        Each record supersedes what is there. Exits 0 only if every\nrecord was \
                        applied, 5 if any is unknown, else 1.\n\nExample:\n  \
                        quorate import packages.jsonl\n  quorate import packages.jsonl --resume"
)]
pub(super) struct ImportArgs {
    /// File of JSON lines; - for standard input.
    pub(super) file: PathBuf,
    /// Go on where an import of this file was interrupted.
    #[arg(long)]
    pub(super) resume: bool,
    /// Records under way at once, 1 to 1,024.
    #[arg(long, default_value_t = 64, value_name = "COUNT",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) in_flight: u16,
    /// Time for one record over all tries, as 90s.
    #[arg(long, default_value = "2m", value_name = "TIME", value_parser = parse_duration)]
    pub(super) patience: Duration,
    /// Keyspace, level, deadline.
    #[command(flatten)]
    pub(super) data: DataOptions,
}

/// Arguments of `whereis`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  quorate whereis greeting")]
pub(super) struct WhereisArgs {
    /// The key.
    pub(super) key: OsString,
    /// Keyspace of the key.
    #[arg(long, default_value = "default", value_name = "NAME")]
    pub(super) keyspace: String,
}

/// Arguments of `dump-local`.
#[derive(Debug, Args)]
#[command(
    after_help = "Lines are in the order of keyspace and key and name no node: owners that \
                        agree print the same bytes.\n\nExample:\n  \
                        quorate dump-local --node 1 > one.jsonl"
)]
pub(super) struct DumpLocalArgs {
    /// Id of the node.
    #[arg(long, value_name = "ID")]
    pub(super) node: String,
}

/// Arguments of `verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Every record is read, must be whole and in its place, and all of a bucket must \
                        add up to the digest\nthat the node keeps of it. Nodes go on serving; \
                        nothing is changed. Exit code 1 if anything is wrong.\n\nExample:\n  \
                        quorate verify --node 2 -o json"
)]
pub(super) struct VerifyArgs {
    /// Id of a node; may be given several times [default: every node].
    #[arg(long, value_name = "ID")]
    pub(super) node: Vec<String>,
    /// Records that are read per second at most.
    #[arg(long, value_name = "COUNT", default_value_t = 100_000,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) records_per_second: u64,
}

/// Arguments of `repair`.
#[derive(Debug, Args)]
#[command(
    after_help = "Nodes do the same by themselves every exchange_interval. Every pair of nodes is compared; a key \
                        that differs on\nseveral pairs is told for each that was compared before it was \
                        healed. Bytes are those of the records that differ, of\nboth copies. With --dry-run \
                        exit code 1 says that copies differ.\n\nExample:\n  quorate repair --dry-run -o json"
)]
pub(super) struct RepairArgs {
    /// Count keys that differ, and change nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Only pairs with this node; may be given several times [default: every node].
    #[arg(long, value_name = "ID")]
    pub(super) node: Vec<String>,
}

/// Arguments of `scan`.
#[derive(Debug, Args)]
#[command(
    after_help = "A line is {\"key\":..,\"value\":..} or {\"key\":..,\"siblings\":[..]}, as import \
                        takes it. Interrupted, it tells\nhow to go on; the range must be the same \
                        then.\n\nExample:\n  quorate scan --prefix user/ --limit 100"
)]
pub(super) struct ScanArgs {
    /// Keys that begin with this, up to 1,024 bytes.
    #[arg(long, conflicts_with_all = ["start", "end"])]
    pub(super) prefix: Option<OsString>,
    /// Keys from this one on.
    #[arg(long, value_name = "KEY")]
    pub(super) start: Option<OsString>,
    /// Keys before this one.
    #[arg(long, value_name = "KEY")]
    pub(super) end: Option<OsString>,
    /// Most records.
    #[arg(long, value_name = "COUNT")]
    pub(super) limit: Option<u64>,
    /// Go on where an interrupted scan of the same range stood.
    #[arg(long, value_name = "TOKEN")]
    pub(super) resume: Option<String>,
    /// Keyspace, level, and deadline of each page.
    #[command(flatten)]
    pub(super) data: ScanOptions,
}

/// Arguments of `driver`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  echo \
                        '{\"id\":1,\"f\":\"put\",\"k\":\"a\",\"v\":\"x\"}' | quorate driver\n\n\
                        Functions are get, put, del and batch, whose `items` are of the first \
                        three.")]
pub(super) struct DriverArgs {
    /// Keyspace, level and deadline of requests that name none.
    #[command(flatten)]
    pub(super) data: DataOptions,
}

/// Arguments of `dev`.
#[derive(Debug, Args)]
#[command(
    after_help = "Ctrl-C stops the cluster; the same --data-dir comes back with its data. \
                        A node that is killed\nstays down until it is started by hand.\n\n\
                        Example:\n  quorate dev --nodes 5 --data-dir /tmp/five --keyspace \
                        cache,mode=lww,ttl=1h"
)]
pub(super) struct DevArgs {
    /// Number of nodes, 1 to 99 [default: 3, or what the directory has].
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=99))]
    pub(super) nodes: Option<u16>,
    /// Folder of the cluster; made if it does not exist.
    #[arg(long, default_value = "./quorate-data", value_name = "DIR")]
    pub(super) data_dir: PathBuf,
    /// Node i listens on this + i [default: 7400, or what the directory has].
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) base_port: Option<u16>,
    /// A keyspace beside `default` (siblings) and `lww` (lww), or one of these with other options;
    /// a directory keeps the keyspaces that it was created with.
    #[arg(long = "keyspace", value_name = KEYSPACE_FORM)]
    pub(super) keyspaces: Vec<KeyspaceArg>,
}

/// Arguments of `cluster`.
#[derive(Debug, Args)]
pub(super) struct ClusterArgs {
    /// What to do.
    #[command(subcommand)]
    pub(super) command: ClusterCommand,
}

/// Commands on a cluster.
#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// Write everything that a new cluster needs: one folder per node, and a client's files.
    Create(ClusterCreateArgs),
    /// Declare that disks of nodes are gone for good, so that nothing waits for what only they
    /// held.
    Recover(ClusterRecoverArgs),
}

/// Arguments of `cluster recover`.
#[derive(Debug, Args)]
#[command(
    after_help = "A node that lost what it had acknowledged counts again once its co-replicas gave it \
                        back. If one of those\nwill not come back with its disk, say so: the others go on \
                        with what there is. What only lost disks held\nis lost; `quorate status` tells \
                        where that may be so. Name a node that is up with an empty disk to give up\nwhat \
                        nobody else has a copy of (N=1). A node that is up and lacks nothing is refused \
                        (exit code 6).\nExit code 3: not all nodes were told.\n\nExample:\n  quorate \
                        cluster recover --lost c\n  quorate cluster recover --accept a"
)]
pub(super) struct ClusterRecoverArgs {
    /// The node whose disk is gone; several may be given.
    #[arg(
        long,
        required_unless_present = "accept",
        conflicts_with = "accept",
        num_args = 1..,
        value_name = "NODE"
    )]
    pub(super) lost: Vec<String>,

    /// The node of which `status` says that something may be lost, once you know: it says so no
    /// more.
    #[arg(long, num_args = 1.., value_name = "NODE")]
    pub(super) accept: Vec<String>,
}

/// Arguments of `cluster create`.
#[derive(Debug, Args)]
#[command(
    after_help = "Copy each node's folder to its machine and run `quorate serve --config \
                        FOLDER/quorate.toml` there.\n\nExample:\n  quorate cluster create --out \
                        mycluster \\\n    --node a=10.0.0.1:7400 --node b=10.0.0.2:7400 --node \
                        c=10.0.0.3:7400,weight=2,zone=z2 \\\n    --keyspace default \
                        --keyspace users,n=2 --keyspace cache,mode=lww,ttl=1h"
)]
pub(super) struct ClusterCreateArgs {
    /// A node: its id, where others reach it, and perhaps its weight and zone.
    #[arg(
        long = "node",
        required = true,
        value_name = "ID=HOST:PORT[,weight=W][,zone=Z]"
    )]
    pub(super) nodes: Vec<NodeArg>,
    /// A keyspace [default: one named default]. Mode is siblings or lww, durability disk or memory;
    /// r and w are the levels of operations that name none. N is min(3, nodes) unless given.
    #[arg(long = "keyspace", value_name = KEYSPACE_FORM)]
    pub(super) keyspaces: Vec<KeyspaceArg>,
    /// Parts of the ring, a power of two up to 32768; never changed later.
    #[arg(long, default_value_t = 256, value_name = "COUNT")]
    pub(super) vnodes: u32,
    /// Folder to make; it must not exist or be empty.
    #[arg(long, value_name = "DIR")]
    pub(super) out: PathBuf,
}

/// Arguments of `certs`.
#[derive(Debug, Args)]
pub(super) struct CertsArgs {
    /// What to do.
    #[command(subcommand)]
    pub(super) command: CertsCommand,
}

/// Commands on certificates.
#[derive(Debug, Subcommand)]
pub(super) enum CertsCommand {
    /// Make a client certificate and a client.toml that uses it.
    #[command(
        after_help = "Example:\n  quorate certs client --role data --dir mycluster --out \
                            app1"
    )]
    Client(CertsClientArgs),
    /// Show subject, role and validity of certificates.
    #[command(after_help = "Example:\n  quorate certs show mycluster/client.crt")]
    Show(CertsShowArgs),
}

/// Arguments of `certs client`.
#[derive(Debug, Args)]
pub(super) struct CertsClientArgs {
    /// What the certificate allows.
    #[arg(long, value_enum)]
    pub(super) role: RoleArg,
    /// Name in the certificate.
    #[arg(long, default_value = "client", value_name = "NAME")]
    pub(super) name: String,
    /// Folder of the cluster, as `cluster create` or `dev` made it
    /// [default: the folder of the client file].
    #[arg(long, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
    /// Folder to make, for client.toml, certificate and key.
    #[arg(long, value_name = "DIR")]
    pub(super) out: PathBuf,
}

/// Arguments of `certs show`.
#[derive(Debug, Args)]
pub(super) struct CertsShowArgs {
    /// Certificates in PEM [default: the one of the client file].
    #[arg(value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
}

/// What a client's certificate allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RoleArg {
    /// Reading and writing.
    Data,
    /// Everything.
    Admin,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        fn check(command: &clap::Command) {
            if command.has_subcommands() {
                command.get_subcommands().for_each(check);
            } else {
                let help = command.get_after_help().map(ToString::to_string);
                let shown = help.unwrap_or_default().contains("Example:");
                assert!(shown, "{} has no example", command.get_name());
            }
        }
        check(&Cli::command());
    }
}
