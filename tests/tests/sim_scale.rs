//! An operation costs the same in a cluster of three nodes and of thirty.

use quorate_tests::sim::scale::{ScaleLoad, differences, run_scale, table};

fn quick() -> ScaleLoad {
    ScaleLoad {
        keys: 20,
        rounds: 10,
        ..ScaleLoad::default()
    }
}

#[test]
fn messages_and_bytes_of_an_operation_do_not_grow_with_the_cluster() {
    let small = run_scale(3, quick()).expect("fair weather");
    let large = run_scale(30, quick()).expect("fair weather");
    let far = differences(&small, &large, 5.0);
    assert!(far.is_empty(), "{far:#?}\n{}", table(&[small, large]));
    // A request and its answer; a write to two peers and their answers; a read of one peer at
    // least. A hedge is rare. Else nothing was counted, or everything twice.
    let about = |each: f64, want: f64| (each - want).abs() <= want * 0.05;
    let (writes, reads) = (&large.writes, &large.reads);
    assert!(about(writes.each(writes.counts.clients.messages), 2.0));
    assert!(about(writes.each(writes.counts.peers.messages), 4.0));
    assert!(about(reads.each(reads.counts.peers.messages), 2.0));
}
