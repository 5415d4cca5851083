//! A client that connects when it is first needed, for services that start before their cluster.
//!
//! Who needs the client first connects; the others wait for it, and the next one tries when it
//! failed. Once connected it stays so, since a client makes broken connections anew by itself.
//!
//! Not here: connecting (`builder`), broken connections (`pool`).

use std::sync::Arc;

use tokio::sync::{OnceCell, watch};

use super::{Client, ClientBuilder};
use crate::error::ConnectError;

/// Whether a [`LazyClient`] has found its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ConnectState {
    /// Nothing was tried so far.
    #[default]
    NotTried,
    /// The last attempt failed; the next call tries again.
    Failed {
        /// The sentence of its [`ConnectError`].
        why: Arc<str>,
    },
    /// It has the topology.
    Connected,
}

/// A client that connects when it is first needed. Made by [`ClientBuilder::connect_lazy`]; clones
/// share the client and its state.
///
/// # Example
/// ```
/// # quorate_client::testing::block_on(async {
/// # let cluster = quorate_client::testing::FakeCluster::new();
/// # let builder = quorate_client::Client::builder().transport(cluster);
/// // The service comes up, whether the cluster is there or not.
/// let lazy = builder.seeds(["127.0.0.1:7401"]).connect_lazy();
/// let users = lazy.client().await?.keyspace("default");
/// users.put_blind("alice", "1").await?;
/// # Ok(()) });
/// ```
#[derive(Debug, Clone)]
pub struct LazyClient {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    builder: ClientBuilder,
    client: OnceCell<Client>,
    state: watch::Sender<ConnectState>,
}

impl LazyClient {
    pub(super) fn new(builder: ClientBuilder) -> Self {
        let shared = Shared {
            builder,
            client: OnceCell::new(),
            state: watch::Sender::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The client; connects first if nobody did, within the builder's time to connect.
    ///
    /// # Errors
    /// [`ConnectError`] of the attempt that this call made. A later call tries again.
    ///
    /// # Cancel safety
    /// Nothing is left behind; another waiting call connects in its place.
    pub async fn client(&self) -> Result<Client, ConnectError> {
        let shared = &*self.shared;
        let connect = async {
            let connected = shared.builder.clone().connect().await;
            shared.state.send_replace(match &connected {
                Ok(_) => ConnectState::Connected,
                Err(error) => ConnectState::Failed {
                    why: error.to_string().into(),
                },
            });
            connected
        };
        shared.client.get_or_try_init(|| connect).await.cloned()
    }

    /// The client, if it is connected already.
    #[must_use]
    pub fn connected(&self) -> Option<&Client> {
        self.shared.client.get()
    }

    /// Follows whether it is connected: the present state at once, then each change.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<ConnectState> {
        self.shared.state.subscribe()
    }
}
