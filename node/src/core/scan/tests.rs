//! Pages of scans: whom they ask, and what they make of the answers.

use super::*;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);
const T0: MonoTime = MonoTime::ZERO;

fn at(ms: u64) -> MonoTime {
    MonoTime::from_micros(ms * 1000)
}

/// Four vnodes, all owned by A, B and C.
fn plan(required: u8, rows_max: usize) -> ScanPlan {
    ScanPlan {
        required,
        rows_max,
        owners: (0..4).map(|v| (VnodeId(v), vec![A, B, C])).collect(),
        trusts_uncounted: None,
        deadline: at(1000),
    }
}

fn whole(vnode: u16, key: &'static str, record: &'static str) -> ScanRow {
    ScanRow {
        vnode: VnodeId(vnode),
        key: Bytes::from_static(key.as_bytes()),
        content: RowContent::Whole(Bytes::from_static(record.as_bytes())),
    }
}

fn digest_row(vnode: u16, key: &'static str, record: &'static str) -> ScanRow {
    let content = RowContent::Digest(digest(
        VnodeId(vnode),
        &Bytes::from_static(key.as_bytes()),
        &Bytes::from_static(record.as_bytes()),
    ));
    ScanRow {
        content,
        ..whole(vnode, key, record)
    }
}

fn digest(_: VnodeId, key: &Bytes, record: &Bytes) -> Digest {
    let bytes = key.iter().chain(record.iter());
    Digest(bytes.fold(7, |sum: u128, byte| {
        sum.wrapping_mul(31) + u128::from(*byte)
    }))
}

fn part(rows: &[ScanRow], until: Option<&'static str>) -> ScanPart {
    ScanPart {
        rows: rows.to_vec(),
        until: until.map(|until| Bytes::from_static(until.as_bytes())),
        uncounted: VnodeSet::default(),
    }
}

fn started(plan: ScanPlan) -> (ScanMachine, Vec<ScanStep>) {
    let (mut machine, mut steps) = (ScanMachine::new(plan), Vec::new());
    machine.start(T0, &mut steps);
    (machine, steps)
}

fn asked(machine: &ScanMachine, steps: &[ScanStep]) -> Vec<(NodeId, usize, usize)> {
    let asks = steps.iter().filter_map(|step| match step {
        ScanStep::Ask(ask) => machine.question(*ask),
        ScanStep::Collect | ScanStep::Fail(_) => None,
    });
    asks.map(|q| (q.node, q.vnodes.len(), q.whole.len()))
        .collect()
}

fn collected(machine: &ScanMachine) -> (Vec<(String, Option<String>)>, Option<Bytes>) {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let (rows, until) = machine.collect(digest);
    let rows = rows
        .iter()
        .map(|row| (text(&row.key), row.agreed.as_ref().map(text)));
    (rows.collect(), until)
}

#[test]
fn r_nodes_cover_the_ring_and_one_sends_whole_records() {
    let (machine, steps) = started(plan(2, 10));
    assert_eq!(asked(&machine, &steps), [(A, 4, 4), (B, 4, 0)]);
}

#[test]
fn a_page_costs_its_rows_and_not_rows_times_nodes() {
    // Ten nodes in a circle; each vnode has three neighbours.
    let node = |n: u16| NodeId(u32::from(n % 10));
    let owners = |v: u16| (VnodeId(v), vec![node(v), node(v + 1), node(v + 2)]);
    let plan = ScanPlan {
        owners: (0..100).map(owners).collect(),
        ..plan(2, 1000)
    };
    let (machine, steps) = started(plan);
    let rows = |step: &ScanStep| match step {
        ScanStep::Ask(ask) => machine.question(*ask).map_or(0, |q| q.rows_max),
        ScanStep::Collect | ScanStep::Fail(_) => 0,
    };
    assert_eq!(steps.len(), 10);
    let all: usize = steps.iter().map(rows).sum();
    assert!(all < 2 * 1000 * 3 / 2, "{all} rows are shipped for 1,000");
}

#[test]
fn what_two_replicas_hold_is_decided_and_the_page_ends_with_the_shortest_answer() {
    let (mut machine, mut steps) = started(plan(2, 10));
    steps.clear();
    let rows = [whole(0, "a", "1"), whole(1, "b", "2"), whole(0, "c", "3")];
    machine.answered(at(1), A, 0, part(&rows, None), &mut steps);
    assert_eq!(steps, [], "one answer is no quorum");
    let rows = [digest_row(0, "a", "1"), digest_row(1, "b", "2")];
    machine.answered(at(2), B, 1, part(&rows, Some("c")), &mut steps);
    assert_eq!(steps, [ScanStep::Collect]);
    let (rows, until) = collected(&machine);
    let row = |key: &str, record: &str| (key.to_owned(), Some(record.to_owned()));
    assert_eq!(rows, [row("a", "1"), row("b", "2")]);
    assert_eq!(
        until.as_deref(),
        Some(&b"c"[..]),
        "c was seen by one replica only"
    );
}

