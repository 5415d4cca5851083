//! The runs that break a store which leaves a rule of versions out (notes, "Versions and op ids").
//!
//! What a node has to do about V1, V2, V3 and V8 is decided in `node::core`; here are the parts
//! that records decide, and what happens to a record when the node does otherwise.

mod model;

use std::time::Duration;

use bytes::Bytes;
use model::{actor, dot, live, op_id, ops, put};
use quorate_antientropy::{
    Attempt, AttemptVerdict, CONTEXT_BYTES_MAX, Context, Dot, FLAGGED_MAX, Minting, OpStatus, Put,
    PutApplied, PutRefusal, RECORD_BYTES_MAX, Record, SIBLINGS_MAX, SUPERSEDED_MAX, SeenOp,
    SupersededOp,
};

const A: u32 = 0;
const B: u32 = 1;
const C: u32 = 2;
const F: u32 = 3;

fn apply(record: &Record, put: Put) -> Record {
    record.put(put).expect("within limits").record
}

fn first(put: Put) -> Record {
    apply(&Record::default(), put)
}

/// A context of one dot.
fn of(dot: Dot) -> Context {
    let mut context = Context::new();
    context.add_dot_loose(dot);
    context
}

fn over(record: &Record, put: Put) -> Put {
    Put {
        context: Some(record.context().clone()),
        ..put
    }
}

/// `record` after `count` more writes by B, each over all that the one before left.
fn overwritten(mut record: Record, from_op: usize, count: usize) -> Record {
    for op in from_op..from_op + count {
        record = apply(&record, over(&record, put(op, dot(B, 1_000 + op as u64))));
    }
    record
}

#[test]
fn v1_reused_incarnation_is_dropped_and_a_new_one_is_not() {
    let under = |incarnation, counter| Dot {
        actor: actor(A, incarnation),
        counter,
    };
    let peer = first(put(900, under(6, 900)));
    // The restored copy knows nothing of incarnation 6.
    let reused = first(put(1, under(6, 1)));
    assert_eq!(live(&peer.merged(&reused)), ops(&[900]), "the hazard");
    assert!(
        peer.knows_more_of(actor(A, 6), &reused),
        "and how a peer's record shows it"
    );
    let anew = first(put(1, under(7, 1)));
    assert_eq!(live(&peer.merged(&anew)), ops(&[1, 900]));
    assert!(!peer.knows_more_of(actor(A, 7), &anew));
}

#[test]
fn v2_actor_ends_when_its_memory_is_refilled() {
    let x = first(put(1, dot(A, 1)));
    // A is refilled from B's durable view, which has no x yet, and mints on.
    let kept = first(put(2, dot(A, 3)));
    assert_eq!(live(&x.merged(&kept)), ops(&[2]), "the hazard");
    let anew = first(put(
        2,
        Dot {
            actor: actor(A, 2),
            counter: 1,
        },
    ));
    assert_eq!(live(&x.merged(&anew)), ops(&[1, 2]));
    assert!(
        x.knows_more_of(actor(A, 1), &Record::default()),
        "B's record tells A of it"
    );
    assert!(!Record::default().knows_more_of(actor(A, 1), &x));
}

#[test]
fn v3_actor_ends_when_the_vnode_is_given_back() {
    let v0 = first(put(0, dot(A, 2)));
    let blind = |incarnation| {
        first(put(
            9,
            Dot {
                actor: actor(A, incarnation),
                counter: 50,
            },
        ))
    };
    assert_eq!(live(&v0.merged(&blind(1))), ops(&[9]), "the hazard");
    assert_eq!(live(&v0.merged(&blind(2))), ops(&[0, 9]));
}

