//! The `grpc-timeout` header: up to eight digits and a unit.

use std::time::Duration;

/// Name of the header.
pub(super) const HEADER: &str = "grpc-timeout";

const MAX_DIGITS: usize = 8;

/// A `grpc-timeout` that says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("grpc-timeout is {value:?}; it holds 1 to {MAX_DIGITS} digits and one of H, M, S, m, u, n")]
pub struct InvalidTimeout {
    value: String,
}

/// Reads the value of a `grpc-timeout` header.
///
/// # Errors
/// If it is not one to eight ASCII digits followed by a unit.
pub fn parse_timeout(value: &[u8]) -> Result<Duration, InvalidTimeout> {
    parse(value).ok_or_else(|| {
        let shown = &value[..value.len().min(MAX_DIGITS + 8)];
        let value = String::from_utf8_lossy(shown).into_owned();
        InvalidTimeout { value }
    })
}

fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if !(1..=MAX_DIGITS).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(number * 3600)),
        b'M' => Some(Duration::from_secs(number * 60)),
        b'S' => Some(Duration::from_secs(number)),
        b'm' => Some(Duration::from_millis(number)),
        b'u' => Some(Duration::from_micros(number)),
        b'n' => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_six_units_are_read() {
        let read = |text: &str| parse_timeout(text.as_bytes()).unwrap();
        assert_eq!(read("2H"), Duration::from_secs(7200));
        assert_eq!(read("3M"), Duration::from_secs(180));
        assert_eq!(read("0S"), Duration::ZERO);
        assert_eq!(read("250m"), Duration::from_millis(250));
        assert_eq!(read("7u"), Duration::from_micros(7));
        assert_eq!(read("99999999n"), Duration::from_nanos(99_999_999));
        assert_eq!(read("99999999H"), Duration::from_secs(99_999_999 * 3600));
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        for text in [
            "",
            "S",
            "5",
            "5s",
            "5 S",
            "+5S",
            "-1S",
            "1.5S",
            "123456789S",
            "5SS",
            "\u{664}S",
        ] {
            let error = parse_timeout(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("grpc-timeout is"), "{error}");
        }
    }

    #[test]
    fn a_long_value_is_shown_in_part() {
        let error = parse_timeout(&[b'9'; 9000]).unwrap_err();
        assert!(error.to_string().len() < 120);
    }
}
