//! The configuration of one node: typed and checked, so that the rest can trust it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_ring::{NodeId, NodeName};

use super::cluster_file::ClusterFile;
use super::keys::{self, Key};
use super::layers::{Layers, Origin, Said};
use super::secrets::ClusterSecrets;
use super::units::{parse_duration, parse_size};
use super::{ConfigError, HTTP_PORT_OFFSET};

/// A shorter target every request would miss, and work in the background would stay at its floor.
const LATENCY_TARGET_MIN: Duration = Duration::from_millis(1);
/// Clients have given up long before: a longer target would never be missed.
const LATENCY_TARGET_MAX: Duration = Duration::from_secs(10);

/// Everything that a node must know to start.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Its name.
    pub name: NodeName,
    /// Its number in the topology.
    pub id: NodeId,
    /// Nodes and keyspaces, with this node among them.
    pub cluster: ClusterFile,
    /// Keys that the cluster shares.
    pub secrets: ClusterSecrets,
    /// Folder of the configuration file; `pid` is written there.
    pub folder: PathBuf,
    /// Folder of the store.
    pub data_dir: PathBuf,
    /// Where QUIC is listened on.
    pub listen: SocketAddr,
    /// Where others reach the node: HOST:PORT.
    pub advertise: String,
    /// Where HTTP is listened on.
    pub http_listen: SocketAddr,
    /// Folder of the node's certificate and key and of both authorities.
    pub tls_dir: PathBuf,
    /// Bounds of what the node takes.
    pub limits: Limits,
    /// What is logged, and how.
    pub log: LogConfig,
    /// Whether the CPU time of each stage is counted.
    pub profile: bool,
    /// How often each pair of nodes compares its copies; `None` = never.
    pub exchange_interval: Option<Duration>,
    /// How long one slow read of everything takes; `None` = it is never read.
    pub scrub_interval: Option<Duration>,
}

/// Bounds of what the node takes. What raising each costs is in the catalogue ([`super::KEYS`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of records that the engine does not have yet; 1 MiB or more.
    pub table_bytes: u64,
    /// Bytes of cached records.
    pub cache_bytes: u64,
    /// Bytes of digests of records that left the cache; at most 64 GiB.
    pub digest_cache_bytes: u64,
    /// Bytes of one log segment, a multiple of 4 KiB; 4 MiB to 1 GiB.
    pub segment_bytes: u64,
    /// Bytes of all log segments; at least two segments.
    pub log_bytes_max: u64,
    /// Requests of clients under way.
    pub requests_in_flight_max: usize,
    /// Bytes of these requests.
    pub request_bytes_in_flight_max: u64,
    /// Connections of clients.
    pub connections_max: usize,
    /// Percent of free disk space below which writes are refused; 0 to 50.
    pub disk_free_percent_min: u8,
    /// Largest datagram that path discovery may reach, in bytes; 1,200 to 6,500. `None` lets each
    /// link choose.
    pub mtu_bytes_max: Option<u16>,
    /// How long a stopping node lets requests finish.
    pub drain_timeout: Duration,
    /// Memory for keys of which another node missed a write, for each such node.
    pub hint_bytes_max: u64,
    /// Hints older than this are let go.
    pub hint_age_max: Duration,
    /// Records of sloppy writes that are held in place of owners, in bytes; over it no more are
    /// taken.
    pub guest_bytes_max: u64,
    /// What work in the background may handle in a second; 256 KiB or more.
    pub background_rate_max: u64,
    /// It does less while more than one request of a hundred takes longer.
    pub background_latency_target: Duration,
}

/// What is logged, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// Least severity.
    pub level: tracing::Level,
    /// Form of a line.
    pub format: LogFormat,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl NodeConfig {
    /// Reads the file at `path` under `variables` and `flags`, and all files that it names except
    /// certificates.
    ///
    /// # Errors
    /// [`ConfigError`] says which key, where it was said, and why it cannot be.
    pub fn load(
        path: &Path,
        variables: &BTreeMap<String, String>,
        flags: &BTreeMap<&'static str, String>,
    ) -> Result<Self, ConfigError> {
        let layers = Layers::join(path, variables, flags)?;
        let folder = match path.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            Some(_) | None => PathBuf::from("."),
        };
        Typed { layers, folder }.node()
    }
}

/// Turns text into values.
struct Typed {
    layers: Layers,
    folder: PathBuf,
}

