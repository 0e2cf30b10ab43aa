//! What an encoded request would hold in memory, told without decoding it.
//!
//! Two bytes can encode an item that takes hundreds in memory, so a message within every limit could
//! decode into gigabytes. Whoever is about to decode a large one asks [`survey`] first.
//!
//! Invariant: what is surveyed is at least what a decoder comes across before it fails.

use bytes::Bytes;

use crate::{
    ProtocolError,
    inference::ModelInferRequest,
    limits::{MAX_DIMS, MAX_INPUTS, MAX_NAME_BYTES, MAX_OUTPUTS, MAX_PARAMETERS},
    request::check_count,
};

/// What an encoded request would hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Survey {
    /// Bytes that typed contents take beside the message while they are decoded and made raw.
    pub typed_bytes: u64,
}

/// Looks through an encoded `ModelInferRequest` and allocates nothing. A message that breaks off is left to
/// the decoder to tell; not so a part of one, behind whose end a decoder may go on.
///
/// # Errors
/// It has more items than [`limits`](crate::limits) allow, a part that breaks off, or a group, which the
/// protocol has none of.
pub fn survey(message: &[u8]) -> Result<Survey, ProtocolError> {
    let mut survey = Survey::default();
    let (mut parameters, mut inputs, mut outputs, mut raw) = (0, 0, 0, 0);
    for field in Fields::of_message(message) {
        match field? {
            (4, _) => check_one_more("parameters", &mut parameters, MAX_PARAMETERS)?,
            (5, field) => {
                check_one_more("inputs", &mut inputs, MAX_INPUTS)?;
                look_at_input(field.bytes(), &mut survey)?;
            }
            (6, field) => {
                check_one_more("outputs", &mut outputs, MAX_OUTPUTS)?;
                look_at_output(field.bytes())?;
            }
            (7, _) => check_one_more("raw contents", &mut raw, MAX_INPUTS)?,
            _ => {}
        }
    }
    Ok(survey)
}

fn look_at_input(input: &[u8], survey: &mut Survey) -> Result<(), ProtocolError> {
    let (mut dims, mut parameters) = (0, 0);
    for field in Fields::of_part(input) {
        match field? {
            (3, field) => {
                dims += field.varints();
                check_count("dimensions", dims, MAX_DIMS)?;
            }
            (4, _) => check_one_more("parameters", &mut parameters, MAX_PARAMETERS)?,
            (5, field) => look_at_contents(field.bytes(), survey)?,
            _ => {}
        }
    }
    Ok(())
}

fn look_at_output(output: &[u8]) -> Result<(), ProtocolError> {
    let mut parameters = 0;
    for field in Fields::of_part(output) {
        if let (2, _) = field? {
            check_one_more("parameters", &mut parameters, MAX_PARAMETERS)?;
        }
    }
    Ok(())
}

fn look_at_contents(contents: &[u8], survey: &mut Survey) -> Result<(), ProtocolError> {
    /// The list has grown to up to twice its length when its elements become raw.
    const COPIES: usize = 3;
    const HANDLE: usize = 2 * size_of::<Bytes>() + size_of::<u32>();
    for field in Fields::of_part(contents) {
        let bytes = match field? {
            (1, field) => COPIES * field.varints(),
            (2 | 4, field) => COPIES * size_of::<u32>() * field.varints(),
            (3 | 5, field) => COPIES * size_of::<u64>() * field.varints(),
            (6 | 7, field) => COPIES * field.fixed_bytes(),
            (8, field) => HANDLE + field.bytes().len(),
            _ => 0,
        };
        survey.typed_bytes = survey.typed_bytes.saturating_add(bytes as u64);
    }
    Ok(())
}

fn check_one_more(
    what: &'static str,
    count: &mut usize,
    limit: usize,
) -> Result<(), ProtocolError> {
    *count += 1;
    check_count(what, *count, limit)
}

/// Returns what an encoded `ModelInferRequest` names, and nothing of what is absent, no text, or too long to
/// be a name. For whoever refuses to decode it.
pub fn names(message: &[u8]) -> ModelInferRequest {
    let mut named = ModelInferRequest::default();
    for (number, field) in Fields::of_message(message).map_while(Result::ok) {
        let name = match number {
            1 => &mut named.model_name,
            2 => &mut named.model_version,
            3 => &mut named.id,
            _ => continue,
        };
        let text = Some(field.bytes()).filter(|bytes| bytes.len() <= MAX_NAME_BYTES);
        let text = text.and_then(|bytes| std::str::from_utf8(bytes).ok());
        *name = text.unwrap_or_default().to_owned();
    }
    named
}