#[test]
fn v4_fallback_that_forgets_claims_its_dot_alone() {
    let minted = |op, counter| {
        first(Put {
            minting: Minting::Fallback,
            ..put(op, dot(F, counter))
        })
    };
    let (one, two) = (minted(1, 1), minted(2, 2));
    assert_eq!(live(&one.merged(&two)), ops(&[1, 2]));
    // Neighbours are not compacted: 3 may be on its way.
    let four = minted(4, 4);
    let most = one.merged(&two).merged(&four);
    assert_eq!(most.context().vector(), []);
    assert_eq!(live(&most.merged(&minted(3, 3))), ops(&[1, 2, 3, 4]));
    let mut vector = most.context().clone();
    vector.raise(actor(F, 1), 2);
    assert_eq!(
        vector.loose(),
        [dot(F, 4)],
        "a vector that covers them compacts them"
    );
}

#[test]
fn v6_twin_of_a_superseded_operation_is_absorbed() {
    // o = x at A, whose frames never leave; the hedge at B; then y over the hedge.
    let late = first(put(1, dot(A, 1)));
    let hedge = first(Put {
        attempt: Attempt::Later,
        ..put(1, dot(B, 1))
    });
    let y = apply(&hedge, over(&hedge, put(2, dot(B, 2))));
    assert_eq!(live(&y.merged(&late)), ops(&[2]));
    // Many overwrites later the list has forgotten o, and the flagged list has not.
    let hot = overwritten(y, 10, 2 * SUPERSEDED_MAX);
    assert_eq!(hot.superseded().entry(op_id(1)), None);
    assert_eq!(hot.op_status(op_id(1)), OpStatus::Flagged);
    assert_eq!(live(&hot.merged(&late)), live(&hot));
    assert_eq!(live(&late.merged(&hot)), live(&hot));
}

#[test]
fn v6_duplicate_flags_the_operation_that_it_meets() {
    let x = first(put(1, dot(A, 1)));
    assert_eq!(x.note_duplicate(op_id(1), Attempt::First), None);
    let noted = x
        .note_duplicate(op_id(1), Attempt::Later)
        .expect("a flag is new");
    assert_eq!(noted.note_duplicate(op_id(1), Attempt::Later), None);
    assert_eq!(
        (noted.context(), live(&noted)),
        (x.context(), live(&x)),
        "nothing is minted"
    );
    let twin = first(Put {
        attempt: Attempt::Later,
        ..put(1, dot(B, 1))
    });
    let hot = overwritten(noted.clone(), 10, 2 * SUPERSEDED_MAX);
    assert_eq!(live(&hot.merged(&twin)), live(&hot));
    // The same, when the duplicate comes after the supersession.
    let gone = overwritten(x, 10, 1);
    assert_eq!(gone.op_status(op_id(1)), OpStatus::Superseded);
    let noted = gone
        .note_duplicate(op_id(1), Attempt::Later)
        .expect("a flag is new");
    let hot = overwritten(noted, 20, 2 * SUPERSEDED_MAX);
    assert_eq!(live(&hot.merged(&twin)), live(&hot));
}

#[test]
fn v6_op_ids_do_not_act_inside_the_join() {
    let x = first(put(1, dot(A, 1)));
    let twin = first(put(1, dot(B, 1)));
    let lists = apply(&twin, over(&twin, put(2, dot(B, 2))));
    let newer = overwritten(first(put(9, dot(B, 1_000))), 10, SUPERSEDED_MAX + 1);
    assert!(newer.superseded().is_full());
    let left = x.join(&lists).join(&newer);
    let right = x.join(&lists.join(&newer));
    assert_eq!(left, right);
    assert!(
        live(&left).contains(&op_id(1)),
        "the dot is covered by nobody"
    );
}

#[test]
fn v6_operation_that_just_lost_a_dot_is_absorbed_although_its_id_is_evicted_at_once() {
    let twins = first(put(1, dot(A, 1))).merged(&first(put(1, dot(C, 1))));
    assert_eq!(
        twins
            .siblings()
            .iter()
            .map(|s| s.mints().len())
            .collect::<Vec<_>>(),
        [2]
    );
    // A full list of newer ids, whose context covers one of the two dots.
    let seen = first(put(1, dot(A, 1)));
    let newer = overwritten(seen, 10, SUPERSEDED_MAX + 2);
    assert_eq!(newer.op_status(op_id(1)), OpStatus::Unknown);
    assert_eq!(live(&twins.merged(&newer)), live(&newer));
}

