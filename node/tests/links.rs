//! Real sockets on loopback: nodes and clients talk over mutual TLS, everybody else is refused.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quorate_client::link::{
    CallError, ClusterId, ConnectError, Connection, Credentials, Endpoint, NotSent, Role, Target,
    TransportOptions, node_san, open_streams, tls_client_config, transport_config,
};
use quorate_client::wire::{
    self, ALPN_CLIENT, ALPN_PEER, Code, FrameError, Get, Level, Outcome, ReadLocal, Response,
};
use quorate_node::core::input::RequestId;
use quorate_node::core::message::{
    OpNumber, Payload, PeerHeader, PeerMessage, PurgeNumber, Replicate, Reply, Request,
};
use quorate_node::core::{Input, LinkEvent};
use quorate_node::shell::certs::{
    AuthorityKind, CLIENT_AUTHORITY_FILE, NODE_AUTHORITY_FILE, NODE_CERTIFICATE_FILE,
    NODE_KEY_FILE, NodeCertificates, NodeTls, PemPair, Validity, new_authority, sign_client,
    sign_node, write_certificate, write_key,
};
use quorate_node::shell::inbox::Inbox;
use quorate_node::shell::link::{LinkCounters, Peer, PeerLinks, PeerLinksConfig};
use quorate_node::shell::seam::{BoxFuture, ClientPort, Clock, Links};
use quorate_node::shell::serve::{
    AdminHandler, AdminRequest, ClientLimits, ClientServer, ClientServerConfig, NodeEndpoint,
};
use quorate_ring::{Epoch, Incarnation, KeyspaceId, Lsn, MonoTime, NodeId, NodeName};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::task::JoinSet;

const CLUSTER: ClusterId = ClusterId([7; 16]);
const VALID: Validity = Validity {
    from_s: 0,
    until_s: 4_000_000_000,
};
const EXPIRED: Validity = Validity {
    from_s: 0,
    until_s: 1_000_000_000,
};
const NOW_S: u64 = 1_700_000_000;
const PATIENCE: Duration = Duration::from_secs(20);

/// A clock that stands still: these tests are about links, not about deadlines.
#[derive(Debug)]
struct StillClock;

impl Clock for StillClock {
    fn now(&self) -> MonoTime {
        MonoTime::ZERO
    }

    fn wall_micros(&self) -> u64 {
        0
    }

    fn sleep_until(&self, _: MonoTime) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

#[derive(Debug)]
struct NothingLocal;

impl AdminHandler for NothingLocal {
    fn answer(&self, _: AdminRequest) -> BoxFuture<'_, Response> {
        Box::pin(async { Response::Local(None) })
    }
}

struct Authorities {
    nodes: PemPair,
    clients: PemPair,
}

impl Authorities {
    fn new() -> Self {
        let make = |kind| new_authority(kind, CLUSTER, VALID).expect("makes");
        Self {
            nodes: make(AuthorityKind::Nodes),
            clients: make(AuthorityKind::Clients),
        }
    }

    fn client(&self, role: Role) -> PemPair {
        sign_client(&self.clients, CLUSTER, role, "tester", VALID).expect("signs")
    }

    fn node(&self, name: &str) -> PemPair {
        sign_node(&self.nodes, CLUSTER, &name_of(name), VALID).expect("signs")
    }

    fn endpoint(&self, shown: &PemPair) -> Endpoint {
        let credentials = Credentials::from_pem(
            CLUSTER,
            &self.nodes.certificate,
            &shown.certificate,
            &shown.key,
        );
        Endpoint::new(credentials.expect("PEM"), TransportOptions::default()).expect("binds")
    }
}

fn name_of(name: &str) -> NodeName {
    name.parse().expect("a name")
}

/// One node's links and listener, without a shard.
struct TestNode {
    endpoint: NodeEndpoint,
    links: Arc<PeerLinks>,
    clients: Arc<ClientServer>,
    inbox: Arc<Inbox>,
    counters: Arc<LinkCounters>,
    tasks: JoinSet<()>,
}

