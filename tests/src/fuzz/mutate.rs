//! Makes an input from others: flips, magic numbers, pieces cut, repeated and taken from elsewhere.

use rand::rngs::SmallRng;
use rand::{Rng as _, RngExt};

/// Longest input.
pub(super) const INPUT_BYTES_MAX: usize = 64 << 10;

/// Numbers at the edges of what fields can hold.
const MAGIC: [u64; 14] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// Heads of MessagePack values that promise much.
const HEADS: [u8; 14] = [
    0xc0, 0xc4, 0xc6, 0xca, 0xcf, 0xd3, 0xd9, 0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0x9f, 0x8f,
];

/// A mutant of `input`; `other` gives pieces.
pub(super) fn mutant(input: &[u8], other: &[u8], random: &mut SmallRng) -> Vec<u8> {
    let mut bytes = input.to_vec();
    let rounds = 1 << random.random_range(0..4);
    for _ in 0..rounds {
        mutate(&mut bytes, other, random);
    }
    bytes.truncate(INPUT_BYTES_MAX);
    bytes
}

fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut SmallRng) {
    let length = bytes.len();
    let at = random.random_range(0..=length);
    match random.random_range(0..9) {
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.random_range(0..8);
            }
        }
        1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.random();
            }
        }
        2 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = HEADS[random.random_range(0..HEADS.len())];
            }
        }
        3 => {
            let number = MAGIC[random.random_range(0..MAGIC.len())];
            let width = 1 << random.random_range(0..4);
            let number = if random.random() {
                number.to_le_bytes()[..width].to_vec()
            } else {
                number.to_be_bytes()[8 - width..].to_vec()
            };
            for (byte, new) in bytes.iter_mut().skip(at).zip(number) {
                *byte = new;
            }
        }
        4 => {
            let count = random.random_range(0..=16);
            let mut new = vec![0; count];
            random.fill_bytes(&mut new);
            bytes.splice(at..at, new);
        }
        5 => {
            let end = length.min(at + random.random_range(0..=32));
            bytes.drain(at..end);
        }
        6 => bytes.truncate(at),
        7 => {
            let end = length.min(at + random.random_range(0..=64));
            let piece = bytes[at..end].to_vec();
            bytes.splice(at..at, piece);
        }
        _ => {
            let from = random.random_range(0..=other.len());
            let to = other.len().min(from + random.random_range(0..=256));
            let end = length.min(at + random.random_range(0..=64));
            bytes.splice(at..end, other[from..to].iter().copied());
        }
    }
}