/// `put` with the token of a reader of `record`.
fn after_reading(record: &Record, put: Put) -> Put {
    Put {
        seen: record.seen_ops(),
        ..over(record, put)
    }
}

/// The twin is at A alone, where nobody has heard of what became of the other dot; a client that
/// read the superseder writes there. It is in no list of A and its value was never in that read.
#[test]
fn v6_put_drops_the_twin_of_what_was_superseded_before_its_client_read() {
    for (here, there) in [
        // Whether it was tried twice is known only on one side, whichever that is.
        (Attempt::Later, Attempt::First),
        (Attempt::First, Attempt::Later),
    ] {
        let twin = first(Put {
            attempt: here,
            ..put(1, dot(A, 1))
        });
        let other = first(Put {
            attempt: there,
            ..put(1, dot(B, 1))
        });
        let y = apply(&other, after_reading(&other, put(2, dot(B, 2))));
        let z = apply(&twin, after_reading(&y, put(3, dot(A, 2))));
        assert_eq!(live(&z), ops(&[3]));
        // A flag that was known there is known here.
        let hot = overwritten(z, 10, 2 * SUPERSEDED_MAX);
        assert_eq!(hot.op_status(op_id(1)), OpStatus::Flagged);
    }
}

#[test]
fn v6_chain_of_put_replies_drops_the_twin_of_its_first_put() {
    // The record has another sibling, so that replies have what the client knows and no more.
    let other = first(put(9, dot(B, 1)));
    let x = apply(&other, put(1, dot(B, 2)));
    let seen = x.seen_ops_after_write(op_id(1), &[]);
    let y = apply(
        &x,
        Put {
            context: Some(of(dot(B, 2))),
            seen: seen.clone(),
            ..put(2, dot(B, 3))
        },
    );
    assert_eq!(live(&y), ops(&[2, 9]));
    let seen = y.seen_ops_after_write(op_id(2), &seen);
    let twin = first(put(1, dot(A, 1)));
    let z = apply(
        &twin,
        Put {
            context: Some(of(dot(B, 3))),
            seen,
            ..put(3, dot(A, 2))
        },
    );
    assert_eq!(
        live(&z),
        ops(&[3]),
        "its own first put is gone, 9 it never saw"
    );
}

#[test]
fn v9_put_reply_tells_no_operation_that_its_client_never_saw() {
    // f over e is in A's memory only; blind g is told what it may claim; A crashes.
    let e = first(put(1, dot(B, 1)));
    let f = apply(&e, after_reading(&e, put(2, dot(A, 1))));
    let g = apply(&f, put(3, dot(A, 2)));
    let seen = g.seen_ops_after_write(op_id(3), &[]);
    let next = apply(
        &e,
        Put {
            context: Some(of(dot(A, 2))),
            seen,
            ..put(4, dot(B, 2))
        },
    );
    assert_eq!(live(&next), ops(&[1, 4]), "e was acknowledged and stays");
    // The only sibling has all that the record lists in its past.
    let alone = apply(&f, after_reading(&f, put(5, dot(A, 2))));
    assert_eq!(alone.seen_ops_after_write(op_id(5), &[]), alone.seen_ops());
}

#[test]
fn duplicate_that_is_superseded_tells_its_own_operation() {
    let x = first(put(1, dot(B, 1)));
    let y = apply(&x, over(&x, put(2, dot(B, 2))));
    let seen = y.seen_ops_after_write(op_id(1), &[]);
    let twin = first(put(1, dot(A, 1)));
    let next = apply(
        &twin,
        Put {
            seen,
            ..put(3, dot(A, 2))
        },
    );
    assert_eq!(live(&next), ops(&[3]), "the client wrote it");
}

