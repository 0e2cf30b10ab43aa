//! Reads a quoted string: resolves its escapes.

use std::{char, str::Chars};

use super::lexer::Fault;

/// Appends to `bytes` what `quoted` means, which stands with its quotes at `start` in the text.
///
/// The result is bytes, since escapes may put a character together from several.
pub(super) fn unescape(quoted: &str, start: usize, bytes: &mut Vec<u8>) -> Result<(), Fault> {
    let body = &quoted[1..quoted.len() - 1];
    let mut chars = body.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let escape = start + body.len() - chars.as_str().len();
        if escaped(&mut chars, bytes).is_none() {
            let end = start + 1 + body.len() - chars.as_str().len();
            return Err(Fault {
                span: escape..end,
                problem: "this is no escape sequence; write \\\\ for a backslash".to_owned(),
            });
        }
    }
    Ok(())
}

/// Reads the rest of an escape sequence.
fn escaped(chars: &mut Chars<'_>, bytes: &mut Vec<u8>) -> Option<()> {
    let byte = match chars.next()? {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '?' => b'?',
        '\\' => b'\\',
        '\'' => b'\'',
        '"' => b'"',
        'x' | 'X' => u8::try_from(digits(chars, 16, 1, 2)?).ok()?,
        'u' => return unicode(digits(chars, 16, 4, 4)?, bytes),
        'U' => return unicode(digits(chars, 16, 8, 8)?, bytes),
        first => {
            let high = first.to_digit(8)?;
            let (low, count) = up_to(chars, 8, 2);
            u8::try_from(high * 8u32.pow(count) + low).ok()?
        }
    };
    bytes.push(byte);
    Some(())
}

fn unicode(code: u32, bytes: &mut Vec<u8>) -> Option<()> {
    let char = char::from_u32(code)?;
    bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
    Some(())
}

fn digits(chars: &mut Chars<'_>, radix: u32, least: u32, most: u32) -> Option<u32> {
    let (value, count) = up_to(chars, radix, most);
    (count >= least).then_some(value)
}

/// Reads up to `most` digits, at most 8 of radix 16, and returns their value and number.
fn up_to(chars: &mut Chars<'_>, radix: u32, most: u32) -> (u32, u32) {
    let (mut value, mut count) = (0, 0);
    while count < most
        && let Some(digit) = chars
            .as_str()
            .chars()
            .next()
            .and_then(|it| it.to_digit(radix))
    {
        value = value * radix + digit;
        count += 1;
        chars.next();
    }
    (value, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(quoted: &str) -> Result<Vec<u8>, std::ops::Range<usize>> {
        let mut bytes = Vec::new();
        unescape(quoted, 0, &mut bytes)
            .map(|()| bytes)
            .map_err(|fault| fault.span)
    }

    #[test]
    fn every_escape_is_resolved() {
        for (quoted, bytes) in [
            (r#""""#, &b""[..]),
            (r#""a\"b\'c\\""#, b"a\"b'c\\"),
            (r#""\a\b\f\n\r\t\v\?""#, b"\x07\x08\x0c\n\r\t\x0b?"),
            (r#""\x4\x41\X7e""#, b"\x04A~"),
            (r#""\0\101\3770""#, b"\0A\xff0"),
            (r#""\u00e9\U0001F600""#, "é😀".as_bytes()),
            ("'é\"'", "é\"".as_bytes()),
        ] {
            assert_eq!(read(quoted).as_deref(), Ok(bytes), "{quoted}");
        }
    }

    #[test]
    fn what_is_no_escape_is_shown() {
        for (quoted, span) in [
            (r#""ab\q""#, 3..5),
            (r#""\xg""#, 1..3),
            (r#""\400""#, 1..5),
            (r#""\u12""#, 1..5),
            (r#""é\ud800""#, 3..9),
            (r#""\UFFFFFFFF""#, 1..11),
            (r#""\é""#, 1..4),
        ] {
            assert_eq!(read(quoted), Err(span), "{quoted}");
        }
    }
}
