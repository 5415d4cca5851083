//! The known word that a misspelt one was probably meant to be.

/// The candidate with the fewest edits to `given`, if at most a third of its letters differ.
/// Among equals the first wins. O(length squared) per candidate.
pub fn nearest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given: String = given.chars().take(64).collect();
    candidates
        .into_iter()
        .map(|candidate| (edits(&given, candidate), candidate))
        .filter(|(edits, candidate)| edits * 3 <= candidate.len().max(given.len()))
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance in characters.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (row, from) in a.chars().enumerate() {
        let mut left = row + 1;
        let mut diagonal = row;
        for (to, cell) in b.iter().zip(above.iter_mut().skip(1)) {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = *cell;
            left = replaced.min(left + 1).min(*cell + 1);
            *cell = left;
        }
        if let Some(first) = above.first_mut() {
            *first = row + 1;
        }
    }
    above.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_named_only_if_it_is_near() {
        let words = ["data_dir", "listen", "http_listen", "log_level"];
        let cases = [
            ("data_dri", Some("data_dir")),
            ("datadir", Some("data_dir")),
            ("lisen", Some("listen")),
            ("loglevel", Some("log_level")),
            ("colour", None),
            ("", None),
        ];
        for (given, want) in cases {
            assert_eq!(nearest(given, words), want, "{given}");
        }
    }

    #[test]
    fn edits_are_counted_as_levenshtein_does() {
        for (a, b, want) in [
            ("", "", 0),
            ("a", "", 1),
            ("", "ab", 2),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(edits(a, b), want, "{a} {b}");
        }
    }
}
