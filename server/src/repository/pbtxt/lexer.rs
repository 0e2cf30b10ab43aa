//! Splits a text into words, numbers, strings and punctuation.

use std::{fmt, ops::Range};

use super::error;

/// What is wrong at some bytes of the text.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) span: Range<usize>,
    pub(super) problem: String,
}

/// One token. Numbers and strings are as they stand in the text, yet to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Word(&'a str),
    Number(&'a str),
    /// With its quotes, which match; no newline inside.
    Quoted(&'a str),
    /// One of `{}[]<>,;:-`.
    Symbol(&'a str),
    End,
}

/// Longest piece of the text that a fault quotes, in characters.
const MAX_QUOTED: usize = 40;

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, quote) = match self {
            Self::Word(text) | Self::Number(text) | Self::Symbol(text) => (text, "'"),
            // It has quotes of its own.
            Self::Quoted(text) => (text, ""),
            Self::End => return f.write_str("the end of the file"),
        };
        let short: String = text
            .chars()
            .take(MAX_QUOTED)
            .map(error::printable)
            .collect();
        let more = if text.chars().nth(MAX_QUOTED).is_some() {
            "…"
        } else {
            ""
        };
        write!(f, "{quote}{short}{more}{quote}")
    }
}

/// A cursor in the text.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    /// Where the last token ended, for faults at the end of the text.
    last_end: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            last_end: 0,
        }
    }

    /// Returns the next token and where it stands.
    pub(super) fn next(&mut self) -> Result<(Token<'a>, Range<usize>), Fault> {
        self.skip_blank();
        let text = self.text;
        let rest = &text[self.at..];
        let mut ahead = rest.chars();
        let Some(first) = ahead.next() else {
            return Ok((Token::End, self.last_end..self.last_end));
        };
        let start = self.at;
        let second_is_digit = ahead.next().is_some_and(|next| next.is_ascii_digit());
        let (length, token): (usize, fn(&'a str) -> Token<'a>) = match first {
            'A'..='Z' | 'a'..='z' | '_' => (word_length(rest), Token::Word),
            '0'..='9' => (number_length(rest), Token::Number),
            '.' if second_is_digit => (number_length(rest), Token::Number),
            '"' | '\'' => {
                let length = quoted_length(rest).map_err(|length| Fault {
                    span: start..start + length,
                    problem: format!("this string is not closed; end it with {first}"),
                })?;
                (length, Token::Quoted)
            }
            '{' | '}' | '[' | ']' | '<' | '>' | ',' | ';' | ':' | '-' => (1, Token::Symbol),
            _ => {
                return Err(Fault {
                    span: start..start + first.len_utf8(),
                    problem: format!("{first:?} has no meaning here; remove it"),
                });
            }
        };
        self.at += length;
        self.last_end = self.at;
        let token = token(&text[start..self.at]);
        Ok((token, start..self.at))
    }

    fn skip_blank(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            let trimmed = rest.trim_start_matches([' ', '\t', '\r', '\n', '\u{b}', '\u{c}']);
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with('#') {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }
}

fn word_length(rest: &str) -> usize {
    let inside = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    rest.bytes().take_while(inside).count()
}

/// Takes in more than numbers have, so that `12abc` is one wrong number and not two tokens.
fn number_length(rest: &str) -> usize {
    let mut before = b' ';
    rest.bytes()
        .take_while(|&byte| {
            let signed = matches!(byte, b'+' | b'-') && matches!(before, b'e' | b'E');
            before = byte;
            signed || byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.')
        })
        .count()
}

/// Returns the length with both quotes, or as the error that of what stands on the line.
fn quoted_length(rest: &str) -> Result<usize, usize> {
    let quote = rest.as_bytes()[0];
    let mut bytes = rest.bytes().enumerate().skip(1);
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\n' => return Err(at),
            b'\\' if rest.as_bytes().get(at + 1) != Some(&b'\n') => {
                bytes.next();
            }
            _ if byte == quote => return Ok(at + 1),
            _ => {}
        }
    }
    Err(rest.len())
}
