//! One Redis with an append-only file that is synced before each answer.
//!
//! The client is one connection into which all writers pipeline: Redis then takes many commands
//! per turn and syncs once for them, which is its best case.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;

use super::process::{Process, free_ports};
use super::{POLL, Writer as AnyWriter};
use crate::clock::Clock;

/// What an acknowledged write is.
pub(super) const PROMISES: &str =
    "one copy, synced before the answer (appendfsync always); no replica, no encryption";

/// Commands that may wait for the connection, more than any run has in flight.
const PIPELINE: usize = 8_192;

/// A connection.
#[derive(Clone)]
pub(super) struct Writer(MultiplexedConnection);

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    pub(super) async fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut set = redis::cmd("SET");
        set.arg(key).arg(value);
        set.exec_async(&mut self.0).await.context("redis SET")
    }
}

pub(super) async fn start(
    folder: &Path,
    clock: Clock,
    until: Duration,
) -> Result<Option<(Vec<Process>, AnyWriter)>> {
    let [port] = free_ports()?;
    let args = [
        "--bind",
        "127.0.0.1",
        "--port",
        &port.to_string(),
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
        // Nothing but the log: snapshots and rewrites would cost extra.
        "--save",
        "",
        "--auto-aof-rewrite-percentage",
        "0",
    ]
    .map(str::to_owned);
    let Some(process) = Process::start("redis-server", &args, folder)? else {
        return Ok(None);
    };
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/"))?;
    let config = AsyncConnectionConfig::new()
        .set_pipeline_buffer_size(PIPELINE)
        .set_response_timeout(Some(Duration::from_secs(30)));
    loop {
        let connected = client
            .get_multiplexed_async_connection_with_config(&config)
            .await;
        match connected {
            Ok(connection) => {
                let writer = AnyWriter::Redis(Writer(connection));
                return Ok(Some((vec![process], writer)));
            }
            Err(error) if clock.now() >= until => {
                return Err(error).context("redis-server does not answer");
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}