#[test]
fn tokens_tell_as_many_operations_as_lists_keep() {
    let many: Vec<SeenOp> = (100..600)
        .map(|op| SeenOp {
            op: SupersededOp {
                op_id: op_id(op),
                timestamp: op as u64,
            },
            flagged: op < 400,
        })
        .collect();
    let two = apply(&first(put(1, dot(A, 1))), put(2, dot(A, 2)));
    let told = two.seen_ops_after_write(op_id(2), &many);
    let flagged = told.iter().filter(|seen| seen.flagged).count();
    assert_eq!(
        (flagged, told.len() - flagged),
        (FLAGGED_MAX, SUPERSEDED_MAX)
    );
}

#[test]
fn v7_cut_and_flag_commute() {
    // Ids 1 to 64 are superseded, 1 is the oldest and 2 the one that is flagged.
    let full = overwritten(first(put(1, dot(B, 1))), 2, SUPERSEDED_MAX);
    assert!(full.superseded().is_full());
    let flag = |record: &Record| {
        record
            .note_duplicate(op_id(2), Attempt::Later)
            .expect("new")
    };
    let more = |record: &Record| overwritten(record.clone(), 200, 1);
    let flagged_first = more(&flag(&full));
    assert_eq!(flagged_first, flag(&full).merged(&more(&full)));
    assert_eq!(flagged_first, flag(&more(&full)));
    assert_eq!(
        flagged_first.superseded().entry(op_id(1)),
        None,
        "the flag makes no room"
    );
    assert_eq!(flagged_first.superseded().entries().len(), SUPERSEDED_MAX);
    assert!(flagged_first.superseded().entry(op_id(2)).is_some());
}

#[test]
fn v8_duplicate_mints_nothing() {
    let x = first(put(1, dot(A, 1)));
    let retry = Put {
        attempt: Attempt::Later,
        ..put(1, dot(A, 2))
    };
    let young = Duration::from_millis(10);
    assert_eq!(
        x.attempt_verdict(2_000, op_id(1), young),
        AttemptVerdict::Duplicate
    );
    let refused = x.put(retry.clone()).expect_err("a duplicate");
    assert_eq!(
        refused,
        PutRefusal::Duplicate {
            status: OpStatus::Live
        }
    );
    let y = apply(&x, over(&x, put(2, dot(A, 2))));
    let refused = y
        .put(Put {
            dot: dot(A, 3),
            ..retry
        })
        .expect_err("a duplicate");
    assert_eq!(
        refused,
        PutRefusal::Duplicate {
            status: OpStatus::Superseded
        }
    );
}

#[test]
fn v9_put_reply_does_not_cover_siblings_that_its_client_never_saw() {
    let f = first(put(1, dot(A, 1)));
    let PutApplied {
        record,
        reply_context,
    } = f.put(put(2, dot(A, 2))).expect("within limits");
    let token = reply_context.expect("small");
    assert!(token.covers(dot(A, 2)) && !token.covers(dot(A, 1)));
    let next = apply(
        &record,
        Put {
            context: Some(token),
            ..put(3, dot(A, 3))
        },
    );
    assert_eq!(live(&next), ops(&[1, 3]));
    // So does a duplicate's.
    let token = record
        .duplicate_reply_context(op_id(2), None)
        .expect("small");
    assert!(token.covers(dot(A, 2)) && !token.covers(dot(A, 1)));
}

#[test]
fn v9_only_sibling_has_all_of_the_context_in_its_past() {
    let two = first(put(1, dot(A, 1))).merged(&first(put(2, dot(B, 1))));
    let PutApplied {
        record,
        reply_context,
    } = two
        .put(over(&two, put(3, dot(A, 2))))
        .expect("within limits");
    assert_eq!(reply_context.as_ref(), Some(record.context()));
    assert!(record.context().loose().is_empty());
}