#[test]
fn a_key_on_which_replicas_differ_is_not_decided() {
    let (mut machine, mut steps) = started(plan(2, 10));
    let rows = [
        whole(0, "a", "old"),
        whole(1, "only-a", "x"),
        whole(2, "same", "s"),
    ];
    machine.answered(at(1), A, 0, part(&rows, None), &mut steps);
    let rows = [
        digest_row(0, "a", "new"),
        digest_row(3, "only-b", "y"),
        digest_row(2, "same", "s"),
    ];
    machine.answered(at(2), B, 1, part(&rows, None), &mut steps);
    let (rows, until) = collected(&machine);
    let undecided = |key: &str| (key.to_owned(), None);
    let same = ("same".to_owned(), Some("s".to_owned()));
    assert_eq!(
        rows,
        [
            undecided("a"),
            undecided("only-a"),
            undecided("only-b"),
            same
        ]
    );
    assert_eq!(until, None);
}

#[test]
fn a_full_page_ends_in_front_of_the_first_key_that_found_no_room() {
    let (mut machine, mut steps) = started(plan(1, 2));
    let rows = [whole(0, "a", "1"), whole(1, "b", "2"), whole(0, "c", "3")];
    machine.answered(at(1), A, 0, part(&rows, None), &mut steps);
    let (rows, until) = collected(&machine);
    assert_eq!(rows.len(), 2);
    assert_eq!(until.as_deref(), Some(&b"c"[..]));
}

#[test]
fn a_node_that_refuses_goes_or_is_late_is_replaced() {
    type Trouble = fn(&mut ScanMachine, &mut Vec<ScanStep>);
    let cases: [(&str, Trouble); 3] = [
        ("refuses", |machine, steps| {
            machine.refused(at(1), B, 1, steps)
        }),
        ("is down", |machine, steps| {
            machine.tick(at(1), |node| node == B, steps)
        }),
        ("is late", |machine, steps| {
            machine.answered(at(1), A, 0, part(&[], None), steps);
            machine.tick(T0 + SCAN_WIDEN_AFTER, |_| false, steps);
        }),
    ];
    for (name, trouble) in cases {
        let (mut machine, mut steps) = started(plan(2, 10));
        steps.clear();
        trouble(&mut machine, &mut steps);
        assert_eq!(asked(&machine, &steps), [(C, 4, 0)], "{name}");
    }
}

#[test]
fn the_replacement_of_a_node_that_sends_whole_records_sends_whole_records() {
    let (mut machine, mut steps) = started(plan(2, 10));
    steps.clear();
    machine.refused(at(1), A, 0, &mut steps);
    assert_eq!(asked(&machine, &steps), [(C, 4, 4)]);
}

#[test]
fn an_answer_that_does_not_count_is_asked_for_again() {
    let (mut machine, mut steps) = started(plan(3, 10));
    machine.answered(at(1), A, 0, part(&[], None), &mut steps);
    machine.answered(at(1), B, 1, part(&[], None), &mut steps);
    let uncounted = [VnodeId(2)].into_iter().collect();
    let late = ScanPart {
        uncounted,
        ..part(&[], None)
    };
    steps.clear();
    machine.answered(at(1), C, 2, late, &mut steps);
    assert_eq!(steps, []);
    machine.tick(at(1) + SCAN_ASK_AGAIN_AFTER, |_| false, &mut steps);
    assert_eq!(
        asked(&machine, &steps),
        [(C, 1, 0)],
        "for the vnode concerned alone"
    );
    steps.clear();
    machine.answered(at(90), C, 3, part(&[], None), &mut steps);
    assert_eq!(steps, [ScanStep::Collect]);
}

#[test]
fn a_page_that_cannot_be_made_fails_at_once_or_at_its_deadline() {
    let (mut machine, mut steps) = started(plan(2, 10));
    steps.clear();
    machine.tick(at(1), |node| node != A, &mut steps);
    let [ScanStep::Fail(failure)] = &steps[..] else {
        unreachable!("{steps:?}");
    };
    assert_eq!(failure.cause, Cause::Unavailable);
    let (mut machine, mut steps) = started(plan(2, 10));
    steps.clear();
    machine.tick(at(1000), |_| false, &mut steps);
    let [ScanStep::Fail(failure)] = &steps[..] else {
        unreachable!("{steps:?}");
    };
    assert_eq!(failure.cause, Cause::QuorumNotReached);
}
