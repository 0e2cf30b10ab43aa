//! Finds the word that was probably meant.

/// Longer words are nobody's typing mistake, and the distance takes quadratic time.
const MAX_WORD_BYTES: usize = 64;

/// Returns the mend for `word`, which is none of `known`.
pub(super) fn suggestion(word: &str, known: &[String]) -> String {
    match nearest(word, known) {
        Some(meant) => format!("did you mean '{meant}'?"),
        None => format!("it has {}", known.join(", ")),
    }
}

/// Returns the one of `known` that `word` is a likely mistake for, if any.
fn nearest<'a>(word: &str, known: &'a [String]) -> Option<&'a str> {
    if word.len() > MAX_WORD_BYTES {
        return None;
    }
    let word = word.to_ascii_lowercase();
    let limit = (word.len() / 4).max(1);
    known
        .iter()
        .map(|known| (distance(&word, &known.to_ascii_lowercase()), known))
        // "FP32" is far from "TYPE_FP32" in letters and still means it.
        .filter(|(distance, known)| *distance <= limit || ends_with_word(known, &word))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known.as_str())
}

fn ends_with_word(known: &str, word: &str) -> bool {
    known
        .to_ascii_lowercase()
        .strip_suffix(word)
        .is_some_and(|rest| rest.ends_with('_'))
}

/// Counts the insertions, deletions and replacements of bytes that make one of the other.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_edits() {
        for (from, to, edits) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("dims", "dim", 1),
        ] {
            assert_eq!(distance(from, to), edits, "{from} -> {to}");
        }
    }

    #[test]
    fn finds_what_was_meant_and_nothing_far_off() {
        let known = [
            "max_batch_size",
            "input",
            "output",
            "TYPE_FP32",
            "TYPE_FP64",
        ]
        .map(str::to_owned)
        .to_vec();
        for (word, meant) in [
            ("maxBatchSize", Some("max_batch_size")),
            ("max_bach_size", Some("max_batch_size")),
            ("inputs", Some("input")),
            ("FP32", Some("TYPE_FP32")),
            ("type_fp64", Some("TYPE_FP64")),
            ("TYPE_FLOAT32", None),
            ("replicas", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, &known), meant, "{word}");
        }
        assert_eq!(nearest(&"x".repeat(1 << 20), &known), None);
    }
}