#[test]
fn v10_put_that_resolves_too_many_siblings_is_allowed() {
    let blind = |node: u32| {
        (0..80).fold(Record::default(), |record, at| {
            apply(
                &record,
                put(node as usize * 100 + at, dot(node, at as u64 + 1)),
            )
        })
    };
    let both = blind(A).merged(&blind(B));
    assert_eq!(both.siblings().len(), 160, "a merge is never refused");
    assert_eq!(
        both.put(put(900, dot(A, 100))).expect_err("one more"),
        PutRefusal::TooManySiblings { siblings: 161 }
    );
    let resolved = apply(&both, over(&both, put(901, dot(A, 100))));
    assert_eq!(live(&resolved), ops(&[901]));
    // Some of them are enough.
    let some = Put {
        context: Some(blind(A).context().clone()),
        ..put(902, dot(A, 100))
    };
    assert_eq!(apply(&both, some).siblings().len(), 81);
    // So is one that leaves fewer, though still too many; one that leaves as many is not.
    let seen = |count: usize| {
        let mut seen = Context::new();
        both.siblings()
            .iter()
            .take(count)
            .flat_map(|s| s.dots())
            .for_each(|dot| {
                seen.add_dot_loose(dot);
            });
        Put {
            context: Some(seen),
            value: Some(Bytes::from(vec![0; 2_000])),
            ..put(903, dot(A, 100))
        }
    };
    assert_eq!(apply(&both, seen(2)).siblings().len(), 159);
    let refused = both.put(seen(1)).expect_err("no fewer");
    assert_eq!(refused, PutRefusal::TooManySiblings { siblings: 160 });
    let full = (0..SIBLINGS_MAX).fold(Record::default(), |record, at| {
        apply(&record, put(at, dot(A, at as u64 + 1)))
    });
    assert_eq!(full.siblings().len(), SIBLINGS_MAX);
    let refused = full.put(put(900, dot(A, 200))).expect_err("one over");
    assert_eq!(
        refused,
        PutRefusal::TooManySiblings {
            siblings: SIBLINGS_MAX + 1
        }
    );
}

#[test]
fn v10_put_that_shrinks_a_large_record_is_allowed() {
    let value = |bytes: usize| Some(Bytes::from(vec![7; bytes]));
    let large = |op, node| {
        first(Put {
            value: value(RECORD_BYTES_MAX / 2),
            ..put(op, dot(node, 1))
        })
    };
    let both = large(1, A).merged(&large(2, B));
    let more = both.put(put(3, dot(A, 2))).expect_err("more bytes");
    assert!(matches!(more, PutRefusal::RecordTooLarge { bytes } if bytes > RECORD_BYTES_MAX));
    let deleted = apply(
        &both,
        over(
            &both,
            Put {
                value: None,
                ..put(4, dot(A, 2))
            },
        ),
    );
    assert!(deleted.is_not_found(0) && !deleted.context().is_empty());
    let three = both.merged(&large(3, C));
    let less = |bytes| Put {
        context: Some(large(1, A).context().clone()),
        value: value(bytes),
        ..put(5, dot(A, 2))
    };
    assert_eq!(
        live(&apply(&three, less(RECORD_BYTES_MAX / 2 - 200))),
        ops(&[2, 3, 5])
    );
    let as_much = three
        .put(less(RECORD_BYTES_MAX / 2))
        .expect_err("no fewer bytes");
    assert!(matches!(as_much, PutRefusal::RecordTooLarge { .. }));
}

#[test]
fn v10_full_context_refuses_growth_and_allows_a_get_and_a_shrinking_put() {
    let mut context = Context::new();
    (1..=6_000).for_each(|node| context.raise(actor(node, 1), 9));
    assert!(context.encoded_len() > CONTEXT_BYTES_MAX);
    let refused = Record::default()
        .put(Put {
            context: Some(context.clone()),
            ..put(1, dot(A, 1))
        })
        .expect_err("over the limit");
    assert!(matches!(refused, PutRefusal::ContextFull { bytes } if bytes > CONTEXT_BYTES_MAX));
    // Two coordinators apart, each under the limit.
    let half = |nodes: std::ops::Range<u32>, op| {
        let mut seen = Context::new();
        nodes.for_each(|node| seen.raise(actor(node, 1), 9));
        first(Put {
            context: Some(seen),
            ..put(
                op,
                Dot {
                    actor: actor(9_000, op as u64),
                    counter: 1,
                },
            )
        })
    };
    let both = half(1..4_000, 1).merged(&half(4_000..8_000, 2));
    assert!(both.context().encoded_len() > CONTEXT_BYTES_MAX);
    assert_eq!(both.visible(0).count(), 2);
    let blind = both.put(put(3, dot(A, 1))).expect_err("grows");
    assert!(matches!(blind, PutRefusal::ContextFull { .. }));
    let done = both.put(over(&both, put(4, dot(A, 1)))).expect("shrinks");
    assert_eq!(done.record.siblings().len(), 1);
    assert_eq!(done.reply_context, None, "the client must read to go on");
}

