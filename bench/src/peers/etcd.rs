//! Three members of etcd, each with its data on disk and synced before it counts.
//!
//! The client speaks gRPC to all three in turns, as etcd's own clients do. Of its interface only
//! `Put` is needed (etcd API, `rpc.proto`), so its two messages are written here.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::process::{Process, free_ports};
use super::{POLL, Writer as AnyWriter};
use crate::clock::Clock;

/// What an acknowledged write is.
pub(super) const PROMISES: &str = "three copies, synced on two before the answer (Raft); \
                                   linearizable, all writes in one order, no encryption";

/// Largest database: a run must not meet the default of 2 GiB.
const DATABASE_BYTES_MAX: &str = "8589934592";

/// `etcdserverpb.PutRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

/// `etcdserverpb.PutResponse`, of which nothing is looked at.
#[derive(Clone, PartialEq, prost::Message)]
struct PutResponse {}

/// Connections to all members.
#[derive(Debug, Clone)]
pub(super) struct Writer(Channel);

impl Writer {
    pub(super) async fn put(&mut self, key: Bytes, value: Bytes) -> Result<()> {
        let mut client = tonic::client::Grpc::new(&mut self.0);
        client.ready().await?;
        let path = PathAndQuery::from_static("/etcdserverpb.KV/Put");
        let request = tonic::Request::new(PutRequest { key, value });
        let codec: ProstCodec<PutRequest, PutResponse> = ProstCodec::default();
        let answer = client.unary(request, path, codec).await;
        answer.context("etcd Put")?;
        Ok(())
    }
}

pub(super) async fn start(
    folder: &Path,
    clock: Clock,
    until: Duration,
) -> Result<Option<(Vec<Process>, AnyWriter)>> {
    let ports: [u16; 6] = free_ports()?;
    let members = ports.as_chunks::<2>().0;
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let names = (1..).zip(members);
    let cluster: Vec<String> = names
        .map(|(number, [_, peers])| format!("m{number}={}", url(*peers)))
        .collect();
    let mut processes = Vec::new();
    for (number, [clients, peers]) in (1..).zip(members) {
        let name = format!("m{number}");
        let args = [
            "--name",
            &name,
            "--data-dir",
            "data",
            "--listen-client-urls",
            &url(*clients),
            "--advertise-client-urls",
            &url(*clients),
            "--listen-peer-urls",
            &url(*peers),
            "--initial-advertise-peer-urls",
            &url(*peers),
            "--initial-cluster",
            &cluster.join(","),
            "--quota-backend-bytes",
            DATABASE_BYTES_MAX,
            "--log-level",
            "error",
        ]
        .map(str::to_owned);
        match Process::start("etcd", &args, &folder.join(&name))? {
            Some(process) => processes.push(process),
            None => return Ok(None),
        }
    }
    let endpoints = members.iter().map(|[clients, _]| url(*clients));
    let endpoints: Vec<Endpoint> = endpoints
        .map(Endpoint::from_shared)
        .collect::<Result<_, _>>()?;
    // Each member by itself: one that is not up yet would fail the first writes of a run.
    for endpoint in &endpoints {
        wait_for(endpoint, clock, until).await?;
    }
    let writer = Writer(Channel::balance_list(endpoints.into_iter()));
    Ok(Some((processes, AnyWriter::Etcd(writer))))
}

/// Until a member carries out a write.
async fn wait_for(endpoint: &Endpoint, clock: Clock, until: Duration) -> Result<()> {
    let mut writer = Writer(endpoint.connect_lazy());
    loop {
        let probe = writer.put(Bytes::from_static(b"probe"), Bytes::new());
        match tokio::time::timeout(POLL * 10, probe).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) if clock.now() >= until => {
                return Err(error).context("a member of etcd does not answer");
            }
            Err(_) if clock.now() >= until => bail!("a member of etcd does not answer in time"),
            Ok(Err(_)) | Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}
