//! Reads fields into a message, by its descriptor.
//!
//! Invariant: recursion goes only as deep as the messages of the schema nest, which is not at all
//! recursive; no text can drive it deeper.

use std::{fmt::Display, ops::Range};

use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage as _, Value,
};

use super::{
    lexer::{Fault, Lexer, Token},
    nearest, scalar,
};

/// The tokens of a text, and one of them ahead.
#[derive(Debug)]
pub(super) struct Parser<'a> {
    lexer: Lexer<'a>,
    token: Token<'a>,
    span: Range<usize>,
}

/// Reads all of `text` as a message.
pub(super) fn parse(desc: MessageDescriptor, text: &str) -> Result<DynamicMessage, Fault> {
    let mut lexer = Lexer::new(text);
    let (token, span) = lexer.next()?;
    Parser { lexer, token, span }.message(desc, Token::End)
}

impl<'a> Parser<'a> {
    /// Takes the token ahead.
    pub(super) fn take(&mut self) -> Result<(Token<'a>, Range<usize>), Fault> {
        let (token, span) = self.lexer.next()?;
        Ok((
            std::mem::replace(&mut self.token, token),
            std::mem::replace(&mut self.span, span),
        ))
    }

    /// Returns the token ahead.
    pub(super) fn token(&self) -> Token<'a> {
        self.token
    }

    /// Makes the fault that the token ahead is not what is `expected`.
    pub(super) fn unexpected(&self, expected: impl Display) -> Fault {
        Fault {
            span: self.span.clone(),
            problem: format!("expected {expected}, but found {}", self.token),
        }
    }

    /// Takes the token ahead if it is `symbol`.
    fn accept(&mut self, symbol: &str) -> Result<bool, Fault> {
        let found = self.token == Token::Symbol(symbol);
        if found {
            self.take()?;
        }
        Ok(found)
    }

    fn message(
        &mut self,
        desc: MessageDescriptor,
        end: Token<'_>,
    ) -> Result<DynamicMessage, Fault> {
        let mut message = DynamicMessage::new(desc);
        // Values equal to the default leave no trace in the message, so that it cannot tell.
        let mut set = Vec::new();
        while self.token != end {
            let Token::Word(name) = self.token else {
                return Err(match end {
                    Token::End => self.unexpected("a field's name"),
                    end => self.unexpected(format_args!("a field's name or {end}")),
                });
            };
            let (_, span) = self.take()?;
            let desc = message.descriptor();
            let field = desc
                .get_field_by_name(name)
                .ok_or_else(|| unknown_field(name, &desc, span.clone()))?;
            if !field.is_list() && !field.is_map() {
                refuse_second(&field, &set, span)?;
                set.push(field.clone());
            }
            self.field(&mut message, &field)?;
            if !self.accept(",")? {
                self.accept(";")?;
            }
        }
        // The end of the text stays ahead: nothing comes after it.
        if end != Token::End {
            self.take()?;
        }
        Ok(message)
    }

    /// Reads what follows a field's name. The colon may be left out before a message or a list of
    /// messages.
    fn field(
        &mut self,
        message: &mut DynamicMessage,
        field: &FieldDescriptor,
    ) -> Result<(), Fault> {
        let kind = field.kind();
        if !self.accept(":")? && kind.as_message().is_none() {
            return Err(self.unexpected(format_args!("':' after '{}'", field.name())));
        }
        if self.token != Token::Symbol("[") {
            let value = self.value(field, &kind)?;
            add(message, field, value);
            return Ok(());
        }
        if !field.is_list() && !field.is_map() {
            let name = field.name();
            return Err(self.unexpected(format_args!("one value, since '{name}' is no list")));
        }
        self.take()?;
        if self.accept("]")? {
            return Ok(());
        }
        loop {
            let value = self.value(field, &kind)?;
            add(message, field, value);
            if self.accept("]")? {
                return Ok(());
            }
            if !self.accept(",")? {
                return Err(self.unexpected("',' or ']'"));
            }
        }
    }

    fn value(&mut self, field: &FieldDescriptor, kind: &Kind) -> Result<Value, Fault> {
        let Kind::Message(desc) = kind else {
            return scalar::read(self, field, kind);
        };
        let end = match self.token {
            Token::Symbol("{") => Token::Symbol("}"),
            Token::Symbol("<") => Token::Symbol(">"),
            _ => return Err(self.unexpected(format_args!("'{{' after '{}'", field.name()))),
        };
        self.take()?;
        self.message(desc.clone(), end).map(Value::Message)
    }
}

/// Sets a field, or adds to one that holds several.
fn add(message: &mut DynamicMessage, field: &FieldDescriptor, value: Value) {
    let slot = message.get_field_mut(field);
    match (slot, value) {
        (Value::List(list), value) => list.push(value),
        (Value::Map(map), Value::Message(entry)) => {
            let part = |name| entry.get_field_by_name(name).map(|part| part.into_owned());
            if let (Some(key), Some(value)) =
                (part("key").and_then(Value::into_map_key), part("value"))
            {
                map.insert(key, value);
            }
        }
        (slot, value) => *slot = value,
    }
}

fn refuse_second(
    field: &FieldDescriptor,
    set: &[FieldDescriptor],
    span: Range<usize>,
) -> Result<(), Fault> {
    let name = field.name();
    let problem = if set.contains(field) {
        format!("'{name}' is already set; set it once")
    } else if let Some(other) = field
        .containing_oneof()
        .and_then(|oneof| oneof.fields().find(|other| set.contains(other)))
    {
        format!(
            "'{name}' cannot go with '{}'; keep one of them",
            other.name()
        )
    } else {
        return Ok(());
    };
    Err(Fault { span, problem })
}

fn unknown_field(name: &str, desc: &MessageDescriptor, span: Range<usize>) -> Fault {
    let known: Vec<String> = desc.fields().map(|field| field.name().to_owned()).collect();
    Fault {
        span,
        problem: format!(
            "{} has no field {}; {}",
            desc.name(),
            Token::Word(name),
            nearest::suggestion(name, &known)
        ),
    }
}
