//! Bytes of records and contexts: one encoding per state, and nothing hostile gets through.

mod model;

use bytes::Bytes;
use model::{Extra, Step, World, actor, dot, put};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};
use proptest::sample::Index;
use quorate_antientropy::{
    Attempt, Context, DecodeError, Field, KeyState, LwwVersion, LwwWrite, Minting, OpId, Put,
    Record, SeenOps,
};

fn record(steps: &[Step], at: Index) -> Record {
    let world = World::run(Extra::ReadsAtOne, steps);
    world
        .reached
        .get(at.index(world.reached.len()))
        .expect("an index of it")
        .clone()
}

/// What decodes is the one encoding of what it decodes to.
fn decodes_canonically(bytes: Vec<u8>) -> bool {
    let bytes = Bytes::from(bytes);
    Record::decode(&bytes).map_or(true, |record| record.to_bytes() == bytes)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn altered_bytes_are_refused_or_canonical(
        steps in vec(any::<Step>(), 1..80),
        at in any::<Index>(),
        changes in vec((any::<Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = record(&steps, at).to_bytes().to_vec();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            *bytes.get_mut(place).expect("an index of it") = byte;
        }
        prop_assert!(decodes_canonically(bytes));
    }

    #[test]
    fn random_bytes_are_refused_or_canonical(mut bytes in vec(any::<u8>(), 0..200)) {
        prop_assert!(decodes_canonically(bytes.clone()));
        bytes.splice(..bytes.len().min(2), [1, 0]);
        prop_assert!(decodes_canonically(bytes));
    }

    #[test]
    fn cut_or_longer_bytes_are_refused(
        steps in vec(any::<Step>(), 1..80),
        at in any::<Index>(),
        cut in any::<Index>(),
    ) {
        let bytes = record(&steps, at).to_bytes();
        prop_assert!(Record::decode(&bytes.slice(..cut.index(bytes.len()))).is_err());
        let mut longer = bytes.to_vec();
        longer.push(0);
        prop_assert_eq!(Record::decode(&longer.into()), Err(DecodeError::Trailing { bytes: 1 }));
    }

    #[test]
    fn contexts_come_back_from_their_bytes(
        steps in vec(any::<Step>(), 1..80),
        at in any::<Index>(),
        change in any::<(Index, u8)>(),
    ) {
        let context = record(&steps, at).context().clone();
        let mut bytes = Vec::new();
        context.encode(&mut bytes);
        prop_assert_eq!(bytes.len(), context.encoded_len());
        prop_assert_eq!(Context::decode(&bytes), Ok(context));
        let place = change.0.index(bytes.len());
        *bytes.get_mut(place).expect("an index of it") = change.1;
        if let Ok(other) = Context::decode(&bytes) {
            let mut again = Vec::new();
            other.encode(&mut again);
            prop_assert_eq!(again, bytes);
        }
    }
}

#[test]
fn version_1_is_read_and_written_as_it_was() {
    let over = |record: &Record, put: Put| {
        let put = Put {
            context: Some(record.context().clone()),
            ..put
        };
        record.put(put).expect("within limits").record
    };
    let value = Some(Bytes::from_static(b"abc"));
    let first = Put {
        value: value.clone(),
        ..put(0, dot(1, 300))
    };
    let first = Record::default().put(first).expect("within limits").record;
    let twin = Put {
        attempt: Attempt::Later,
        expiry: Some(9),
        seen: SeenOps::new(),
        now_wall: None,
        ..put(1, dot(2, 1))
    };
    let second = over(&first, Put { value, ..twin });
    let hint = Put {
        value: None,
        minting: Minting::Fallback,
        ..put(2, dot(3, 7))
    };
    let record = second.put(hint).expect("within limits").record;
    let hex: String = record
        .to_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(hex, include_str!("fixtures/record_v1.hex").trim());
    assert_eq!(Record::decode(&record.to_bytes()), Ok(record));
}

/// The bytes of a released format never change.
#[test]
fn the_bytes_of_an_lww_record_are_those_of_the_fixture() {
    let version = LwwVersion {
        stamp: 1_750_000_000_000_000,
        op_id: OpId([7; 16]),
    };
    let expiry = Some(version.stamp + 5_000_000);
    let value = Bytes::from_static(b"value");
    let state = KeyState::Lww(Some(LwwWrite::value(version, value, expiry)));
    let bytes = state.to_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, include_str!("fixtures/record_lww_v1.hex").trim());
    assert_eq!(KeyState::decode(&bytes), Ok(state));
}

#[test]
fn values_are_slices_of_the_input() {
    let bytes = Record::default()
        .put(put(1, dot(0, 1)))
        .expect("within limits")
        .record
        .to_bytes();
    let decoded = Record::decode(&bytes).expect("just encoded");
    let value = decoded
        .siblings()
        .first()
        .and_then(|sibling| sibling.value())
        .expect("a value");
    assert!(bytes.as_ptr_range().contains(&value.as_ptr()));
}

#[test]
fn hostile_headers_and_counts_are_typed_errors() {
    let decode = |bytes: &[u8]| Record::decode(&Bytes::copy_from_slice(bytes));
    assert_eq!(decode(&[]), Err(DecodeError::Truncated));
    assert_eq!(
        decode(&[2, 0]),
        Err(DecodeError::UnknownVersion { found: 2 })
    );
    assert_eq!(decode(&[1, 1]), Err(DecodeError::UnknownKind { found: 1 }));
    assert_eq!(decode(&[1, 0, 0, 0, 0, 0]), Ok(Record::default()));
    assert_eq!(decode(&[1, 0, 0x80, 0]), Err(DecodeError::BadNumber));
    let count = u64::from(u32::MAX);
    let huge = [1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 9, 9];
    assert_eq!(
        decode(&huge),
        Err(DecodeError::TooMany {
            field: Field::Vector,
            count
        })
    );
    let too_long = [
        1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2,
    ];
    assert_eq!(decode(&too_long), Err(DecodeError::BadNumber));
}

#[test]
fn equal_contexts_built_in_any_order_are_equal_bytes() {
    let dots = [dot(3, 9), dot(1, 4), dot(3, 2), dot(2, 8), dot(1, 6)];
    let built = |order: &mut dyn Iterator<Item = &quorate_antientropy::Dot>| {
        let mut context = Context::new();
        order.for_each(|dot| context.add_dot_loose(*dot));
        context.raise(actor(3, 1), 4);
        context
    };
    let (forwards, backwards) = (built(&mut dots.iter()), built(&mut dots.iter().rev()));
    assert_eq!(forwards, backwards);
    assert_eq!(
        forwards.loose(),
        [dot(1, 4), dot(1, 6), dot(2, 8), dot(3, 9)]
    );
    assert_eq!(forwards.last_counter(actor(1, 1)), 6);
    assert_eq!(
        forwards.compare(&Context::new()),
        Some(std::cmp::Ordering::Greater)
    );
}

#[test]
fn sibling_of_a_listed_operation_is_refused() {
    let minted = |node| {
        Record::default()
            .put(put(1, dot(node, 1)))
            .expect("within limits")
            .record
    };
    let over = Put {
        context: Some(minted(0).context().clone()),
        ..put(2, dot(0, 2))
    };
    let listed = minted(0).put(over).expect("within limits").record;
    // A join alone leaves what absorb has still to drop.
    let bytes = listed.join(&minted(1)).to_bytes();
    let wrong = DecodeError::NotCanonical {
        field: Field::Siblings,
    };
    assert_eq!(Record::decode(&bytes), Err(wrong));
    assert!(Record::decode(&listed.merged(&minted(1)).to_bytes()).is_ok());
}