fn start(
    authorities: &Authorities,
    own: u32,
    addresses: &BTreeMap<u32, SocketAddr>,
    limits: ClientLimits,
) -> TestNode {
    let name = name_of(&format!("n{own}"));
    let folder = tempfile::tempdir().expect("a folder");
    let path = |file| folder.path().join(file);
    let pair = authorities.node(name.as_str());
    write_certificate(&path(NODE_AUTHORITY_FILE), &authorities.nodes.certificate).expect("writes");
    write_certificate(
        &path(CLIENT_AUTHORITY_FILE),
        &authorities.clients.certificate,
    )
    .expect("writes");
    write_certificate(&path(NODE_CERTIFICATE_FILE), &pair.certificate).expect("writes");
    write_key(&path(NODE_KEY_FILE), &pair.key).expect("writes");
    let certificates =
        NodeCertificates::load(folder.path(), CLUSTER, &name, NOW_S).expect("its own");
    let tls = NodeTls::new(CLUSTER, &certificates).expect("fits");
    let counters = Arc::new(LinkCounters::default());
    let options = TransportOptions::default();
    let listen = addresses[&own];
    let profile = Arc::default();
    let endpoint = NodeEndpoint::bind(
        listen,
        tls.clone(),
        options,
        Arc::clone(&counters),
        &profile,
    );
    let endpoint = endpoint.expect("binds");
    let inbox = Arc::new(Inbox::default());
    let peers = addresses
        .iter()
        .map(|(id, address)| Peer {
            id: NodeId(*id),
            name: name_of(&format!("n{id}")),
            address: address.to_string(),
        })
        .collect();
    let links = Arc::new(PeerLinks::new(PeerLinksConfig {
        own: NodeId(own),
        peers,
        quic: endpoint.quic(),
        tls,
        options,
        inbox: Arc::clone(&inbox),
        counters: Arc::clone(&counters),
        clock: Arc::new(StillClock),
        profile: Arc::clone(&profile),
    }));
    let clients = Arc::new(ClientServer::new(ClientServerConfig {
        inbox: Arc::clone(&inbox),
        admin: Arc::new(NothingLocal),
        clock: Arc::new(StillClock),
        counters: Arc::clone(&counters),
        profile,
        limits,
    }));
    let mut tasks = JoinSet::new();
    tasks.spawn(
        endpoint
            .clone()
            .serve(Arc::clone(&links), Arc::clone(&clients)),
    );
    tasks.spawn(Arc::clone(&links).run());
    TestNode {
        endpoint,
        links,
        clients,
        inbox,
        counters,
        tasks,
    }
}

/// Free ports, found by binding them for a moment.
fn free_addresses(ids: &[u32]) -> BTreeMap<u32, SocketAddr> {
    let sockets: Vec<_> = ids
        .iter()
        .map(|id| {
            (
                *id,
                std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("binds"),
            )
        })
        .collect();
    sockets
        .iter()
        .map(|(id, socket)| (*id, socket.local_addr().expect("bound")))
        .collect()
}

fn one_node(authorities: &Authorities) -> TestNode {
    start(
        authorities,
        1,
        &free_addresses(&[1]),
        ClientLimits::default(),
    )
}

/// Node 1 of a cluster in which node 0 may dial it, but is not there.
fn dialled_node(authorities: &Authorities) -> TestNode {
    start(
        authorities,
        1,
        &free_addresses(&[0, 1]),
        ClientLimits::default(),
    )
}

impl TestNode {
    fn target(&self) -> Target {
        let address = self.endpoint.local_address().expect("bound");
        Target {
            address,
            node: Some(name_of("n1")),
        }
    }

    async fn next(&self) -> Vec<Input> {
        tokio::time::timeout(PATIENCE, self.inbox.ready(true))
            .await
            .expect("something comes");
        let mut batch = Vec::new();
        self.inbox.take(MonoTime::ZERO, usize::MAX, &mut batch);
        batch
    }

    async fn wait_up(&self) -> u64 {
        loop {
            for input in self.next().await {
                if let Input::Link(LinkEvent::Up { link, .. }) = input {
                    return link;
                }
            }
        }
    }

    fn hostile(&self) -> u64 {
        self.counters.hostile_frames.load(Ordering::Relaxed)
    }
}

