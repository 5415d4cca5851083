//! Operations over a transport that answers by script.

mod lww;

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quorate_ring::{ConsistencyLevel, NodeId};
use tokio::task::JoinSet;

use super::{Client, lock};
use crate::clock::Clock;
use crate::error::{AttemptEnd, ConnectError, NodeError, OperationKind, SeedReason, WriteError};
use crate::multi::WriteItem;
use crate::profile::{Profile, ProfileError};
use crate::resolve::Resolution;
use crate::retry::{GiveUp, RetryBudget};
use crate::testing::{FakeCluster, Fault, topology};
use crate::transport::{BoxFuture, CallCause, CallError, NodeEndpoint, Transport};
use crate::wire::{
    self, Applied, Code, ContextToken, DumpPage, Failure, ItemResult, KEY_BYTES_MAX, LocalRecord,
    OpId, Outcome, Put, Read, ReplicaReport, ReplicaState, Request, Response, VALUE_BYTES_MAX,
};

const MS: Duration = Duration::from_millis(1);

/// What the next call meets.
#[derive(Debug, Clone)]
enum Step {
    /// An answer after this time.
    Answer(Duration, Result<Response, CallError>),
    /// No answer until the attempt's deadline.
    Stuck,
    /// Not even then.
    Broken,
}

#[derive(Debug)]
struct Call {
    node: String,
    request: Request,
    deadline: Duration,
}

/// Plays its steps in order, then answers every write *applied*, alone or in a batch.
#[derive(Debug, Default)]
struct Script {
    steps: Mutex<VecDeque<Step>>,
    calls: Mutex<Vec<Call>>,
}

impl Script {
    fn new(steps: impl IntoIterator<Item = Step>) -> (Arc<Self>, Client) {
        let script = Arc::new(Self {
            steps: Mutex::new(steps.into_iter().collect()),
            calls: Mutex::default(),
        });
        let client = Client::with_transport(Arc::clone(&script) as _, topology(3), 1);
        (script, client.expect("a good topology"))
    }

    fn puts(&self) -> Vec<Put> {
        let calls = lock(&self.calls);
        let puts = calls.iter().filter_map(|call| match &call.request {
            Request::Put(put) => Some(put.clone()),
            _ => None,
        });
        puts.collect()
    }

    fn nodes(&self) -> Vec<String> {
        let calls = lock(&self.calls);
        calls.iter().map(|call| call.node.clone()).collect()
    }
}

impl Transport for Script {
    fn call<'a>(
        &'a self,
        node: &'a NodeEndpoint,
        request: Request,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Response, CallError>> {
        let step = lock(&self.steps).pop_front().unwrap_or(match &request {
            Request::Batch(items) => answer(Response::Batch(vec![
                ItemResult::Applied(an_applied());
                items.len()
            ])),
            _ => applied(),
        });
        lock(&self.calls).push(Call {
            node: node.label().to_owned(),
            request,
            deadline,
        });
        Box::pin(async move {
            match step {
                Step::Answer(after, answer) => {
                    tokio::time::sleep(after).await;
                    answer
                }
                Step::Stuck => {
                    tokio::time::sleep(deadline).await;
                    Err(CallError::Lost(CallCause::TimedOut))
                }
                Step::Broken => std::future::pending().await,
            }
        })
    }
}

fn answer(response: Response) -> Step {
    Step::Answer(MS, Ok(response))
}

fn applied() -> Step {
    answer(Response::Applied(an_applied()))
}

fn an_applied() -> Applied {
    Applied {
        context: Some(ContextToken(vec![1].into())),
        acks: 2,
        superseded_by: None,
    }
}

fn failure(code: Code, outcome: Outcome) -> Failure {
    Failure {
        code,
        outcome,
        acks: 1,
        required: 2,
        replicas: Vec::new(),
        retry_after_ms: 0,
        limit: 0,
    }
}

fn refused(code: Code) -> Step {
    answer(Response::Failure(failure(code, Outcome::NotApplied)))
}

fn quorum_missed() -> Step {
    let failure = failure(Code::QuorumNotReached, Outcome::Unknown);
    answer(Response::Failure(failure))
}

fn not_sent() -> Step {
    let detail = "refused".to_owned();
    Step::Answer(
        MS,
        Err(CallError::NotSent(CallCause::Unreachable { detail })),
    )
}

fn lost() -> Step {
    let detail = "reset".to_owned();
    Step::Answer(MS, Err(CallError::Lost(CallCause::Closed { detail })))
}

#[test]
fn a_client_can_be_shared() {
    fn check<T: Clone + Send + Sync + 'static>() {}
    check::<Client>();
    check::<crate::Keyspace>();
}

