//! A client that is made before its cluster is there.

use std::sync::Arc;
use std::time::Duration;

use quorate_client::testing::{FakeCluster, Fault};
use quorate_client::{Client, ConnectError, ConnectState, LazyClient};

fn lazy(cluster: &Arc<FakeCluster>) -> LazyClient {
    let builder = Client::builder().seeds(["127.0.0.1:7401", "127.0.0.1:7402", "127.0.0.1:7403"]);
    let builder = builder.connect_timeout(Duration::from_secs(1));
    builder
        .transport(Arc::clone(cluster) as Arc<_>)
        .connect_lazy()
}

#[tokio::test(start_paused = true)]
async fn it_fails_with_every_seed_while_the_cluster_is_down_and_connects_when_it_is_up() {
    let cluster = FakeCluster::new();
    cluster.break_all(Some(Fault::Down));
    let lazy = lazy(&cluster);
    let mut state = lazy.state();
    assert_eq!(*state.borrow_and_update(), ConnectState::NotTried);
    assert!(cluster.calls().is_empty(), "making it asks nothing");

    let error = lazy.client().await.expect_err("all nodes are down");
    assert!(matches!(&error, ConnectError::Seeds { seeds } if seeds.len() == 3));
    let ConnectState::Failed { why } = state.borrow_and_update().clone() else {
        panic!("the state tells the failure");
    };
    assert_eq!(*why, error.to_string());
    assert!(lazy.connected().is_none());

    cluster.break_all(None);
    let client = lazy.client().await.expect("the nodes are back");
    client.keyspace("default").get("k").await.expect("it works");
    assert_eq!(*state.borrow_and_update(), ConnectState::Connected);
    assert!(lazy.clone().connected().is_some(), "clones share it");
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_together_connect_once() {
    let cluster = FakeCluster::new();
    let lazy = lazy(&cluster);
    let one = || async { lazy.client().await.is_ok() };
    let connected = tokio::join!(one(), one(), one(), one());
    assert_eq!(connected, (true, true, true, true));
    assert_eq!(cluster.calls().len(), 1);
}