impl Typed {
    fn node(self) -> Result<NodeConfig, ConfigError> {
        let name = self.required(&keys::NODE)?;
        let name: NodeName = parsed(&keys::NODE, &name, |text| text.parse())?;
        let cluster_path = self.path(&keys::CLUSTER_FILE)?;
        let cluster = ClusterFile::load(&cluster_path)?;
        let secrets = ClusterSecrets::load(&self.path(&keys::SECRETS_FILE)?)?;
        let Some(own) = cluster.topology.node_named(name.as_str()) else {
            return Err(ConfigError::ForeignNode {
                node: name,
                path: cluster_path,
            });
        };
        let id = own.id;
        let advertise = self.layers.of(&keys::ADVERTISE);
        let advertise = advertise.map_or_else(|| own.address.clone(), |said| said.value);
        let listen = self.listen(&advertise)?;
        Ok(NodeConfig {
            id,
            http_listen: self.http_listen(listen)?,
            data_dir: self.path(&keys::DATA_DIR)?,
            tls_dir: self.path(&keys::TLS_DIR)?,
            limits: self.limits()?,
            log: self.log()?,
            profile: self.truth(&keys::PROFILE)?,
            exchange_interval: Some(self.duration(&keys::EXCHANGE_INTERVAL)?)
                .filter(|interval| !interval.is_zero()),
            scrub_interval: Some(self.duration(&keys::SCRUB_INTERVAL)?)
                .filter(|interval| !interval.is_zero()),
            folder: self.folder,
            name,
            cluster,
            secrets,
            listen,
            advertise,
        })
    }

    fn listen(&self, advertise: &str) -> Result<SocketAddr, ConfigError> {
        if let Some(said) = self.layers.of(&keys::LISTEN) {
            return parsed(&keys::LISTEN, &said, parse_listen);
        }
        let origin = self.layers.of(&keys::ADVERTISE).map(|said| said.origin);
        let said = Said {
            value: advertise.to_owned(),
            origin: origin.unwrap_or(Origin::Default),
        };
        parsed(&keys::ADVERTISE, &said, listen_of)
    }

    fn http_listen(&self, listen: SocketAddr) -> Result<SocketAddr, ConfigError> {
        if let Some(said) = self.layers.of(&keys::HTTP_LISTEN) {
            return parsed(&keys::HTTP_LISTEN, &said, parse_listen);
        }
        let port = listen.port().checked_add(HTTP_PORT_OFFSET);
        let port = port.ok_or(ConfigError::PortRange {
            port: listen.port(),
        })?;
        Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
    }

    fn limits(&self) -> Result<Limits, ConfigError> {
        let limits = Limits {
            table_bytes: self.size(&keys::TABLE_BYTES, 1 << 20, u64::MAX)?,
            cache_bytes: self.size(&keys::CACHE_BYTES, 0, u64::MAX)?,
            digest_cache_bytes: self.size(&keys::DIGEST_CACHE_BYTES, 0, 64 << 30)?,
            segment_bytes: self.size(&keys::SEGMENT_BYTES, 4 << 20, 1 << 30)?,
            log_bytes_max: self.size(&keys::LOG_BYTES_MAX, 0, u64::MAX)?,
            requests_in_flight_max: self.count(&keys::REQUESTS_IN_FLIGHT_MAX, 1, 1_000_000)?,
            request_bytes_in_flight_max: self.size(
                &keys::REQUEST_BYTES_IN_FLIGHT_MAX,
                8 << 20,
                u64::MAX,
            )?,
            connections_max: self.count(&keys::CONNECTIONS_MAX, 1, 1_000_000)?,
            disk_free_percent_min: self.count(&keys::DISK_FREE_PERCENT_MIN, 0, 50)?,
            mtu_bytes_max: match self.layers.of(&keys::MTU_BYTES_MAX) {
                Some(_) => Some(self.count(&keys::MTU_BYTES_MAX, 1200, 6500)?),
                None => None,
            },
            drain_timeout: self.duration(&keys::DRAIN_TIMEOUT)?,
            hint_bytes_max: self.size(&keys::HINT_BYTES_MAX, 0, u64::MAX)?,
            hint_age_max: self.duration(&keys::HINT_AGE_MAX)?,
            guest_bytes_max: self.size(&keys::GUEST_BYTES_MAX, 0, u64::MAX)?,
            background_rate_max: self.size(&keys::BACKGROUND_RATE_MAX, 256 << 10, 1 << 40)?,
            background_latency_target: self.duration_in(
                &keys::BACKGROUND_LATENCY_TARGET,
                LATENCY_TARGET_MIN..=LATENCY_TARGET_MAX,
            )?,
        };
        if !limits.segment_bytes.is_multiple_of(4096) {
            return Err(self.invalid(&keys::SEGMENT_BYTES, "it must be a multiple of 4KiB"));
        }
        if limits.log_bytes_max / 2 < limits.segment_bytes {
            return Err(self.invalid(&keys::LOG_BYTES_MAX, "it must hold two segments or more"));
        }
        Ok(limits)
    }