#[tokio::test(start_paused = true)]
async fn every_attempt_of_a_write_carries_one_op_id_its_number_and_its_age() {
    let (script, client) = Script::new([lost(), quorum_missed(), not_sent(), applied()]);
    let put = client.keyspace("default").put_blind("k", "v").await;
    assert_eq!(put.expect("the fourth was applied").attempts(), 4);
    let puts = script.puts();
    let ids: BTreeSet<_> = puts.iter().map(|put| put.op_id).collect();
    assert_eq!(ids.len(), 1);
    let numbers: Vec<_> = puts.iter().map(|put| put.attempt).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    assert_eq!(puts[0].age_ms, 0);
    assert!(puts.windows(2).all(|pair| pair[0].age_ms < pair[1].age_ms));
}

#[tokio::test(start_paused = true)]
async fn two_writes_have_two_op_ids() {
    let (script, client) = Script::new([]);
    for _ in 0..2 {
        let put = client.keyspace("default").put_blind("k", "v").await;
        put.expect("applied");
    }
    let puts = script.puts();
    assert_ne!(puts[0].op_id, puts[1].op_id);
}

/// Every sequence of up to three failed attempts, each then ended by a final refusal.
#[tokio::test(start_paused = true)]
async fn outcome_is_over_all_attempts() {
    let kinds: [(fn() -> Step, Outcome); 5] = [
        (not_sent, Outcome::NotApplied),
        (lost, Outcome::Unknown),
        (|| Step::Stuck, Outcome::Unknown),
        (|| refused(Code::NotReady), Outcome::NotApplied),
        (quorum_missed, Outcome::Unknown),
    ];
    let mut sequences: Vec<Vec<usize>> = vec![vec![]];
    for length in 0..3 {
        let longest = sequences.iter().filter(|s| s.len() == length).cloned();
        for sequence in longest.collect::<Vec<_>>() {
            sequences.extend((0..kinds.len()).map(|kind| [sequence.clone(), vec![kind]].concat()));
        }
    }
    assert_eq!(sequences.len(), 1 + 5 + 25 + 125);
    for sequence in sequences {
        let steps = sequence.iter().map(|kind| kinds[*kind].0());
        let (_, client) = Script::new(steps.chain([refused(Code::TooManySiblings)]));
        let keyspace = client.keyspace("default");
        let put = keyspace.put_blind("k", "v").deadline(MS * 10_000).await;
        let error = put.expect_err("the last attempt was refused for good");
        let outcomes: Vec<_> = sequence.iter().map(|kind| kinds[*kind].1).collect();
        let want = if outcomes.contains(&Outcome::Unknown) {
            Outcome::Unknown
        } else {
            Outcome::NotApplied
        };
        assert_eq!(error.outcome(), want, "{sequence:?}: {error}");
        assert_eq!(error.failure().attempts.len(), sequence.len() + 1);
        let said = error.code() == Code::TooManySiblings;
        assert_eq!(said, want == Outcome::NotApplied, "{sequence:?}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stuck_node_does_not_eat_the_whole_deadline() {
    let (script, client) = Script::new([Step::Stuck, applied()]);
    let clock = Clock::start();
    let start = clock.now();
    let put = client.keyspace("default").put_blind("k", "v").await;
    put.expect("the second node answered");
    let took = clock.now().since(start);
    assert!(took < MS * 700, "{took:?}");
    let nodes = script.nodes();
    assert_ne!(nodes[0], nodes[1]);
}

#[tokio::test(start_paused = true)]
async fn stuck_nodes_end_at_the_deadline_and_not_later() {
    for stuck in [Step::Stuck, Step::Broken] {
        let (script, client) = Script::new(std::iter::repeat_n(stuck, 100));
        let clock = Clock::start();
        let start = clock.now();
        let put = client.keyspace("default").put_blind("k", "v");
        let error = put.deadline(MS * 900).await.expect_err("nobody answers");
        assert_eq!(error.outcome(), Outcome::Unknown);
        assert_eq!(error.code(), Code::DeadlineExceeded);
        assert_eq!(error.failure().gave_up, GiveUp::Deadline);
        let took = clock.now().since(start);
        assert!(took >= MS * 900 && took <= MS * 910, "{took:?}");
        let deadlines: Vec<_> = lock(&script.calls).iter().map(|c| c.deadline).collect();
        assert!((4..=8).contains(&deadlines.len()), "{deadlines:?}");
        assert!(deadlines.iter().all(|deadline| *deadline <= MS * 300));
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_deadline_sends_nothing_that_could_be_applied() {
    let (_, client) = Script::new([Step::Stuck]);
    let put = client.keyspace("default").put_blind("k", "v");
    let error = put.deadline(Duration::ZERO).await.expect_err("no time");
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert_eq!(error.outcome(), Outcome::NotApplied);
}

#[tokio::test(start_paused = true)]
async fn the_servers_advice_is_waited_for() {
    let mut overloaded = failure(Code::Overloaded, Outcome::NotApplied);
    overloaded.retry_after_ms = 400;
    let (_, client) = Script::new([answer(Response::Failure(overloaded))]);
    let clock = Clock::start();
    let start = clock.now();
    let put = client.keyspace("default").put_blind("k", "v").await;
    put.expect("the second attempt was applied");
    assert!(clock.now().since(start) >= MS * 400);
}

#[tokio::test(start_paused = true)]
async fn unavailable_is_believed_when_two_nodes_said_it() {
    let steps = std::iter::repeat_with(|| refused(Code::Unavailable)).take(9);
    let (script, client) = Script::new(steps);
    let put = client.keyspace("default").put_blind("k", "v").await;
    let error = put.expect_err("no node can");
    assert_eq!(error.outcome(), Outcome::NotApplied);
    let nodes = script.nodes();
    assert_eq!(nodes.len(), 2);
    assert_eq!(BTreeSet::from_iter(nodes).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_ends_retries_but_not_first_attempts() {
    let (script, client) = Script::new(std::iter::repeat_with(lost).take(50));
    let spent = (0..).take_while(|_| lock(&client.shared.budget).take());
    assert_eq!(u32::try_from(spent.count()), Ok(RetryBudget::RETRIES_MAX));
    let put = client.keyspace("default").put_blind("k", "v").await;
    let error = put.expect_err("it was lost and not tried again");
    assert_eq!(error.failure().gave_up, GiveUp::Budget);
    assert_eq!(script.nodes().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_holds_back_what_nodes_would_refuse_and_says_so() {
    let overloaded = std::iter::repeat_with(|| refused(Code::Overloaded));
    let (script, client) = Script::new(overloaded.take(1_000));
    let keyspace = client.keyspace("default");
    let mut held_back = Vec::new();
    for _ in 0..400 {
        let put = keyspace.put_blind("k", "v").attempts_max(1).await;
        let error = put.expect_err("no node takes anything");
        assert_eq!(
            (error.code(), error.outcome()),
            (Code::Overloaded, Outcome::NotApplied)
        );
        if error.failure().gave_up == GiveUp::HeldBack {
            held_back.push(error);
        }
    }
    let sent = script.nodes().len();
    assert_eq!(sent + held_back.len(), 400);
    assert!((100..300).contains(&sent), "{sent} were sent");
    let first = held_back.first().expect("some were held back");
    assert_eq!(first.failure().attempt_count, 0);
    assert!(first.retry_after().is_some());
    let said = first.to_string();
    assert!(said.contains("holds back"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_refused_counts_as_one_request() {
    // Three requests, one per node, are refused; then everything is done.
    let (script, client) =
        Script::new(std::iter::repeat_with(|| refused(Code::Overloaded)).take(3));
    let puts = (0..1_000).map(|key| WriteItem::put_blind(format!("{key}"), "v"));
    let ends = client.keyspace("default").multi_put(puts.collect()).await;
    let ends = ends.expect("a good batch");
    let failed = ends.iter().filter(|end| end.is_err()).count();
    assert_eq!(failed, 0, "{:?}", ends.iter().find(|end| end.is_err()));
    assert!(script.nodes().len() > 3);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_is_tried_elsewhere_without_budget() {
    let (_, client) = Script::new([not_sent(), not_sent()]);
    while lock(&client.shared.budget).take() {}
    let put = client.keyspace("default").put_blind("k", "v").await;
    put.expect("the third node took it");
}

#[tokio::test(start_paused = true)]
async fn a_broken_node_is_passed_over_by_the_next_operations() {
    let (script, client) = Script::new([not_sent()]);
    for _ in 0..20 {
        let put = client.keyspace("default").put_blind("k", "v").await;
        put.expect("applied");
    }
    let nodes = script.nodes();
    let broken = &nodes[0];
    assert!(!nodes[1..].contains(broken), "{nodes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_operation_is_no_longer_in_flight() {
    let (script, client) = Script::new(std::iter::repeat_n(Step::Broken, 30));
    for _ in 0..30 {
        let put = client.keyspace("default").put_blind("k", "v");
        let dropped = tokio::time::timeout(MS, put.into_future()).await;
        assert!(dropped.is_err());
    }
    let counts = ["1", "2", "3"].map(|node| script.nodes().iter().filter(|n| *n == node).count());
    assert_eq!(counts.iter().sum::<usize>(), 30);
    assert!(counts.iter().all(|count| *count >= 5), "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn bad_arguments_are_refused_before_anything_is_sent() {
    let (script, client) = Script::new([]);
    let ks = client.keyspace("default");
    let nowhere = client.keyspace("No Keyspace");
    let cases = [
        (nowhere.put_blind("k", "v"), Code::KeyspaceUnknown),
        (ks.put_blind("", "v"), Code::KeyInvalid),
        (
            ks.put_blind(vec![0; KEY_BYTES_MAX + 1], "v"),
            Code::KeyInvalid,
        ),
        (ks.delete_blind(""), Code::KeyInvalid),
        (
            ks.put_blind("k", vec![0; VALUE_BYTES_MAX + 1]),
            Code::ValueTooLarge,
        ),
        (
            ks.put_blind("k", "v").level(ConsistencyLevel::Write(4)),
            Code::LevelImpossible,
        ),
        (
            ks.put_blind("k", "v").level(ConsistencyLevel::Write(0)),
            Code::LevelImpossible,
        ),
        (
            ks.put_blind("k", "v").level(ConsistencyLevel::Read(2)),
            Code::LevelImpossible,
        ),
    ];
    for (write, code) in cases {
        let error = write.await.expect_err("refused");
        assert_eq!((error.code(), error.outcome()), (code, Outcome::NotApplied));
    }
    let error = ks.get("").await.expect_err("refused");
    assert_eq!(error.code(), Code::KeyInvalid);
    assert!(script.nodes().is_empty());
    let longest = ks.put_blind(vec![0; KEY_BYTES_MAX], vec![0; VALUE_BYTES_MAX]);
    longest.await.expect("the limits themselves are allowed");
}

#[tokio::test(start_paused = true)]
async fn a_put_after_a_write_without_context_never_becomes_a_sibling() {
    let bare = Applied {
        context: None,
        acks: 3,
        superseded_by: None,
    };
    let (script, client) = Script::new([answer(Response::Applied(bare))]);
    let ks = client.keyspace("default");
    let written = ks.put_blind("k", "v").await.expect("applied");
    let error = ks.put("k", "w").after(&written).await.expect_err("refused");
    assert_eq!(error.code(), Code::ContextInvalid);
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert_eq!(script.nodes().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_older_topology_is_refreshed_and_the_operation_goes_on() {
    let mut newer = topology(3);
    newer.number += 1;
    let steps = [
        refused(Code::EpochMismatch),
        answer(Response::Topology(newer)),
        applied(),
    ];
    let (_, client) = Script::new(steps);
    let put = client.keyspace("default").put_blind("k", "v").await;
    put.expect("applied");
    assert_eq!(client.topology().info().number, 2);
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_another_question_is_unknown() {
    let read = Response::Read(Read {
        values: Vec::new(),
        context: ContextToken(vec![1].into()),
        replicas: 2,
        stamp: None,
    });
    let (_, client) = Script::new([answer(read), refused(Code::TooManySiblings)]);
    let put = client.keyspace("default").put_blind("k", "v").await;
    assert!(matches!(put, Err(WriteError::Unknown(_))), "{put:?}");
}

#[tokio::test(start_paused = true)]
async fn an_error_says_what_happened_what_became_of_it_and_what_to_do() {
    let mut missed = failure(Code::QuorumNotReached, Outcome::Unknown);
    let part = |node, state| ReplicaReport { node, state };
    missed.replicas = vec![
        part(1, ReplicaState::Confirmed),
        part(2, ReplicaState::Silent),
        part(3, ReplicaState::Down),
    ];
    let missed = answer(Response::Failure(missed));
    let (_, client) = Script::new([missed, refused(Code::RoleRefused)]);
    let put = client.keyspace("default").put_blind("k\n", "v").await;
    let error = put.expect_err("it failed");
    assert_eq!((error.acks(), error.required()), (1, 2));
    assert_eq!(error.replicas().len(), 3);
    let text = error.to_string();
    let parts = [
        r"put of `k\n` in keyspace `default` has an unknown outcome: 1 of 2 replicas confirmed",
        "(node 1 confirmed, node 2 silent, node 3 down), 2 attempts, the last at node ",
        ": ROLE_REFUSED; it may be on some replicas and may still become visible: ask with `resolve`",
        "(QUORUM_NOT_REACHED)",
    ];
    for part in parts {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connect_error_names_each_seed_and_why() {
    let mut foreign = topology(3);
    foreign.cluster_id = [9; 16];
    let steps = [
        not_sent(),
        answer(Response::Topology(foreign)),
        Step::Broken,
        refused(Code::NotReady),
    ];
    let (script, _) = Script::new(steps);
    let connecting = Client::builder()
        .seeds(["a:1", "b:2", "c:3", "d:4"])
        .cluster_id("07070707070707070707070707070707".parse().expect("an id"))
        .transport(script)
        .random_seed(3)
        .connect();
    let error = connecting.await.expect_err("no seed is usable");
    let text = error.to_string();
    for seed in ["a:1: ", "b:2: ", "c:3: ", "d:4: "] {
        assert!(text.contains(seed), "{text}");
    }
    let reasons: Vec<_> = error.seeds().iter().map(|seed| &seed.reason).collect();
    assert!(matches!(
        reasons.as_slice(),
        [
            SeedReason::Call(CallError::NotSent(_)),
            SeedReason::OtherCluster { .. },
            SeedReason::Call(CallError::Lost(CallCause::TimedOut)),
            SeedReason::Refused(Code::NotReady),
        ]
    ));
}

#[tokio::test(start_paused = true)]
async fn one_seed_that_answers_is_enough() {
    let (script, _) = Script::new([not_sent(), answer(Response::Topology(topology(3)))]);
    let builder = Client::builder().seeds(["a:1", "b:2"]).random_seed(1);
    let client = builder.transport(script).connect().await;
    let client = client.expect("the second seed answered");
    assert_eq!(client.topology().info().nodes.len(), 3);
    let nobody = Client::builder().connect().await;
    assert!(matches!(nobody, Err(ConnectError::NoSeeds)));
}

#[tokio::test(start_paused = true)]
async fn a_seed_that_is_silent_is_not_waited_for() {
    let (script, _) = Script::new([Step::Broken, answer(Response::Topology(topology(3)))]);
    let clock = Clock::start();
    let start = clock.now();
    let builder = Client::builder().seeds(["a:1", "b:2"]).random_seed(1);
    let client = builder.transport(script).connect().await;
    client.expect("the second seed answered");
    let took = clock.now().since(start);
    assert!(took <= MS * 110, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_when_the_deadline_passed_says_so() {
    let (_, client) = Script::new([not_sent()]);
    let put = client.keyspace("default").put_blind("k", "v");
    let error = put.deadline(MS).await.expect_err("no time");
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert_eq!(error.outcome(), Outcome::NotApplied);
}

#[tokio::test(start_paused = true)]
async fn unavailable_is_believed_of_one_node_if_no_other_is_reached() {
    let steps = [not_sent(), refused(Code::Unavailable), not_sent()];
    let (script, client) = Script::new(steps);
    let put = client.keyspace("default").put_blind("k", "v").await;
    assert_eq!(put.expect_err("no node can").code(), Code::Unavailable);
    assert_eq!(script.nodes().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_said_to_be_down_is_asked_last() {
    for down in 1..=3 {
        let mut told = failure(Code::Unavailable, Outcome::NotApplied);
        let state = ReplicaState::Down;
        told.replicas = vec![ReplicaReport { node: down, state }];
        let steps = std::iter::repeat_n(answer(Response::Failure(told)), 3);
        let (script, client) = Script::new(steps);
        let put = client.keyspace("default").put_blind("k", "v").await;
        assert_eq!(put.expect_err("no node can").code(), Code::Unavailable);
        assert_ne!(script.nodes()[1], down.to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn a_dump_merges_the_pages_of_all_vnodes_in_key_order() {
    let record = |key: &'static str| LocalRecord {
        keyspace: 1,
        key: key.into(),
        record: "r".into(),
    };
    let page = |records, end| answer(Response::Dump(DumpPage { records, end }));
    let (_, probe) = Script::new([]);
    let vnodes = usize::try_from(probe.topology().ring().vnode_count().get()).expect("it fits");
    // The first vnode has two pages, the second one, the others none.
    let mut steps = vec![
        page(vec![record("a"), record("d")], false),
        page(vec![record("b"), record("f")], true),
    ];
    steps.extend((2..vnodes).map(|_| page(vec![], true)));
    steps.push(page(vec![record("e")], true));
    let (script, client) = Script::new(steps);
    let mut pages = client.dump_local("2").expect("a node");
    let mut keys = vec![];
    while let Some(page) = pages.next_page().await.expect("a page") {
        keys.extend(page.into_iter().map(|record| record.key));
    }
    assert_eq!(keys, ["a", "b", "d", "e", "f"]);
    let calls = lock(&script.calls);
    let Some(Request::DumpLocal(again)) = calls.get(vnodes).map(|call| &call.request) else {
        panic!("{calls:?}");
    };
    assert_eq!((again.vnode, again.after.as_ref()), (0, Some(&"d".into())));
    assert!(calls.iter().all(|call| call.node == "2"));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_node_is_named_with_those_that_there_are() {
    let (_, client) = Script::new([]);
    let error = client.status("9").await.expect_err("no such node");
    assert!(matches!(error, NodeError::Unknown { .. }));
    assert!(error.to_string().contains("1, 2, 3"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn owners_are_those_of_the_ring() {
    let (_, client) = Script::new([]);
    let owners = client.local_owners("default", b"k").expect("a keyspace");
    assert_eq!(BTreeSet::from_iter(&owners.primaries).len(), 3);
    assert!(owners.fallbacks.is_empty());
    assert_eq!(client.local_owners("nothing", b"k"), None);
    assert!(client.topology().endpoint(NodeId(1)).is_some());
}

#[tokio::test(start_paused = true)]
async fn retries_through_lost_answers_leave_one_value() {
    let cluster = FakeCluster::new();
    let ks = cluster.client(1).keyspace("default");
    for node in ["1", "2", "3"] {
        cluster.break_node(node, Some(Fault::AnswerLost));
    }
    let put = ks.put_blind("k", "v").deadline(MS * 200).await;
    assert!(matches!(put, Err(WriteError::Unknown(_))), "{put:?}");
    assert!(cluster.calls().len() > 3);
    for node in ["1", "2", "3"] {
        cluster.break_node(node, None);
    }
    assert_eq!(ks.get("k").await.expect("read").values(), ["v"]);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_operations_share_one_handle() {
    let cluster = FakeCluster::new();
    let client = cluster.client(1);
    cluster.break_node("2", Some(Fault::Stuck));
    let mut tasks = JoinSet::new();
    for index in 0..1000 {
        let ks = client.keyspace("default");
        tasks.spawn(async move { ks.put_blind(format!("k{index}"), "v").await });
    }
    let results = tasks.join_all().await;
    assert!(results.iter().all(Result::is_ok), "one stuck node of three");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_ends_at_its_own_deadline_and_the_next_node_is_asked() {
    let (script, client) = Script::new([Step::Stuck, Step::Stuck, applied()]);
    let put = client.keyspace("default").put_blind("k", "v");
    let put = put.attempt_deadline(MS * 20).with_diagnostics().await;
    let written = put.expect("the third node answers");
    let diagnostics = written.diagnostics().expect("they were asked for");
    assert_eq!(diagnostics.attempt_count, 3);
    assert!(diagnostics.took < MS * 100, "{diagnostics}");
    let nodes: Vec<&str> = diagnostics.attempts.iter().map(|a| &*a.node).collect();
    assert_eq!(nodes, script.nodes());
    let times: Vec<_> = diagnostics.attempts.iter().map(|a| a.took).collect();
    assert!(
        times[0] >= MS * 20 && times[1] >= MS * 20 && times[2] < MS * 5,
        "{times:?}"
    );
    assert_eq!(diagnostics.attempts[2].end, AttemptEnd::Succeeded);
    assert!(
        lock(&script.calls)
            .iter()
            .all(|call| call.deadline <= MS * 20)
    );
}

#[tokio::test(start_paused = true)]
async fn attempts_are_bounded_and_a_failure_tells_each_with_its_times() {
    let (script, client) = Script::new([lost(), quorum_missed(), applied()]);
    let put = client
        .keyspace("default")
        .put_blind("k", "v")
        .attempts_max(2);
    let error = put.await.expect_err("two attempts are not enough");
    assert_eq!(script.puts().len(), 2);
    let failure = error.failure();
    assert_eq!(failure.gave_up, GiveUp::Attempts);
    assert_eq!(failure.outcome, Outcome::Unknown);
    assert_eq!(failure.attempts.len(), 2);
    assert!(failure.attempts[1].after >= failure.attempts[0].took);
    assert!(failure.took >= MS * 2);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_told_of_a_success_that_did_not_ask() {
    let (_, client) = Script::new([]);
    let put = client.keyspace("default").put_blind("k", "v").await;
    assert_eq!(put.expect("applied").diagnostics(), None);
}

#[tokio::test(start_paused = true)]
async fn a_profile_is_followed_when_it_changes_and_a_call_stands_above_it() {
    let (script, client) = Script::new([]);
    let slow = Profile::default().write_level(ConsistencyLevel::All);
    client.set_profile("p", slow).expect("usable");
    let ks = client.keyspace("default").profile("p").expect("it is set");
    ks.put_blind("k", "v").await.expect("applied");
    let fast = slow.write_level(ConsistencyLevel::One).deadline(MS * 30);
    client.set_profile("p", fast).expect("usable");
    ks.put_blind("k", "v").await.expect("applied");
    let own = ks.put_blind("k", "v").level(ConsistencyLevel::Two);
    own.await.expect("applied");
    let levels: Vec<_> = script.puts().iter().map(|put| put.level).collect();
    assert_eq!(
        levels,
        [wire::Level::All, wire::Level::One, wire::Level::Two]
    );
    let unusable = client.set_profile("p", fast.attempts_max(0));
    assert!(matches!(unusable, Err(ProfileError::Unusable { .. })));
    let unknown = client
        .keyspace("default")
        .profile("q")
        .expect_err("not set");
    assert!(
        unknown.to_string().contains("the profiles are p"),
        "{unknown}"
    );
}

/// Whatever becomes of the question, the write stays *unknown*: never *not applied*.
#[tokio::test(start_paused = true)]
async fn a_resolve_that_fails_says_unknown_whatever_the_attempts_say() {
    let steps: [fn() -> Step; 4] = [
        not_sent,
        lost,
        || refused(Code::NotReady),
        || refused(Code::KeyspaceUnknown),
    ];
    for step in steps {
        let (script, client) = Script::new(std::iter::repeat_with(step).take(1000));
        let asked = client.keyspace("default").resolve("k", OpId([9; 16]));
        let Resolution::Unknown(failure) = asked.deadline(MS * 100).await else {
            panic!("nobody said applied");
        };
        assert_eq!(failure.outcome, Outcome::Unknown);
        assert_eq!(failure.op_id, Some(OpId([9; 16])));
        assert_eq!(failure.kind, OperationKind::Resolve);
        assert!(
            failure.to_string().contains("may still become visible"),
            "{failure}"
        );
        assert!(script.puts().is_empty());
    }
    let (_, client) = Script::new([]);
    let asked = client.keyspace("default").resolve("", OpId([9; 16]));
    assert!(!asked.await.is_applied(), "an empty key is none");
}

#[tokio::test(start_paused = true)]
async fn a_session_asks_with_what_it_has_seen_and_at_more_replicas_where_a_token_is_missing() {
    let untold = answer(Response::Applied(Applied {
        context: None,
        acks: 1,
        superseded_by: None,
    }));
    let read = || {
        answer(Response::Read(Read {
            values: Vec::new(),
            context: ContextToken(vec![2].into()),
            replicas: 3,
            stamp: None,
        }))
    };
    let (script, client) = Script::new([applied(), read(), untold, read(), read()]);
    let session = client.session();
    let ks = client.keyspace("default").in_session(&session);
    ks.put_blind("k", "v").await.expect("applied");
    let one = || ks.get("k").level(ConsistencyLevel::One);
    one().await.expect("read");
    ks.put_blind("k", "v")
        .await
        .expect("applied without a token");
    one().await.expect("read");
    one().await.expect("read");
    let calls = lock(&script.calls);
    let gets: Vec<_> = calls
        .iter()
        .filter_map(|call| match &call.request {
            Request::SessionGet(get) => Some((get.level, get.covers.clone())),
            _ => None,
        })
        .collect();
    let token = |byte| vec![ContextToken(vec![byte].into())];
    let want = [
        (wire::Level::One, token(1)),
        // One replica of three holds it: only all three are sure to meet it.
        (wire::Level::Exactly(3), token(2)),
        (wire::Level::One, token(2)),
    ];
    assert_eq!(gets, want);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_node_costs_one_hedge() {
    let cluster = FakeCluster::new();
    let keyspace = cluster.client(1).keyspace("default");
    for index in 0..50 {
        keyspace
            .put_blind(format!("{index}"), "v")
            .await
            .expect("all answer");
    }
    cluster.break_node("2", Some(Fault::Stuck));
    let before = cluster.calls().len();
    let clock = Clock::start();
    let mut slowest = Duration::ZERO;
    let started = clock.now();
    for index in 0..50 {
        let asked = clock.now();
        let read = keyspace.get(format!("{index}")).await.expect("two answer");
        assert_eq!(read.values().len(), 1);
        slowest = slowest.max(clock.now().since(asked));
    }
    assert!(slowest <= Duration::from_millis(50), "{slowest:?}");
    // It is asked again only to see whether it is back.
    assert!(clock.now().since(started) <= Duration::from_millis(100));
    assert!(cluster.calls().len() - before <= 52);
}

#[tokio::test(start_paused = true)]
async fn a_hedged_write_is_one_write() {
    let cluster = FakeCluster::new();
    let keyspace = cluster.client(1).keyspace("default");
    cluster.break_node("1", Some(Fault::Late));
    for index in 0..12 {
        keyspace
            .put_blind(format!("{index}"), "v")
            .await
            .expect("two answer");
    }
    assert!(cluster.calls().len() > 12, "a hedge went out");
    for index in 0..12 {
        let read = keyspace.get(format!("{index}")).await.expect("two answer");
        assert_eq!(read.values().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn hedges_stay_within_their_budget_when_every_node_is_slow() {
    let cluster = FakeCluster::new();
    let keyspace = cluster.client(1).keyspace("default");
    ["1", "2", "3"]
        .iter()
        .for_each(|node| cluster.break_node(node, Some(Fault::Stuck)));
    let get = keyspace.get("k").deadline(Duration::from_millis(200));
    let failure = get.await.expect_err("nobody answers").failure().clone();
    assert_eq!(failure.outcome, Outcome::NotApplied);
    assert!(cluster.calls().len() <= 6, "{}", cluster.calls().len());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_while_its_hedge_is_open_changes_nothing_for_the_caller() {
    let lost_later = Step::Answer(
        MS * 60,
        Err(CallError::Lost(CallCause::Closed {
            detail: "reset".to_owned(),
        })),
    );
    let applied = Response::Applied(Applied {
        context: None,
        acks: 2,
        superseded_by: None,
    });
    let (script, client) = Script::new([lost_later, Step::Answer(MS * 50, Ok(applied))]);
    let clock = Clock::start();
    let start = clock.now();
    let put = client.keyspace("default").put_blind("k", "v").await;
    put.expect("the hedge is applied");
    // 40 ms until the hedge, as nothing was measured, and the hedge's own 50 ms.
    let took = clock.now().since(start);
    assert!(took >= MS * 90 && took < MS * 93, "{took:?}");
    let puts = script.puts();
    assert_eq!(puts.len(), 2);
    assert_eq!(puts[0].op_id, puts[1].op_id);
    assert_eq!((puts[0].attempt, puts[1].attempt), (1, 2));
    assert!(puts[1].age_ms >= 40);
}

#[tokio::test(start_paused = true)]
async fn no_hedge_goes_out_while_the_nodes_say_that_they_are_overloaded() {
    let overloaded = failure(Code::Overloaded, Outcome::NotApplied);
    let applied = Response::Applied(Applied {
        context: None,
        acks: 2,
        superseded_by: None,
    });
    let (script, client) = Script::new([
        answer(Response::Failure(overloaded)),
        Step::Answer(MS * 90, Ok(applied)),
    ]);
    let put = client.keyspace("default").put_blind("k", "v").await;
    put.expect("the second attempt is applied");
    assert_eq!(script.puts().len(), 2, "late, but within 100 ms and closed");
}

#[tokio::test(start_paused = true)]
async fn operations_over_the_bound_wait_in_order_and_are_never_sent_if_no_turn_comes() {
    let script = Arc::new(Script::default());
    let slow = Step::Answer(300 * MS, Ok(Response::Applied(an_applied())));
    let told = answer(Response::Topology(topology(1)));
    lock(&script.steps).extend([told, slow]);
    let client = Client::builder().seeds(["n1:1"]).in_flight_max(1);
    let client = client.transport(Arc::clone(&script) as _).connect().await;
    let client = client.expect("the seed answers");
    let keyspace = client.keyspace("default");
    let clock = Clock::start();
    let at = || Duration::from_micros(clock.now().as_micros());
    let put = |key: &'static str, deadline| {
        let put = keyspace.put_blind(key, "v").deadline(deadline);
        async move { (put.await, at()) }
    };
    let ((first, _), (second, second_at), (third, third_at), (fourth, fourth_at)) = tokio::join!(
        put("first", 2_000 * MS),
        put("second", 2_000 * MS),
        put("third", 400 * MS),
        put("fourth", 2_000 * MS),
    );
    first.expect("it has the turn");
    second.expect("its turn comes");
    fourth.expect("behind one that gave up");
    assert!(
        second_at >= 300 * MS && second_at <= fourth_at,
        "{second_at:?} {fourth_at:?}"
    );
    let error = third.expect_err("no turn came");
    assert!(third_at >= 200 * MS && third_at < 300 * MS, "{third_at:?}");
    let failure = error.failure();
    assert_eq!(
        (error.code(), error.outcome()),
        (Code::Overloaded, Outcome::NotApplied)
    );
    assert_eq!(
        (failure.gave_up, failure.attempt_count),
        (GiveUp::NoTurn, 0)
    );
    assert!(error.to_string().contains("in_flight_max"), "{error}");
    let sent: Vec<_> = script.puts().into_iter().map(|put| put.key).collect();
    assert_eq!(sent, ["first", "second", "fourth"]);
    let batch = keyspace.multi_put(vec![WriteItem::put_blind("many", "v")]);
    let ends = batch.await.expect("a batch");
    assert!(ends.iter().all(Result::is_ok), "a batch has a turn too");
}
