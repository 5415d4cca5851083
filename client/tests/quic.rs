//! The SDK over real QUIC and mutual TLS, against a node that answers everything the same way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::crypto::rustls::QuicServerConfig;
use quorate_client::link::{
    ClusterId, Outbox, Role, Route, StreamError, TransportOptions, accept_streams, acknowledge,
    bind_socket, client_san, cluster_san, endpoint_config, node_san, read_small, transport_config,
};
use quorate_client::wire::{
    ALPN_CLIENT, Applied, Code, ContextToken, Failure, FrameError, Outcome, RawFrame, Read,
    Request, Response, decode_request, encode_response, frame::SMALL_FRAME_BYTES_MAX,
};
use quorate_client::{Client, Seed, testing};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::task::JoinSet;

const CLUSTER: ClusterId = ClusterId([7; 16]);

struct Authorities {
    nodes: CertifiedIssuer<'static, KeyPair>,
    clients: CertifiedIssuer<'static, KeyPair>,
}

impl Authorities {
    fn new() -> Self {
        let make = || {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().expect("a key");
            CertifiedIssuer::self_signed(params, key).expect("an authority")
        };
        Self {
            nodes: make(),
            clients: make(),
        }
    }

    fn client(&self) -> quorate_client::ClientBuilder {
        let (cert, key) = signed(&self.clients, vec![client_san(CLUSTER, Role::Data)]);
        Client::builder()
            .cluster_id(CLUSTER)
            .ca(self.nodes.pem())
            .identity(cert.pem(), key.serialize_pem())
    }

    fn server_config(&self) -> quinn::ServerConfig {
        let sans = vec![
            node_san(CLUSTER, &"1".parse().expect("a name")),
            cluster_san(CLUSTER),
        ];
        let (cert, key) = signed(&self.nodes, sans);
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.clients.der().clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_client_cert_verifier(verifier.build().expect("a verifier"))
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("a certificate");
        tls.alpn_protocols = vec![ALPN_CLIENT.to_vec()];
        let crypto = QuicServerConfig::try_from(tls).expect("a QUIC configuration");
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0)).ip();
        config.transport_config(transport_config(TransportOptions::default(), loopback));
        config
    }
}

fn signed(
    issuer: &CertifiedIssuer<'static, KeyPair>,
    names: Vec<String>,
) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(names).expect("names");
    (params.signed_by(&key, issuer).expect("a certificate"), key)
}

/// A node of a cluster of its own; gone when it is dropped.
struct Node {
    address: SocketAddr,
    tasks: JoinSet<()>,
}

impl Node {
    async fn start(authorities: &Authorities, port: u16) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let socket = loop {
            // A node that was stopped holds its port until its connections have drained.
            match bind_socket(address) {
                Ok(socket) => break socket,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        let address = socket.local_addr().expect("an address");
        let runtime = Arc::new(quinn::TokioRuntime);
        let config = Some(authorities.server_config());
        let endpoint = quinn::Endpoint::new(endpoint_config(None), config, socket, runtime);
        let endpoint = endpoint.expect("an endpoint");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut serving = JoinSet::new();
            while let Some(incoming) = endpoint.accept().await {
                serving.spawn(async move {
                    // A client that is refused is what some tests want.
                    if let Ok(connection) = incoming.await {
                        serve(connection, address).await.ok();
                    }
                });
            }
        });
        Self { address, tasks }
    }

    async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn serve(connection: quinn::Connection, address: SocketAddr) -> Result<(), StreamError> {
    let mut streams = accept_streams(&connection).await?;
    acknowledge(&mut streams).await?;
    let outbox = Arc::new(Outbox::default());
    let mut writers = JoinSet::new();
    let (own, mut small, mut bulk) = (Arc::clone(&outbox), streams.small.send, streams.bulk.send);
    writers.spawn(async move { own.write_small(&mut small).await.ok() });
    let own = Arc::clone(&outbox);
    writers.spawn(async move { own.write_bulk(&mut bulk).await.ok() });
    let reply = |frames: &mut Vec<RawFrame>| {
        for frame in frames.drain(..) {
            let request = decode_request(&frame)?;
            let response = answer(request.request, address);
            let most = usize::MAX;
            let pushed = outbox.push(Route::BySize, most, most, |buffer| {
                encode_response(buffer, request.id, &response)
            });
            pushed.expect("the outbox takes it");
        }
        Ok::<_, FrameError>(())
    };
    read_small(&mut streams.small.recv, SMALL_FRAME_BYTES_MAX, reply)
        .await
        .ok();
    Ok(())
}

