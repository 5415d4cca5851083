//! Looks a MessagePack value over before anything decodes it.
//!
//! Decoders trust lengths and recurse; this scan does neither. After it has passed, the bytes hold
//! exactly one value, nested no deeper than allowed, with no more items than allowed, and every
//! length lies within the bytes that are there. So decoding cannot run deep and allocates at most
//! a small multiple of what was received.
//!
//! Not here: whether the value has the fields that its kind needs (`frame`).

/// Deepest nesting of arrays and maps.
pub const DEPTH_MAX: usize = 16;

/// Why bytes are not one MessagePack value within the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// The value goes on past the end of the bytes.
    #[error("the value goes on past the end of the frame")]
    Truncated,
    /// Arrays or maps are nested deeper than [`DEPTH_MAX`].
    #[error("nested deeper than {DEPTH_MAX}")]
    TooDeep,
    /// More values than the limit, all levels taken together.
    #[error("more than {limit} values")]
    TooManyItems {
        /// The limit.
        limit: usize,
    },
    /// A marker that no message of ours uses: extensions and the reserved byte.
    #[error("marker {0:#04x} is not used here")]
    Unsupported(u8),
    /// Bytes are left behind the value.
    #[error("{bytes} bytes behind the value")]
    Trailing {
        /// How many.
        bytes: usize,
    },
}

/// What one marker announces.
enum Shape {
    /// This many bytes follow, and then the value is complete.
    Bytes(usize),
    /// This many values follow.
    Values(usize),
}

/// Checks that `bytes` are exactly one value of at most `items_max` values in all.
///
/// Linear in the number of values, not of bytes; allocates nothing.
///
/// # Errors
/// [`ScanError`] for the first thing that is wrong.
pub fn check(bytes: &[u8], items_max: usize) -> Result<(), ScanError> {
    let mut rest = bytes;
    let mut items = 0_usize;
    // Values that each open level still waits for; `depth` levels are open.
    let mut waiting = [0_usize; DEPTH_MAX];
    let mut depth = 0_usize;
    loop {
        items += 1;
        if items > items_max {
            return Err(ScanError::TooManyItems { limit: items_max });
        }
        match next_shape(&mut rest)? {
            Shape::Bytes(count) => {
                rest = rest.get(count..).ok_or(ScanError::Truncated)?;
            }
            Shape::Values(0) => {}
            Shape::Values(count) => {
                // Every value takes a byte, so a count past the bytes cannot be met.
                if count > rest.len() {
                    return Err(ScanError::Truncated);
                }
                *waiting.get_mut(depth).ok_or(ScanError::TooDeep)? = count;
                depth += 1;
                continue;
            }
        }
        // A value is complete; close every level for which it was the last one.
        loop {
            let Some(open) = depth.checked_sub(1).and_then(|top| waiting.get_mut(top)) else {
                return match rest.len() {
                    0 => Ok(()),
                    bytes => Err(ScanError::Trailing { bytes }),
                };
            };
            *open -= 1;
            if *open > 0 {
                break;
            }
            depth -= 1;
        }
    }
}

fn next_shape(rest: &mut &[u8]) -> Result<Shape, ScanError> {
    let marker = usize::from(take::<1>(rest)?[0]);
    Ok(match marker {
        0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => Shape::Bytes(0),
        0x80..=0x8f => Shape::Values(2 * (marker & 0x0f)),
        0x90..=0x9f => Shape::Values(marker & 0x0f),
        0xa0..=0xbf => Shape::Bytes(marker & 0x1f),
        0xc4 | 0xd9 => Shape::Bytes(length8(rest)?),
        0xc5 | 0xda => Shape::Bytes(length16(rest)?),
        0xc6 | 0xdb => Shape::Bytes(length32(rest)?),
        0xcc | 0xd0 => Shape::Bytes(1),
        0xcd | 0xd1 => Shape::Bytes(2),
        0xca | 0xce | 0xd2 => Shape::Bytes(4),
        0xcb | 0xcf | 0xd3 => Shape::Bytes(8),
        0xdc => Shape::Values(length16(rest)?),
        0xdd => Shape::Values(length32(rest)?),
        0xde => Shape::Values(length16(rest)?.saturating_mul(2)),
        0xdf => Shape::Values(length32(rest)?.saturating_mul(2)),
        _ => {
            return Err(ScanError::Unsupported(
                u8::try_from(marker).unwrap_or(u8::MAX),
            ));
        }
    })
}