#[test]
fn v12_expiry_is_ignored_when_the_clock_may_be_wrong() {
    let short = first(Put {
        expiry: Some(500),
        ..put(1, dot(A, 1))
    });
    assert!(short.is_not_found(500) && !short.is_not_found(499));
    let next = |now_wall| {
        apply(
            &short,
            Put {
                now_wall,
                ..put(2, dot(A, 2))
            },
        )
    };
    assert_eq!(live(&next(Some(500))), ops(&[2]));
    assert_eq!(live(&next(Some(499))), ops(&[1, 2]));
    assert_eq!(live(&next(None)), ops(&[1, 2]));
}

#[test]
fn attempt_that_may_have_been_forgotten_is_too_old() {
    let micros = Duration::from_micros;
    let empty = Record::default();
    assert_eq!(
        empty.attempt_verdict(0, op_id(1), Duration::from_secs(30)),
        AttemptVerdict::Fresh
    );
    let over_30_s = Duration::from_micros(30_000_001);
    assert_eq!(
        empty.attempt_verdict(0, op_id(1), over_30_s),
        AttemptVerdict::TooOld
    );
    let mut hot = overwritten(first(put(1, dot(B, 1))), 2, SUPERSEDED_MAX);
    // The oldest listed id has the timestamp 1,001.
    assert_eq!(
        hot.attempt_verdict(5_000, op_id(999), micros(3_999)),
        AttemptVerdict::Fresh
    );
    assert_eq!(
        hot.attempt_verdict(5_000, op_id(999), micros(4_000)),
        AttemptVerdict::TooOld
    );
    assert_eq!(
        hot.attempt_verdict(5_000, op_id(1), over_30_s),
        AttemptVerdict::Duplicate
    );
    // A list that is not full has forgotten nothing.
    hot = overwritten(first(put(1, dot(B, 1))), 2, SUPERSEDED_MAX - 1);
    assert_eq!(
        hot.attempt_verdict(5_000, op_id(999), micros(4_900)),
        AttemptVerdict::Fresh
    );
}

#[test]
fn dot_that_is_known_is_refused() {
    let x = first(put(1, dot(A, 5)));
    for stale in [dot(A, 0), dot(A, 4), dot(A, 5), dot(A, u64::MAX)] {
        let refused = x.put(put(2, stale)).expect_err("no new dot");
        assert_eq!(refused, PutRefusal::DotNotNew { dot: stale });
    }
    let ahead = Some(first(put(3, dot(B, 9))).context().clone());
    let refused = x
        .put(Put {
            context: ahead,
            ..put(2, dot(B, 9))
        })
        .expect_err("no new dot");
    assert_eq!(refused, PutRefusal::DotNotNew { dot: dot(B, 9) });
}

#[test]
fn twins_fold_into_one_sibling_with_the_greater_timestamp_and_expiry() {
    let mint = |node, timestamp, expiry| {
        first(Put {
            timestamp,
            expiry,
            ..put(1, dot(node, 1))
        })
    };
    let folded = mint(A, 10, Some(300)).merged(&mint(B, 20, Some(200)));
    let [sibling] = folded.siblings() else {
        panic!("one sibling")
    };
    assert_eq!((sibling.timestamp(), sibling.expiry()), (20, Some(300)));
    assert!(!sibling.is_expired(299) && sibling.is_expired(300));
    assert_eq!(sibling.dots().collect::<Vec<_>>(), [dot(A, 1), dot(B, 1)]);
    let forever = folded.merged(&mint(2, 5, None));
    assert_eq!(forever.siblings().first().and_then(|s| s.expiry()), None);
    // A context that covers either dot supersedes it.
    let mut seen = Context::new();
    seen.add_dot_loose(dot(B, 1));
    let next = apply(
        &folded,
        Put {
            context: Some(seen),
            ..put(2, dot(A, 2))
        },
    );
    assert_eq!(live(&next), ops(&[2]));
}