/// Waits until `counter` has reached `wanted`.
async fn counted(counter: &AtomicU64, wanted: u64) {
    let wait = async {
        while counter.load(Ordering::Relaxed) < wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("is counted");
}

fn header() -> PeerHeader {
    PeerHeader {
        epoch: Epoch {
            generation: 1,
            number: 1,
        },
        incarnation: Incarnation(9),
        durable: Lsn(10),
    }
}

fn replicate(op: u64, bytes: usize) -> PeerMessage {
    PeerMessage::Replicate(Replicate {
        op: OpNumber(op),
        keyspace: KeyspaceId(1),
        key: Bytes::from_static(b"key"),
        payload: Payload::Whole(vec![7; bytes].into()),
        number: PurgeNumber(0),
        budget: Duration::from_secs(1),
        base: None,
        as_fallback: false,
    })
}

#[tokio::test]
async fn nodes_exchange_messages_of_every_size_both_ways() {
    let authorities = Authorities::new();
    let addresses = free_addresses(&[1, 2]);
    let limits = ClientLimits::default();
    let a = start(&authorities, 1, &addresses, limits);
    let b = start(&authorities, 2, &addresses, limits);
    a.wait_up().await;
    b.wait_up().await;

    let sizes = [10, 1000, 40_000, 65_400, 65_600, 300_000, 1 << 20, 4 << 20];
    for (node, to) in [(&a, NodeId(2)), (&b, NodeId(1))] {
        let messages: Vec<_> = (0..)
            .zip(sizes)
            .map(|(op, bytes)| replicate(op, bytes))
            .collect();
        node.links.send(to, header(), messages).expect("connected");
        for op in 100..600 {
            node.links
                .send(to, header(), vec![replicate(op, 200)])
                .expect("connected");
        }
    }
    for (node, other) in [(&a, NodeId(2)), (&b, NodeId(1))] {
        let mut got = BTreeMap::new();
        while got.len() < sizes.len() + 500 {
            for input in node.next().await {
                let Input::Peer {
                    from,
                    header: found,
                    message,
                    ..
                } = input
                else {
                    panic!("only messages come: {input:?}");
                };
                assert_eq!((from, found), (other, header()));
                let PeerMessage::Replicate(Replicate {
                    op,
                    payload: Payload::Whole(record),
                    ..
                }) = message
                else {
                    panic!("only writes were sent");
                };
                assert!(record.iter().all(|byte| *byte == 7));
                assert_eq!(got.insert(op.0, record.len()), None, "once each");
            }
        }
        let large: Vec<usize> = (0..8).map(|op| got[&op]).collect();
        assert_eq!(large, sizes);
    }
    assert_eq!((a.hostile(), b.hostile()), (0, 0));
}

#[tokio::test]
async fn a_lost_link_is_reported_and_made_anew() {
    let authorities = Authorities::new();
    let addresses = free_addresses(&[1, 2]);
    let limits = ClientLimits::default();
    let a = start(&authorities, 1, &addresses, limits);
    let mut b = start(&authorities, 2, &addresses, limits);
    let first = a.wait_up().await;
    b.wait_up().await;
    b.tasks.shutdown().await;
    b.endpoint.shut_down().await;
    drop(b);
    let mut events = a.next().await;
    let down = events.pop();
    assert!(
        matches!(down, Some(Input::Link(LinkEvent::Down { link, .. })) if link == first),
        "{down:?}"
    );
    assert!(
        a.links
            .send(NodeId(2), header(), vec![replicate(1, 1)])
            .is_err()
    );
    tokio::time::sleep(Duration::from_millis(300)).await;
    let _b = start(&authorities, 2, &addresses, limits);
    let second = tokio::time::timeout(Duration::from_secs(3), a.wait_up()).await;
    assert!(second.expect("dialled again within the pause") > first);
}

/// Answers each request of the node as a shard might: a write with its value as context, a read
/// with its key and as many bytes as its keyspace says.
async fn answer(node: &TestNode) {
    loop {
        let replies = node.next().await.into_iter().filter_map(|input| {
            let Input::Request { from, request, .. } = input else {
                return None;
            };
            let reply = match request {
                Request::Write(write) => Reply::Applied {
                    context: write.value,
                    acks: 2,
                    superseded_by: None,
                },
                Request::Read(read) => {
                    let bytes: usize = read.keyspace.parse().unwrap_or(0);
                    let values = vec![read.key, vec![5; bytes].into()];
                    Reply::Read {
                        values,
                        context: Bytes::new(),
                        replicas: 2,
                        stamp: None,
                    }
                }
                Request::Resolve(_) | Request::SessionRead(_) => return None,
            };
            Some((from, reply))
        });
        let replies: Vec<(RequestId, Reply)> = replies.collect();
        node.clients.reply(replies);
    }
}

fn get(keyspace: &str, key: String) -> wire::Request {
    wire::Request::Get(Get {
        keyspace: keyspace.into(),
        key: key.into(),
        level: Level::Quorum,
    })
}

fn put(bytes: usize) -> wire::Request {
    wire::Request::Put(wire::Put {
        keyspace: "k".into(),
        key: Bytes::from_static(b"key"),
        value: vec![3; bytes].into(),
        context: None,
        level: Level::Quorum,
        op_id: wire::OpId([1; 16]),
        attempt: 1,
        age_ms: 0,
        stamp: None,
        ttl_ms: None,
    })
}

#[tokio::test]
async fn clients_are_answered_each_call_by_its_own_answer() {
    let authorities = Authorities::new();
    let node = Arc::new(one_node(&authorities));
    let mut shard = JoinSet::new();
    let own = Arc::clone(&node);
    shard.spawn(async move { answer(&own).await });
    let endpoint = authorities.endpoint(&authorities.client(Role::Data));
    let connection = Connection::connect(&endpoint, &node.target())
        .await
        .expect("accepted");

    let mut calls = JoinSet::new();
    for i in 0..500_u32 {
        let connection = connection.clone();
        calls.spawn(async move {
            let answer = connection.call(&get("0", format!("{i}")), PATIENCE).await;
            let Ok(Response::Read(read)) = answer else {
                panic!("a read is answered: {answer:?}");
            };
            assert_eq!(read.values[0].0, format!("{i}"));
        });
    }
    while let Some(done) = calls.join_next().await {
        done.expect("answered");
    }
    for bytes in [0, 60_000, 70_000, 1 << 20, 4 << 20] {
        let answer = connection.call(&put(bytes), PATIENCE).await;
        let Ok(Response::Applied(applied)) = answer else {
            panic!("a put of {bytes} is answered: {answer:?}");
        };
        assert_eq!(applied.context.map(|token| token.0.len()), Some(bytes));
        let answer = connection
            .call(&get(&bytes.to_string(), "k".into()), PATIENCE)
            .await;
        let Ok(Response::Read(read)) = answer else {
            panic!("a read of {bytes} is answered: {answer:?}");
        };
        assert_eq!(read.values[1].0.len(), bytes);
    }
    let too_long = connection.call(&put(6 << 20), PATIENCE).await;
    assert!(matches!(
        too_long,
        Err(CallError::NotSent(NotSent::Frame(
            FrameError::TooLong { .. }
        )))
    ));
    assert_eq!(connection.in_flight(), 0);
    assert_eq!(node.hostile(), 0);

    // Any node of the cluster will do for a seed; another one than expected will not.
    let mut target = Target {
        node: None,
        ..node.target()
    };
    Connection::connect(&endpoint, &target)
        .await
        .expect("any node");
    target.node = Some(name_of("n2"));
    let other = Connection::connect(&endpoint, &target).await;
    assert!(
        matches!(other, Err(ConnectError::NodeUntrusted { .. })),
        "{other:?}"
    );
}

#[tokio::test]
async fn calls_end_with_their_deadline_or_their_connection() {
    let authorities = Authorities::new();
    let node = one_node(&authorities);
    let endpoint = authorities.endpoint(&authorities.client(Role::Data));
    let connection = Connection::connect(&endpoint, &node.target())
        .await
        .expect("accepted");
    let late = connection
        .call(&get("0", "k".into()), Duration::from_millis(30))
        .await;
    assert_eq!(late, Err(CallError::TimedOut));
    assert_eq!(connection.in_flight(), 0);
    let request = get("0", "k".into());
    let (lost, ()) = tokio::join!(connection.call(&request, PATIENCE), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        node.endpoint.shut_down().await;
    });
    assert!(matches!(lost, Err(CallError::Lost(_))), "{lost:?}");
    let gone = connection.call(&request, PATIENCE).await;
    assert!(
        matches!(gone, Err(CallError::NotSent(NotSent::Gone(_)))),
        "{gone:?}"
    );
}