fn length8(rest: &mut &[u8]) -> Result<usize, ScanError> {
    Ok(usize::from(take::<1>(rest)?[0]))
}

fn length16(rest: &mut &[u8]) -> Result<usize, ScanError> {
    Ok(usize::from(u16::from_be_bytes(take(rest)?)))
}

fn length32(rest: &mut &[u8]) -> Result<usize, ScanError> {
    usize::try_from(u32::from_be_bytes(take(rest)?)).map_err(|_| ScanError::Truncated)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], ScanError> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(ScanError::Truncated)?;
    *rest = tail;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nested(depth: usize) -> Vec<u8> {
        let mut bytes = vec![0x91; depth];
        bytes.push(0xc0);
        bytes
    }

    #[test]
    fn one_value_within_the_limits_passes() {
        let cases: [(&str, Vec<u8>); 6] = [
            ("a small integer", vec![0x07]),
            ("an array of three", vec![0x93, 0x01, 0xc0, 0xa1, b'x']),
            ("an empty array", vec![0x90]),
            ("a map", vec![0x81, 0x01, 0x91, 0xc3]),
            ("the deepest nesting", nested(DEPTH_MAX)),
            ("bytes", vec![0xc4, 2, 9, 9]),
        ];
        for (name, bytes) in cases {
            assert_eq!(check(&bytes, 20), Ok(()), "{name}");
        }
    }

    #[test]
    fn what_breaks_a_limit_is_refused() {
        let cases: [(&str, Vec<u8>, ScanError); 9] = [
            ("nothing", vec![], ScanError::Truncated),
            (
                "one level too many",
                nested(DEPTH_MAX + 1),
                ScanError::TooDeep,
            ),
            (
                "an array of four billion",
                vec![0xdd, 255, 255, 255, 255],
                ScanError::Truncated,
            ),
            (
                "a map of four billion",
                vec![0xdf, 255, 255, 255, 255],
                ScanError::Truncated,
            ),
            (
                "bytes past the end",
                vec![0xc6, 255, 255, 255, 255, 1],
                ScanError::Truncated,
            ),
            ("an array cut short", vec![0x92, 1], ScanError::Truncated),
            ("two values", vec![1, 2], ScanError::Trailing { bytes: 1 }),
            (
                "an extension",
                vec![0xc7, 1, 1, 1],
                ScanError::Unsupported(0xc7),
            ),
            (
                "too many items",
                vec![0x94, 1, 1, 1, 1],
                ScanError::TooManyItems { limit: 4 },
            ),
        ];
        for (name, bytes, want) in cases {
            let items_max = if matches!(want, ScanError::TooManyItems { .. }) {
                4
            } else {
                64
            };
            assert_eq!(check(&bytes, items_max), Err(want), "{name}");
        }
    }

    proptest! {
        /// What passes decodes without a complaint about its form, and nothing ever panics.
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if check(&bytes, 1000).is_ok() {
                let mut decoder = rmp_serde::Deserializer::from_read_ref(&bytes);
                let ignored = <serde::de::IgnoredAny as serde::Deserialize>::deserialize(&mut decoder);
                // Only a text that is not UTF-8 may still be wrong.
                prop_assert!(ignored.is_ok() || bytes.iter().any(|b| *b >= 0x80));
            }
        }
    }
}
