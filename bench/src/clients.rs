//! Many clients of one cluster in this process, each with connections of its own to every node.
//!
//! They stand for many processes of a service: what they share is this process' thread. All
//! connections are made before anything is measured, because the SDK makes one only when it is
//! needed, and a client with one operation under way would need but one.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use quorate_client::config::ClientConfig;
use quorate_client::{Client, Keyspace};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::JoinSet;

/// Clients that make their connections at once: handshakes cost more than requests.
const CONNECTING_MAX: u32 = 16;

/// Clients that take turns; at least one.
#[derive(Debug)]
pub struct Clients {
    first: Client,
    others: Vec<Client>,
}

impl Clients {
    /// Makes `count` clients, at least one, by what `file` says, and connects each to every node if
    /// there are several. Each lets `in_flight_max` operations be under way, so that what is
    /// measured is the cluster and no turn in the SDK.
    ///
    /// # Errors
    /// If the file cannot be used, a node does not answer or refuses so many connections, or the
    /// system refuses so many sockets.
    ///
    /// # Cancel safety
    /// What was connected is closed.
    pub async fn connect(file: &Path, count: u32, in_flight_max: usize) -> Result<Self> {
        let config = Arc::new(ClientConfig::read(file)?);
        let first = client(&config, in_flight_max).await?;
        if count <= 1 {
            let others = Vec::new();
            return Ok(Self { first, others });
        }
        allow_sockets();
        connect_everywhere(&first).await?;
        let (mut others, mut connecting) = (Vec::new(), JoinSet::new());
        for number in 1..count {
            if number > CONNECTING_MAX {
                others.extend(next_of(&mut connecting).await?);
            }
            let config = Arc::clone(&config);
            connecting.spawn(async move {
                let client = client(&config, in_flight_max).await;
                let client = client.with_context(|| format!("client {number} of {count}"))?;
                connect_everywhere(&client).await?;
                anyhow::Ok(client)
            });
        }
        while let Some(client) = next_of(&mut connecting).await? {
            others.push(client);
        }
        Ok(Self { first, others })
    }

    /// One of them, for what is not part of the load.
    #[must_use]
    pub const fn first(&self) -> &Client {
        &self.first
    }

    /// A keyspace, once for each client.
    #[must_use]
    pub fn keyspaces(&self, name: &str) -> Vec<Keyspace> {
        let all = std::iter::once(&self.first).chain(&self.others);
        all.map(|client| client.keyspace(name)).collect()
    }

    /// Closes all connections.
    ///
    /// # Cancel safety
    /// The nodes learn of the rest by silence.
    pub async fn close(self) {
        let mut closing = JoinSet::new();
        for client in self.others {
            closing.spawn(async move { client.close().await });
        }
        closing.join_all().await;
        self.first.close().await;
    }
}

/// A client that lets so many operations be under way.
///
/// # Errors
/// If the configuration cannot be used or no node answers.
///
/// # Cancel safety
/// Nothing is left behind.
pub async fn client(config: &ClientConfig, in_flight_max: usize) -> Result<Client> {
    let builder = Client::builder().config(config)?;
    Ok(builder.in_flight_max(in_flight_max).connect().await?)
}

async fn next_of(connecting: &mut JoinSet<Result<Client>>) -> Result<Option<Client>> {
    connecting.join_next().await.transpose()?.transpose()
}

/// Asks every node for its status, which needs a connection.
async fn connect_everywhere(client: &Client) -> Result<()> {
    for node in client.topology().ring().nodes() {
        let name = node.name.to_string();
        let status = client.status(&name).await;
        status.with_context(|| format!("node {name} does not take a connection"))?;
    }
    Ok(())
}

/// Takes as many open files as the system lets this process have: each client has one or two
/// sockets.
fn allow_sockets() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: maximum,
        maximum,
    };
    // Where that is refused, the socket that finds no room tells.
    let _asked = setrlimit(Resource::Nofile, wanted);
}