#[expect(clippy::panic, reason = "a test helper")]
fn failure(answer: Result<Response, CallError>) -> (Code, Outcome) {
    match answer {
        Ok(Response::Failure(failure)) => (failure.code, failure.outcome),
        other => panic!("is refused: {other:?}"),
    }
}

#[tokio::test]
async fn requests_over_a_limit_or_a_role_are_refused_and_say_so() {
    let authorities = Authorities::new();
    let limits = ClientLimits {
        in_flight_max: 1,
        connections_per_principal_max: 2,
        ..ClientLimits::default()
    };
    let node = start(&authorities, 1, &free_addresses(&[1]), limits);
    let endpoint = authorities.endpoint(&authorities.client(Role::Data));
    let data = Connection::connect(&endpoint, &node.target())
        .await
        .expect("accepted");
    let local = ReadLocal {
        keyspace: "k".into(),
        key: Bytes::from_static(b"k"),
    };
    let local = wire::Request::ReadLocal(local);
    let refused = failure(data.call(&local, PATIENCE).await);
    assert_eq!(refused, (Code::RoleRefused, Outcome::NotApplied));

    // Nobody answers the first one, so the second is one too many.
    let request = get("0", "k".into());
    let (_, shed) = tokio::join!(
        data.call(&request, Duration::from_millis(300)),
        data.call(&request, PATIENCE)
    );
    assert_eq!(failure(shed), (Code::Overloaded, Outcome::NotApplied));

    let admin = authorities.endpoint(&authorities.client(Role::Admin));
    let admin = Connection::connect(&admin, &node.target())
        .await
        .expect("accepted");
    assert_eq!(
        admin.call(&local, PATIENCE).await,
        Ok(Response::Local(None))
    );
    let third = Connection::connect(&endpoint, &node.target()).await;
    assert!(matches!(third, Err(ConnectError::Refused(_))), "{third:?}");
    assert_eq!(node.clients.connections(), 2);
}

