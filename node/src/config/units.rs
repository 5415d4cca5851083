//! Durations and sizes as people write them: `500ms`, `2s`, `5m`, `12h`, `30d`; `64KiB`, `1MiB`.
//!
//! One unit per value and whole numbers only, so that every value has one way to be written.

use std::fmt;
use std::time::Duration;

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is no duration; write a whole number and a unit: 500ms, 2s, 5m, 12h or 30d")]
pub struct DurationError {
    /// What was given, at most 64 characters of it.
    pub given: String,
}

/// Why a text is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is no size; write a whole number of bytes, or with a unit: 64KiB, 8MiB or 1GiB")]
pub struct SizeError {
    /// What was given, at most 64 characters of it.
    pub given: String,
}

/// Reads a duration: a whole number with the unit `ms`, `s`, `m`, `h` or `d`.
///
/// # Errors
/// [`DurationError`] if there is no number, no known unit, or the number is too large.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let error = || DurationError {
        given: text.chars().take(64).collect(),
    };
    let (number, unit) = split(text).ok_or_else(error)?;
    let millis_per_unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(error()),
    };
    let millis = number.checked_mul(millis_per_unit).ok_or_else(error)?;
    Ok(Duration::from_millis(millis))
}

/// Reads a size in bytes: a whole number, bare or with the unit `B`, `KiB`, `MiB` or `GiB`.
///
/// # Errors
/// [`SizeError`] if there is no number, no known unit, or the number is too large.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let error = || SizeError {
        given: text.chars().take(64).collect(),
    };
    let (number, unit) = split(text).ok_or_else(error)?;
    let bytes_per_unit = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(error()),
    };
    number.checked_mul(bytes_per_unit).ok_or_else(error)
}

/// A duration in the largest unit that loses nothing, as [`parse_duration`] reads it; below a
/// millisecond it is cut.
#[derive(Debug, Clone, Copy)]
pub struct ShownDuration(pub Duration);

impl fmt::Display for ShownDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let units = [
            (86_400_000, "d"),
            (3_600_000, "h"),
            (60_000, "m"),
            (1_000, "s"),
        ];
        let fit = units
            .iter()
            .find(|(per, _)| millis > 0 && millis.is_multiple_of(*per));
        match fit {
            Some((per, unit)) => write!(f, "{}{unit}", millis / per),
            None => write!(f, "{millis}ms"),
        }
    }
}

fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        let cases = [
            ("500ms", Some(500)),
            ("2s", Some(2_000)),
            ("5m", Some(300_000)),
            ("12h", Some(43_200_000)),
            ("30d", Some(2_592_000_000)),
            ("0ms", Some(0)),
            ("2", None),
            ("s", None),
            ("", None),
            ("-2s", None),
            ("1.5s", None),
            ("2 s", None),
            ("2S", None),
            ("18446744073709551615d", None),
            ("99999999999999999999s", None),
            ("2µs", None),
        ];
        for (text, millis) in cases {
            let want = millis.map(Duration::from_millis);
            assert_eq!(parse_duration(text).ok(), want, "{text}");
        }
    }

    #[test]
    fn sizes_are_a_number_and_perhaps_a_unit() {
        let cases = [
            ("4096", Some(4096)),
            ("10B", Some(10)),
            ("64KiB", Some(65_536)),
            ("8MiB", Some(8 << 20)),
            ("1GiB", Some(1 << 30)),
            ("64KB", None),
            ("1.5MiB", None),
            ("", None),
            ("18446744073709551615GiB", None),
        ];
        for (text, want) in cases {
            assert_eq!(parse_size(text).ok(), want, "{text}");
        }
    }

    #[test]
    fn a_shown_duration_reads_back() {
        for millis in [0, 1, 999, 1_000, 90_000, 3_600_000, 86_400_000, 86_400_001] {
            let span = Duration::from_millis(millis);
            assert_eq!(parse_duration(&ShownDuration(span).to_string()), Ok(span));
        }
    }
}
