//! Reads values that are no messages: numbers, truth values, strings and enum values.

use std::ops::Range;

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, Value};

use super::{
    lexer::{Fault, Token},
    nearest,
    parser::Parser,
    string,
};

/// Reads one value of `kind` for `field`.
pub(super) fn read(
    parser: &mut Parser<'_>,
    field: &FieldDescriptor,
    kind: &Kind,
) -> Result<Value, Fault> {
    match kind {
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => integer(parser, field).map(Value::I32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => integer(parser, field).map(Value::I64),
        Kind::Uint32 | Kind::Fixed32 => integer(parser, field).map(Value::U32),
        Kind::Uint64 | Kind::Fixed64 => integer(parser, field).map(Value::U64),
        Kind::Float => {
            let number = number(parser, field, |text| text.parse().ok())?;
            Ok(Value::F32(number))
        }
        Kind::Double => {
            let number = number(parser, field, |text| text.parse().ok())?;
            Ok(Value::F64(number))
        }
        Kind::Bool => boolean(parser, field),
        Kind::Enum(desc) => enumerated(parser, field, desc),
        Kind::String => {
            let (bytes, span) = quoted(parser, field)?;
            let problem = "the escapes in this string do not make UTF-8; write the characters";
            String::from_utf8(bytes)
                .map(Value::String)
                .map_err(|_| Fault {
                    span,
                    problem: problem.to_owned(),
                })
        }
        Kind::Bytes => quoted(parser, field).map(|(bytes, _)| Value::Bytes(bytes.into())),
        Kind::Message(_) => Err(parser.unexpected("a value that is no message")),
    }
}

/// Takes a sign, if any, and the token after it; the span is that of both.
fn signed<'a>(parser: &mut Parser<'a>) -> Result<(bool, Token<'a>, Range<usize>), Fault> {
    let (token, span) = parser.take()?;
    if token != Token::Symbol("-") {
        return Ok((false, token, span));
    }
    let (token, end) = parser.take()?;
    Ok((true, token, span.start..end.end))
}

fn integer<T>(parser: &mut Parser<'_>, field: &FieldDescriptor) -> Result<T, Fault>
where
    T: TryFrom<i128>,
{
    let (negative, token, span) = signed(parser)?;
    let name = field.name();
    let Token::Number(text) = token else {
        let problem = format!("expected a whole number for '{name}', but found {token}");
        return Err(Fault { span, problem });
    };
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    let sign = if negative { "-" } else { "" };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        let problem = format!("expected a whole number for '{name}', but found {token}");
        return Err(Fault { span, problem });
    }
    // Digits that overflow even 127 bits are out of any field's range.
    i128::from_str_radix(&format!("{sign}{digits}"), radix)
        .ok()
        .and_then(|value| T::try_from(value).ok())
        .ok_or_else(|| Fault {
            span,
            problem: format!(
                "{sign}{} is out of range for '{name}', which is {:?}",
                token.to_string().trim_matches('\''),
                field.kind()
            ),
        })
}

fn number<T>(
    parser: &mut Parser<'_>,
    field: &FieldDescriptor,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, Fault> {
    let (negative, token, span) = signed(parser)?;
    let digits = match token {
        Token::Number(text) => Some(text.strip_suffix(['f', 'F']).unwrap_or(text)),
        Token::Word(word) => ["inf", "infinity", "nan"]
            .into_iter()
            .find(|known| word.eq_ignore_ascii_case(known)),
        _ => None,
    };
    let sign = if negative { "-" } else { "" };
    digits
        .and_then(|digits| parse(&format!("{sign}{digits}")))
        .ok_or_else(|| Fault {
            span,
            problem: format!(
                "expected a number for '{}', but found {token}",
                field.name()
            ),
        })
}

fn boolean(parser: &mut Parser<'_>, field: &FieldDescriptor) -> Result<Value, Fault> {
    let value = match parser.token() {
        Token::Word("true" | "True" | "t") | Token::Number("1") => true,
        Token::Word("false" | "False" | "f") | Token::Number("0") => false,
        _ => {
            let name = field.name();
            return Err(parser.unexpected(format_args!("true or false for '{name}'")));
        }
    };
    parser.take()?;
    Ok(Value::Bool(value))
}

fn enumerated(
    parser: &mut Parser<'_>,
    field: &FieldDescriptor,
    desc: &EnumDescriptor,
) -> Result<Value, Fault> {
    let word = match parser.token() {
        Token::Word(word) => word,
        Token::Number(_) | Token::Symbol("-") => {
            return integer(parser, field).map(Value::EnumNumber);
        }
        Token::Quoted(text) => {
            let name = text.trim_matches(['"', '\'']);
            let mend = format_args!("a value of '{}' without quotes", field.name());
            return Err(match desc.get_value_by_name(name) {
                Some(value) => parser.unexpected(format_args!("{mend}, {}", value.name())),
                None => parser.unexpected(mend),
            });
        }
        _ => {
            let name = field.name();
            return Err(parser.unexpected(format_args!("a value for '{name}'")));
        }
    };
    let (token, span) = parser.take()?;
    match desc.get_value_by_name(word) {
        Some(value) => Ok(Value::EnumNumber(value.number())),
        None => {
            let known: Vec<String> = desc.values().map(|it| it.name().to_owned()).collect();
            let problem = format!(
                "{} has no value {token}; {}",
                desc.name(),
                nearest::suggestion(word, &known)
            );
            Err(Fault { span, problem })
        }
    }
}

/// Takes a string, and those that follow it, which continue it.
fn quoted(
    parser: &mut Parser<'_>,
    field: &FieldDescriptor,
) -> Result<(Vec<u8>, Range<usize>), Fault> {
    if !matches!(parser.token(), Token::Quoted(_)) {
        let name = field.name();
        return Err(parser.unexpected(format_args!("a string in quotes for '{name}'")));
    }
    let mut bytes = Vec::new();
    let mut whole: Option<Range<usize>> = None;
    while let Token::Quoted(text) = parser.token() {
        let (_, span) = parser.take()?;
        string::unescape(text, span.start, &mut bytes)?;
        let start = whole.map_or(span.start, |whole| whole.start);
        whole = Some(start..span.end);
    }
    Ok((bytes, whole.unwrap_or_default()))
}