fn certificate(pair: &PemPair) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pair.certificate.as_bytes()).expect("PEM")
}

fn raw_tls(authority: &PemPair, shown: Option<&PemPair>, alpn: &[u8]) -> rustls::ClientConfig {
    if let Some(pair) = shown {
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("PEM");
        let chain = vec![certificate(pair)];
        return tls_client_config(&[certificate(authority)], chain, key, alpn).expect("fits");
    }
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate(authority)).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![alpn.to_vec()];
    tls
}

/// Dials as whoever `shown` is, and trusts whom `authority` signs.
async fn dial_raw(
    node: &TestNode,
    authority: &PemPair,
    shown: Option<&PemPair>,
    alpn: &[u8],
) -> Result<(quinn::Endpoint, quinn::Connection), String> {
    let tls = raw_tls(authority, shown, alpn);
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).expect("TLS 1.3");
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    let options = TransportOptions::default();
    config.transport_config(transport_config(options, Ipv4Addr::LOCALHOST.into()));
    let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("binds");
    let address = node.endpoint.local_address().expect("bound");
    let name = node_san(CLUSTER, &name_of("n1"));
    let connecting = endpoint
        .connect_with(config, address, &name)
        .expect("begins");
    let connection = connecting.await.map_err(|error| error.to_string())?;
    Ok((endpoint, connection))
}

#[tokio::test]
async fn strangers_are_refused_before_any_frame_is_read() {
    let authorities = Authorities::new();
    let strangers = Authorities::new();
    let node = dialled_node(&authorities);
    let by_clients = &authorities.clients;
    let expired = sign_client(by_clients, CLUSTER, Role::Data, "t", EXPIRED).expect("signs");
    let other = ClusterId([9; 16]);
    let elsewhere = sign_client(by_clients, other, Role::Admin, "t", VALID).expect("signs");
    let forged = sign_node(by_clients, CLUSTER, &name_of("n0"), VALID).expect("signs");
    let cases = [
        ("no certificate", None, ALPN_CLIENT),
        (
            "another authority",
            Some(strangers.client(Role::Admin)),
            ALPN_CLIENT,
        ),
        ("self-signed", Some(strangers.clients.clone()), ALPN_CLIENT),
        ("expired", Some(expired), ALPN_CLIENT),
        ("another cluster", Some(elsewhere), ALPN_CLIENT),
        (
            "a node's as client",
            Some(authorities.node("n0")),
            ALPN_CLIENT,
        ),
        (
            "a client's as node",
            Some(authorities.client(Role::Admin)),
            ALPN_PEER,
        ),
        ("a node's name signed for clients", Some(forged), ALPN_PEER),
        (
            "a node that is not in the topology",
            Some(authorities.node("n7")),
            ALPN_PEER,
        ),
        ("the node itself", Some(authorities.node("n1")), ALPN_PEER),
        (
            "an unknown protocol",
            Some(authorities.client(Role::Admin)),
            b"quorate/999",
        ),
    ];
    for (name, shown, alpn) in cases {
        let usable = match dial_raw(&node, &authorities.nodes, shown.as_ref(), alpn).await {
            Ok((_endpoint, connection)) => {
                let opened = tokio::time::timeout(PATIENCE, open_streams(&connection)).await;
                opened.expect("is refused in time").is_ok()
            }
            Err(_) => false,
        };
        assert!(!usable, "{name}");
    }
    let mut seen = Vec::new();
    node.inbox.take(MonoTime::ZERO, usize::MAX, &mut seen);
    assert!(seen.is_empty(), "nothing reached the shard: {seen:?}");
    // The same way in works for who may come.
    let peer = authorities.node("n0");
    let (_endpoint, connection) = dial_raw(&node, &authorities.nodes, Some(&peer), ALPN_PEER)
        .await
        .expect("a peer");
    open_streams(&connection).await.expect("is accepted");
    // And a node whose certificate another authority signed is not taken for this node.
    let client = authorities.client(Role::Data);
    let trusts_others = dial_raw(&node, &strangers.nodes, Some(&client), ALPN_CLIENT).await;
    assert!(trusts_others.is_err());
}

