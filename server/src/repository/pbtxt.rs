//! Reads `config.pbtxt`: protobuf's text format, held against the message `ModelConfig`.
//!
//! A reader of its own, of the part of the format that configurations use (all but extensions and
//! `Any`): it takes every list form that Triton takes, `input [ .. ]` without a colon among them,
//! and tells the person who wrote the file where a fault is, shows the line, and says what was
//! probably meant.
//!
//! Invariant: no text, however broken or hostile, makes [`Schema::parse`] panic or run out of
//! stack.

mod error;
mod lexer;
mod nearest;
mod parser;
mod scalar;
mod string;

use std::{path::Path, str};

use forebay_proto::{FILE_DESCRIPTOR_SET, inference::ModelConfig};
use prost_reflect::{DescriptorPool, MessageDescriptor};

pub use self::error::Error;

/// The message that configurations are held against.
#[derive(Debug, Clone)]
pub struct Schema {
    config: MessageDescriptor,
}

impl Schema {
    /// Reads the descriptors that the contract was compiled to.
    pub fn new() -> Self {
        let config = DescriptorPool::decode(FILE_DESCRIPTOR_SET)
            .ok()
            .and_then(|pool| pool.get_message_by_name("inference.ModelConfig"))
            .expect("the build embeds descriptors that hold ModelConfig");
        Self { config }
    }

    /// Parses `text`; `file` is how faults name it.
    ///
    /// # Errors
    /// The first fault: text that is not UTF-8, a syntax error, an unknown field or value.
    pub fn parse(&self, file: &Path, text: &[u8]) -> Result<ModelConfig, Error> {
        // Editors on Windows may begin a file with a byte order mark, which says nothing here.
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let text = match str::from_utf8(text) {
            Ok(text) => text,
            Err(error) => {
                let at = error.valid_up_to();
                let text = String::from_utf8_lossy(text);
                let problem = "this is not UTF-8; save the file in that encoding";
                return Err(Error::new(file, &text, at..at, problem.to_owned()));
            }
        };
        let message = parser::parse(self.config.clone(), text)
            .map_err(|fault| Error::new(file, text, fault.span, fault.problem))?;
        Ok(message
            .transcode_to()
            .expect("the generated type and the descriptors come from one contract"))
    }
}

impl Default for Schema {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
pub(super) mod tests;
