//! Planted bugs take effect once chosen, and only then. A process of its own: the choice is global.
#![cfg(feature = "planted-bugs")]

mod model;

use model::{dot, live, ops, put};
use quorate_antientropy::{Record, planted};

#[test]
fn m4_drops_a_concurrent_sibling_while_it_is_chosen() {
    let minted = |op, node| {
        Record::default()
            .put(put(op, dot(node, 1)))
            .expect("in limits")
            .record
    };
    let (one, two) = (minted(1, 0), minted(2, 1));
    assert_eq!(live(&one.merged(&two)), ops(&[1, 2]));
    planted::choose("M4").expect("a bug");
    assert_eq!(live(&one.merged(&two)), ops(&[2]));
    assert!(planted::choose("M99").is_err());
    planted::clear();
    assert_eq!(live(&one.merged(&two)), ops(&[1, 2]));
}