/// What B holds once it has written so often over a write of A that no list knows that one any
/// more.
fn long_after(flagged: bool) -> (Record, Record) {
    let attempt = if flagged {
        Attempt::Later
    } else {
        Attempt::First
    };
    let old = first(Put {
        attempt,
        ..put(1, dot(A, 1))
    });
    let newer = overwritten(old.clone(), 2, SUPERSEDED_MAX + 1);
    assert!(newer.superseded().entry(op_id(1)).is_none());
    (old, newer)
}

fn wrote_in_life_of_a(actor: quorate_ring::Actor) -> bool {
    actor.node.0 == A
}

#[test]
fn p7_entry_that_a_replica_leaves_out_by_itself_lets_back_what_was_superseded() {
    let (old, newer) = long_after(false);
    let prunable = newer.prunable(wrote_in_life_of_a);
    assert_eq!(prunable.entries, [dot(A, 1)]);
    assert!(newer.remembers(&prunable));
    assert!(!old.remembers(&prunable), "there it is a sibling");
    let mut alone = newer.clone();
    assert!(alone.prune(&prunable));
    assert_eq!(live(&newer.merged(&old)), live(&newer));
    let both = alone.merged(&old);
    assert!(both.sibling(op_id(1)).is_some(), "hence the rounds");
    // Who has not left it out brings back the entry and nothing else.
    assert_eq!(alone.merged(&newer), newer);
    assert!(!alone.clone().prune(&prunable), "nothing of it is left");
}

#[test]
fn p7_entry_stays_where_it_covers_later_writes_or_a_sibling() {
    let (_, newer) = long_after(false);
    let prunable = newer.prunable(wrote_in_life_of_a);
    let with = |dot| newer.merged(&first(put(900, dot)));
    let mut later = with(dot(A, 5));
    assert!(later.remembers(&prunable));
    assert!(!later.prune(&prunable), "it is of other writes, too");
    assert!(later.prunable(wrote_in_life_of_a).entries.is_empty());
    let mut straggler = apply(&Record::default(), put(901, dot(A, 1)));
    assert!(!straggler.prune(&prunable));
    assert!(straggler.context().covers(dot(A, 1)));
}

#[test]
fn p7_loose_dots_are_left_out_one_by_one() {
    let loose = |counter| Put {
        minting: Minting::Fallback,
        ..put(counter, dot(F, counter as u64))
    };
    let two = first(loose(3)).merged(&first(loose(5)));
    let newer = apply(&two, over(&two, put(9, dot(B, 1))));
    let mut prunable = newer.prunable(|actor| actor.node.0 == F);
    assert_eq!(prunable.loose, [dot(F, 3), dot(F, 5)]);
    prunable.truncate(1);
    let mut pruned = newer.clone();
    assert!(pruned.prune(&prunable));
    assert_eq!(pruned.context().loose(), [dot(F, 5)]);
    assert_eq!(live(&pruned), live(&newer));
}

#[test]
fn p12_flagged_operation_is_left_out_only_where_it_is_listed() {
    let (old, newer) = long_after(true);
    let prunable = newer.prunable(|_| false);
    assert_eq!(prunable.flagged, [op_id(1)]);
    assert!(newer.remembers(&prunable));
    assert!(!old.remembers(&prunable), "its twin may be minted there");
    assert!(!Record::default().remembers(&prunable));
    let twin = first(put(1, dot(C, 7)));
    assert_eq!(live(&newer.merged(&twin)), live(&newer), "it is absorbed");
    let mut pruned = newer.clone();
    assert!(pruned.prune(&prunable));
    assert!(pruned.merged(&twin).sibling(op_id(1)).is_some());
    assert_eq!(
        pruned.merged(&old).flagged(),
        newer.flagged(),
        "listed anew"
    );
}