fn answer(request: Request, address: SocketAddr) -> Response {
    let context = ContextToken(Bytes::from_static(b"token"));
    match request {
        Request::Topology => {
            let mut topology = testing::topology(1);
            topology.cluster_id = CLUSTER.0;
            topology.nodes[0].address = address.to_string();
            Response::Topology(topology)
        }
        Request::Put(_) | Request::Delete(_) | Request::Resolve(_) => Response::Applied(Applied {
            context: Some(context),
            acks: 1,
            superseded_by: None,
        }),
        Request::Get(_) | Request::SessionGet(_) => Response::Read(Read {
            values: Vec::new(),
            context,
            replicas: 1,
            stamp: None,
        }),
        Request::Status
        | Request::ReadLocal(_)
        | Request::DumpLocal(_)
        | Request::Verify(_)
        | Request::Repair(_)
        | Request::DeclareLost(_)
        | Request::Scan(_)
        | Request::Batch(_) => Response::Failure(Failure {
            code: Code::RoleRefused,
            outcome: Outcome::NotApplied,
            acks: 0,
            required: 0,
            replicas: Vec::new(),
            retry_after_ms: 0,
            limit: 0,
        }),
    }
}

#[tokio::test]
async fn a_client_writes_and_reads_over_mutual_tls() {
    let authorities = Authorities::new();
    let node = Node::start(&authorities, 0).await;
    // By address alone: the name is learned from the topology.
    let builder = authorities.client().seeds([node.address.to_string()]);
    let client = builder.connect().await.expect("the node answers");
    let ks = client.keyspace("default");
    let read = ks.get("k").await.expect("read");
    ks.put("k", "v").after(&read).await.expect("applied");
    assert_eq!(client.topology().cluster_id(), CLUSTER);
    assert_eq!(
        client.status("1").await.map_err(|e| e.code()),
        Err(Code::RoleRefused)
    );
    client.close().await;
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_was_started_anew_is_reconnected_to_within_the_deadline() {
    let authorities = Authorities::new();
    let node = Node::start(&authorities, 0).await;
    let address = node.address;
    let builder = authorities.client().seeds([address.to_string()]);
    let client = builder.connect().await.expect("the node answers");
    let ks = client.keyspace("default");
    ks.put_blind("k", "v").await.expect("applied");
    node.stop().await;
    let node = Node::start(&authorities, address.port()).await;
    let put = ks.put_blind("k", "v").deadline(Duration::from_secs(10));
    put.await.expect("applied after a reconnection");
    node.stop().await;
}

#[tokio::test]
async fn each_seed_says_what_is_wrong_with_it() {
    let authorities = Authorities::new();
    let node = Node::start(&authorities, 0).await;
    let named = |name: &str| Seed {
        name: Some(name.to_owned()),
        address: node.address.to_string(),
    };
    let seeds = [
        Seed::from("nowhere.invalid:1"),
        Seed::from("127.0.0.1"),
        named("2"),
    ];
    let connecting = authorities.client().seeds(seeds).connect();
    let error = connecting.await.expect_err("no seed is usable").to_string();
    for part in [
        "nowhere.invalid:1: the address cannot be used",
        "127.0.0.1: the address cannot be used",
        "2 at 127.0.0.1:",
        "the TLS handshake failed: the node's certificate is not accepted",
    ] {
        assert!(error.contains(part), "{error}");
    }
    let foreign = Authorities {
        nodes: authorities.nodes,
        clients: Authorities::new().clients,
    };
    let connecting = foreign.client().seeds([named("1")]).connect();
    let error = connecting.await.expect_err("a foreign client").to_string();
    assert!(
        error.contains("the node refuses the certificate"),
        "{error}"
    );
    node.stop().await;
}