/// What no honest side writes, by name, for the small and the bulk stream.
fn hostile_bytes() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let frame = |kind: u8, body: &[u8]| {
        let mut bytes = u32::try_from(body.len() + 1)
            .expect("small")
            .to_le_bytes()
            .to_vec();
        bytes.push(kind);
        bytes.extend_from_slice(body);
        bytes
    };
    let noise: Vec<u8> = (1..2000_u32)
        .flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let gap = [
        &1_u64.to_le_bytes()[..],
        &9_u32.to_le_bytes(),
        &3_u32.to_le_bytes(),
        &[1],
    ]
    .concat();
    vec![
        ("oversized", vec![0xff, 0xff, 0xff, 0x7f, 1], vec![]),
        ("empty", vec![0, 0, 0, 0], vec![]),
        ("deep", frame(4, &[0x91; 5000]), vec![]),
        ("trailing", frame(5, &[0x93, 1, 1, 0x90, 0xc0]), vec![]),
        ("unknown kind", frame(250, b"\xc1 no array"), vec![]),
        ("bomb", frame(2, &[0xdd, 0xff, 0xff, 0xff, 0xff]), vec![]),
        ("random", noise.clone(), vec![]),
        ("a frame on the bulk stream", vec![], frame(4, &[0x90])),
        ("a gap in the bulk stream", vec![], frame(0, &gap)),
        ("random bulk", vec![], noise),
    ]
}

#[tokio::test]
async fn hostile_frames_close_their_connection_and_are_counted() {
    let authorities = Authorities::new();
    let node = dialled_node(&authorities);
    let client = authorities.client(Role::Data);
    let peer = authorities.node("n0");
    let mut wanted = 0;
    for (shown, alpn) in [(&client, ALPN_CLIENT), (&peer, ALPN_PEER)] {
        let dial = || async {
            dial_raw(&node, &authorities.nodes, Some(shown), alpn)
                .await
                .expect("accepted")
        };
        for (name, small, bulk) in hostile_bytes() {
            let (_endpoint, connection) = dial().await;
            let mut streams = open_streams(&connection).await.expect("opens");
            streams.small.send.write_all(&small).await.expect("writes");
            streams.bulk.send.write_all(&bulk).await.expect("writes");
            let closed = tokio::time::timeout(PATIENCE, connection.closed()).await;
            let reason = format!("{closed:?}");
            assert!(reason.contains("ApplicationClosed"), "{name}: {reason}");
            wanted += 1;
            counted(&node.counters.hostile_frames, wanted).await;
        }
        // Cut short: the stream ends inside a frame.
        let (_endpoint, connection) = dial().await;
        let mut streams = open_streams(&connection).await.expect("opens");
        streams
            .small
            .send
            .write_all(&[9, 0, 0, 0, 1, 2])
            .await
            .expect("writes");
        streams.small.send.finish().expect("open");
        tokio::time::timeout(PATIENCE, connection.closed())
            .await
            .expect("is closed");
        // Another version of the streams.
        let (_endpoint, connection) = dial().await;
        let (mut send, _recv) = connection.open_bi().await.expect("opens");
        let (mut send_bulk, _recv_bulk) = connection.open_bi().await.expect("opens");
        send.write_all(b"QR\x02\x00").await.expect("writes");
        send_bulk.write_all(b"QR\x02\x01").await.expect("writes");
        tokio::time::timeout(PATIENCE, connection.closed())
            .await
            .expect("is closed");
        wanted += 2;
        counted(&node.counters.hostile_frames, wanted).await;
    }
    // The node goes on for everybody else.
    let endpoint = authorities.endpoint(&client);
    let connection = Connection::connect(&endpoint, &node.target())
        .await
        .expect("accepted");
    let status = connection.call(&wire::Request::Status, PATIENCE).await;
    assert_eq!(status, Ok(Response::Local(None)));
}
