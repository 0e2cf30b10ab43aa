//! Which names a model may have. They become paths, labels of metrics and parts of messages.

/// Longest name, in bytes.
const MAX_BYTES: usize = 128;

/// Checks a model's name.
///
/// # Errors
/// The rule that it breaks.
pub(super) fn check(name: &str) -> Result<(), String> {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if (1..=MAX_BYTES).contains(&name.len()) && name.bytes().all(safe) && !name.starts_with('.') {
        return Ok(());
    }
    Err(format!(
        "{name:?} cannot be a model's name, which has 1 to {MAX_BYTES} letters, digits, '_', '-' \
         or '.', and does not begin with '.'"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_safe_as_paths_and_labels_pass() {
        for name in ["m", "resnet-50_v1.5", "A", &"x".repeat(128)] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            ".git",
            "a/b",
            "a b",
            "é",
            "a\n",
            &"x".repeat(129),
        ] {
            assert!(check(name).is_err(), "{name}");
        }
    }
}