/// The fields of a message or a part of it, by their numbers, up to its end.
struct Fields<'a> {
    rest: &'a [u8],
    is_part: bool,
}

#[derive(Clone, Copy)]
enum Field<'a> {
    Varint,
    /// Of so many bytes.
    Fixed(usize),
    Bytes(&'a [u8]),
    /// A decoder skips it where it does not know its number.
    Group,
}

impl<'a> Fields<'a> {
    fn of_message(rest: &'a [u8]) -> Self {
        let is_part = false;
        Self { rest, is_part }
    }

    fn of_part(rest: &'a [u8]) -> Self {
        let is_part = true;
        Self { rest, is_part }
    }

    /// Returns the next field, unless what is left is none.
    fn field(&mut self) -> Option<(usize, Field<'a>)> {
        let key = self.varint()?;
        let field = match key & 7 {
            0 => self.varint().map(|_| Field::Varint)?,
            1 => self.take(8).map(|_| Field::Fixed(8))?,
            2 => {
                let length = self.varint()?;
                self.take(length).map(Field::Bytes)?
            }
            3 | 4 => Field::Group,
            5 => self.take(4).map(|_| Field::Fixed(4))?,
            _ => return None,
        };
        Some((key >> 3, field))
    }

    fn varint(&mut self) -> Option<usize> {
        prost::decode_length_delimiter(&mut self.rest).ok()
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(usize, Field<'a>), ProtocolError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match self.field() {
            Some((_, Field::Group)) => Some(Err(ProtocolError::Group)),
            Some(field) => Some(Ok(field)),
            None if self.is_part => Some(Err(ProtocolError::BrokenOff)),
            None => None,
        }
    }
}

