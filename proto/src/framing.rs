//! Where gRPC messages begin and end in a stream of bytes.
//!
//! Each message is preceded by five bytes: a flag that tells whether it is compressed, and its
//! length as a big-endian `u32`. The scanner sees bytes in pieces cut anywhere and holds none of
//! them, so that both ends can act on a message before it is there.

/// Bytes before each message.
pub const PREFIX_BYTES: usize = 5;

/// What the scanner came upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameEvent {
    /// The prefix of a message ends here; the message follows.
    Prefix {
        /// Whether the message is compressed.
        compressed: bool,
        /// Its bytes.
        length: u32,
    },
    /// A message ends here.
    End,
}

/// Follows the message boundaries in a stream of bytes.
#[derive(Debug, Clone, Default)]
pub struct FrameScanner {
    prefix: [u8; PREFIX_BYTES],
    filled: usize,
    /// Bytes of the current message still to come, once its prefix is whole.
    rest: Option<u64>,
}

impl FrameScanner {
    /// Reads from the front of `data` up to the next event, and returns how many bytes that took.
    /// Without an event all of `data` was taken. Call it again with what is left: the end of an
    /// empty message takes no bytes.
    pub fn scan(&mut self, data: &[u8]) -> (usize, Option<FrameEvent>) {
        let Some(rest) = self.rest else {
            let taken = data.len().min(PREFIX_BYTES - self.filled);
            self.prefix[self.filled..self.filled + taken].copy_from_slice(&data[..taken]);
            self.filled += taken;
            if self.filled < PREFIX_BYTES {
                return (taken, None);
            }
            let [flag, length @ ..] = self.prefix;
            let length = u32::from_be_bytes(length);
            self.filled = 0;
            self.rest = Some(length.into());
            let compressed = flag != 0;
            return (taken, Some(FrameEvent::Prefix { compressed, length }));
        };
        let taken = usize::try_from(rest).map_or(data.len(), |rest| rest.min(data.len()));
        let rest = rest - taken as u64;
        if rest > 0 {
            self.rest = Some(rest);
            return (taken, None);
        }
        self.rest = None;
        (taken, Some(FrameEvent::End))
    }

    /// Returns the prefix of the message that the scanner stands in or has just left.
    pub fn prefix(&self) -> [u8; PREFIX_BYTES] {
        self.prefix
    }

    /// Returns whether the scanner stands inside a prefix or a message.
    pub fn is_mid_message(&self) -> bool {
        self.is_mid_prefix() || self.rest.is_some()
    }

    /// Returns whether the scanner stands inside a prefix.
    pub fn is_mid_prefix(&self) -> bool {
        self.filled > 0
    }
}

/// Returns where the bytes of the first raw tensor begin in a `ModelInferRequest` that begins with
/// `beginning`; `None` where that does not reach so far, or is no such message.
///
/// Whoever makes room for a message can so have its tensor lie on a border of its choice.
pub fn first_raw_contents(beginning: &[u8]) -> Option<usize> {
    const RAW_INPUT_CONTENTS: usize = 7;
    let mut rest = beginning;
    loop {
        let key = prost::decode_length_delimiter(&mut rest).ok()?;
        let skipped = match key & 7 {
            0 => {
                prost::decode_length_delimiter(&mut rest).ok()?;
                0
            }
            1 => 8,
            2 => prost::decode_length_delimiter(&mut rest).ok()?,
            5 => 4,
            _ => return None,
        };
        if key >> 3 == RAW_INPUT_CONTENTS {
            return Some(beginning.len() - rest.len());
        }
        rest = rest.get(skipped..)?;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    proptest! {
        #[test]
        fn cuts_anywhere_give_the_same_events(
            lengths in proptest::collection::vec(0u32..20, 0..6),
            cuts in proptest::collection::vec(1usize..9, 1..40),
        ) {
            let mut bytes = Vec::new();
            for &length in &lengths {
                bytes.push(0);
                bytes.extend(length.to_be_bytes());
                bytes.resize(bytes.len() + length as usize, 0xff);
            }
            let mut scanner = FrameScanner::default();
            let mut events = Vec::new();
            let mut rest = &bytes[..];
            let mut cuts = cuts.iter().cycle();
            while !rest.is_empty() {
                let cut = rest.len().min(*cuts.next().unwrap());
                let (mut piece, after) = rest.split_at(cut);
                rest = after;
                loop {
                    let (taken, event) = scanner.scan(piece);
                    piece = &piece[taken..];
                    match event {
                        Some(event) => events.push(event),
                        None => break,
                    }
                    if piece.is_empty() && !scanner.is_mid_message() {
                        break;
                    }
                }
                prop_assert!(piece.is_empty());
            }
            let expected: Vec<_> = lengths.iter().flat_map(|&length| {
                [FrameEvent::Prefix { compressed: false, length }, FrameEvent::End]
            }).collect();
            prop_assert_eq!(events, expected);
            prop_assert!(!scanner.is_mid_message());
        }
    }

    #[test]
    fn the_first_raw_tensor_is_found_as_soon_as_it_begins() {
        use crate::inference::{ModelInferRequest, model_infer_request::InferInputTensor};
        let request = ModelInferRequest {
            model_name: "model".to_owned(),
            id: "1".to_owned(),
            inputs: vec![InferInputTensor {
                name: "x".to_owned(),
                datatype: "UINT8".to_owned(),
                shape: vec![300],
                ..InferInputTensor::default()
            }],
            raw_input_contents: vec![vec![0xab; 300].into(), vec![0xcd; 3].into()],
            ..ModelInferRequest::default()
        };
        let bytes = request.encode_to_vec();
        let at = bytes.iter().position(|&byte| byte == 0xab).unwrap();
        assert_eq!(first_raw_contents(&bytes), Some(at));
        assert_eq!(first_raw_contents(&bytes[..at]), Some(at));
        assert_eq!(first_raw_contents(&bytes[..at - 1]), None);
        assert_eq!(first_raw_contents(&[]), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_no_harm(bytes: Vec<u8>) {
            let at = first_raw_contents(&bytes);
            prop_assert!(at.is_none_or(|at| at <= bytes.len()));
        }
    }
}