    fn log(&self) -> Result<LogConfig, ConfigError> {
        let level = self.required(&keys::LOG_LEVEL)?;
        let format = self.required(&keys::LOG_FORMAT)?;
        Ok(LogConfig {
            level: parsed(&keys::LOG_LEVEL, &level, |text| match text {
                "error" => Ok(tracing::Level::ERROR),
                "warn" => Ok(tracing::Level::WARN),
                "info" => Ok(tracing::Level::INFO),
                "debug" => Ok(tracing::Level::DEBUG),
                "trace" => Ok(tracing::Level::TRACE),
                _ => Err("use error, warn, info, debug or trace"),
            })?,
            format: parsed(&keys::LOG_FORMAT, &format, |text| match text {
                "text" => Ok(LogFormat::Text),
                "json" => Ok(LogFormat::Json),
                _ => Err("use text or json"),
            })?,
        })
    }

    fn required(&self, key: &Key) -> Result<Said, ConfigError> {
        self.layers
            .of(key)
            .ok_or(ConfigError::Missing { key: key.name })
    }

    /// A path of the file or a default starts at the file's folder.
    fn path(&self, key: &Key) -> Result<PathBuf, ConfigError> {
        let said = self.required(key)?;
        if said.value.is_empty() {
            return Err(self.invalid(key, "a path cannot be empty"));
        }
        Ok(match said.origin {
            Origin::File(_) | Origin::Default => self.folder.join(said.value),
            Origin::Flag | Origin::Variable => PathBuf::from(said.value),
        })
    }

    fn size(&self, key: &Key, least: u64, most: u64) -> Result<u64, ConfigError> {
        let said = self.required(key)?;
        let bytes = parsed(key, &said, parse_size)?;
        if bytes < least {
            return Err(self.invalid(key, &format!("it must be at least {least} bytes")));
        }
        if bytes > most {
            return Err(self.invalid(key, &format!("it must be at most {most} bytes")));
        }
        Ok(bytes)
    }

    fn count<T: TryFrom<u64>>(&self, key: &Key, least: u64, most: u64) -> Result<T, ConfigError> {
        let said = self.required(key)?;
        let range = || self.invalid(key, &format!("it must be a number from {least} to {most}"));
        let count: u64 = said.value.parse().map_err(|_| range())?;
        if !(least..=most).contains(&count) {
            return Err(range());
        }
        T::try_from(count).map_err(|_| range())
    }

    fn truth(&self, key: &Key) -> Result<bool, ConfigError> {
        let said = self.required(key)?;
        parsed(key, &said, |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("use true or false"),
        })
    }

    fn duration(&self, key: &Key) -> Result<Duration, ConfigError> {
        let said = self.required(key)?;
        parsed(key, &said, parse_duration)
    }

    fn duration_in(
        &self,
        key: &Key,
        range: RangeInclusive<Duration>,
    ) -> Result<Duration, ConfigError> {
        let duration = self.duration(key)?;
        if range.contains(&duration) {
            return Ok(duration);
        }
        let value = self.required(key)?.value;
        let (least, most) = (range.start(), range.end());
        Err(self.invalid(
            key,
            &format!("`{value}` is out of range; it must be from {least:?} to {most:?}"),
        ))
    }

    fn invalid(&self, key: &Key, reason: &str) -> ConfigError {
        let origin = self.layers.of(key).map(|said| said.origin);
        ConfigError::Invalid {
            key: key.name,
            origin: origin.unwrap_or(Origin::Default),
            reason: reason.to_owned(),
        }
    }
}

fn parsed<T, E: ToString>(
    key: &Key,
    said: &Said,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, ConfigError> {
    parse(&said.value).map_err(|reason| ConfigError::Invalid {
        key: key.name,
        origin: said.origin.clone(),
        reason: reason.to_string(),
    })
}

fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text
        .parse()
        .map_err(|_| format!("`{text}` is not IP:PORT, as in 127.0.0.1:7401"))?;
    if address.port() == 0 {
        return Err("port 0 is no port; use 1 to 65535".to_owned());
    }
    Ok(address)
}

/// The address to listen on for one that is advertised: itself if it is an IP address, else all.
///
/// # Errors
/// A sentence if `advertise` is not HOST:PORT with a port from 1 to 65,535.
pub fn listen_of(advertise: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = advertise.parse::<SocketAddr>() {
        return parse_listen(&address.to_string());
    }
    let (host, port) = advertise.rsplit_once(':').unwrap_or((advertise, ""));
    match port.parse::<u16>() {
        Ok(port) if port > 0 && !host.is_empty() => {
            Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port))
        }
        Ok(_) | Err(_) => Err(format!(
            "`{advertise}` is not HOST:PORT with a port from 1 to 65535"
        )),
    }
}