impl<'a> Field<'a> {
    /// Returns what it holds, where that has a length.
    fn bytes(self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Varint | Self::Fixed(_) | Self::Group => &[],
        }
    }

    /// Returns how many varints it holds: one, or packed ones.
    fn varints(self) -> usize {
        match self {
            Self::Bytes(packed) => packed.iter().filter(|byte| **byte < 0x80).count(),
            Self::Varint | Self::Fixed(_) | Self::Group => 1,
        }
    }

    /// Returns the bytes of the numbers of a fixed length that it holds: of one, or of packed ones.
    fn fixed_bytes(self) -> usize {
        match self {
            Self::Bytes(packed) => packed.len(),
            Self::Fixed(bytes) => bytes,
            Self::Varint | Self::Group => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::inference::{
        InferParameter, InferTensorContents,
        model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
    };

    fn refusal(message: &[u8]) -> Option<String> {
        survey(message).err().map(|error| error.to_string())
    }

    fn of(change: impl FnOnce(&mut ModelInferRequest)) -> Vec<u8> {
        let mut message = ModelInferRequest {
            model_name: "m".into(),
            inputs: vec![InferInputTensor::default()],
            outputs: vec![InferRequestedOutputTensor::default()],
            raw_input_contents: vec![Bytes::from_static(&[7; 100])],
            ..ModelInferRequest::default()
        };
        change(&mut message);
        message.encode_to_vec()
    }

    #[test]
    fn more_items_than_the_limits_allow_are_refused_before_they_are_decoded() {
        assert_eq!(refusal(&of(|_| {})), None);
        let parameters = || {
            let entry = |n: usize| (n.to_string(), InferParameter::default());
            (0..=MAX_PARAMETERS).map(entry).collect()
        };
        let faults = [
            ("257 inputs", [0x2a, 0].repeat(MAX_INPUTS + 1)),
            ("257 outputs", [0x32, 0].repeat(MAX_OUTPUTS + 1)),
            ("257 raw contents", [0x3a, 0].repeat(MAX_INPUTS + 1)),
            ("65 parameters", of(|m| m.parameters = parameters())),
            (
                "65 parameters",
                of(|m| m.inputs[0].parameters = parameters()),
            ),
            (
                "65 parameters",
                of(|m| m.outputs[0].parameters = parameters()),
            ),
            ("33 dimensions", of(|m| m.inputs[0].shape = vec![1; 33])),
            (
                "33 dimensions",
                [&[0x2a, 66][..], &[0x18, 1].repeat(33)].concat(),
            ),
            (
                "a group",
                [&[0xfb, 1, 0xfc, 1][..], &[0x2a, 0].repeat(300)].concat(),
            ),
        ];
        // A decoder reads the inner part to its end, beyond that of the outer one, before it fails.
        let inner = [0x42, 0].repeat(1000);
        let beyond = [&[0x2a, 5, 0x2a, 0xd0, 0x0f][..], &inner].concat();
        let of_shape = [&[0x2a, 4, 0x1a, 0xd0, 0x0f][..], &inner].concat();
        let within_key = [&[0x2a, 1, 0xaa][..], &[0x01], &inner].concat();
        let broken = [beyond, of_shape, within_key].map(|message| ("breaks off", message));
        for (says, message) in faults.into_iter().chain(broken) {
            let refusal = refusal(&message).unwrap_or_default();
            assert!(refusal.contains(says), "{refusal:?} does not say {says:?}");
        }
        assert_eq!(refusal(&[0x2a, 0].repeat(MAX_INPUTS)), None);
    }

    #[test]
    fn what_is_not_decoded_tells_its_names() {
        let named = |message: &[u8]| {
            let named = names(message);
            [named.model_name, named.model_version, named.id]
        };
        let message = of(|m| (m.id, m.model_version) = ("seven".into(), "2".into()));
        assert_eq!(named(&message), ["m", "2", "seven"]);
        assert_eq!(
            named(&[&message[..], &[0x2a]].concat()),
            ["m", "2", "seven"]
        );
        assert_eq!(named(&of(|m| m.id = "x".repeat(300))), ["m", "", ""]);
        assert_eq!(named(&[0x0a, 1, 0xff]), ["", "", ""]);
    }

    #[test]
    fn typed_contents_are_told_for_what_they_take() {
        let typed = |contents| {
            let message = of(|m| m.inputs[0].contents = Some(contents));
            survey(&message).unwrap().typed_bytes
        };
        assert_eq!(typed(InferTensorContents::default()), 0);
        let int64_contents = vec![1; 1000];
        let contents = InferTensorContents {
            int64_contents,
            ..Default::default()
        };
        assert_eq!(typed(contents), 3 * 8 * 1000);
        let fp32_contents = vec![1.0; 1000];
        let contents = InferTensorContents {
            fp32_contents,
            ..Default::default()
        };
        assert_eq!(typed(contents), 3 * 4 * 1000);
        let bytes_contents = vec![Bytes::from_static(b"abc"); 1000];
        let contents = InferTensorContents {
            bytes_contents,
            ..Default::default()
        };
        assert_eq!(typed(contents), (2 * 32 + 4 + 3) * 1000);
    }

    /// Bytes that are a message often enough.
    fn encoded() -> impl Strategy<Value = Vec<u8>> {
        let key = prop::sample::select(vec![0x08, 0x12, 0x18, 0x1a, 0x22, 0x2a, 0x32, 0x3a, 0x42]);
        let field = (key, prop::collection::vec(any::<u8>(), 0..6)).prop_map(|(key, bytes)| {
            let length = u8::try_from(bytes.len()).unwrap();
            [&[key, length][..], &bytes].concat()
        });
        let fields = prop::collection::vec(field, 0..6).prop_map(|fields| fields.concat());
        let nested = (prop::sample::select(vec![0x2a, 0x32]), fields.clone()).prop_map(
            |(key, bytes): (u8, Vec<u8>)| {
                [&[key, u8::try_from(bytes.len()).unwrap()][..], &bytes].concat()
            },
        );
        prop_oneof![any::<Vec<u8>>(), fields, nested]
    }

    proptest! {
        #[test]
        fn what_decodes_holds_no_more_than_was_told(bytes in encoded()) {
            let Ok(Survey { typed_bytes }) = survey(&bytes) else {
                return Ok(());
            };
            if let Ok(message) = ModelInferRequest::decode(&bytes[..]) {
                prop_assert!(message.inputs.len() <= MAX_INPUTS);
                let contents = message.inputs.iter().filter_map(|input| input.contents.as_ref());
                let held: usize = contents.map(|one| {
                    one.bool_contents.len()
                        + 4 * (one.int_contents.len() + one.uint_contents.len())
                        + 8 * (one.int64_contents.len() + one.uint64_contents.len())
                        + 4 * one.fp32_contents.len() + 8 * one.fp64_contents.len()
                        + 32 * one.bytes_contents.len()
                }).sum();
                prop_assert!(held as u64 <= typed_bytes);
            }
        }
    }
}
