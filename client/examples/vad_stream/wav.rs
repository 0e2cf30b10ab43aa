//! Reads the one kind of WAV file that the model takes: 16 kHz, mono, 16-bit PCM.

use crate::segments::SAMPLE_RATE;

const PCM: u16 = 1;
/// The format stands in the first two bytes of a longer header's GUID.
const EXTENSIBLE: u16 = 0xfffe;
const EXTENSIBLE_FORMAT_AT: usize = 24;

/// Why a file was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WavError {
    /// Not a WAV file at all.
    #[error("this is no WAV file: it does not start with RIFF....WAVE")]
    NotWav,
    /// A chunk says that it is longer than the file.
    #[error("the file is cut short in its '{chunk}' chunk; copy it again")]
    CutShort {
        /// The chunk's name.
        chunk: String,
    },
    /// A chunk that is needed is not there.
    #[error("the file has no '{chunk}' chunk before its end")]
    Missing {
        /// The chunk's name.
        chunk: &'static str,
    },
    /// Audio of another kind.
    #[error(
        "{channels} channel(s) of {bits} bits in format {format} at {rate} Hz; convert it to mono \
         16-bit PCM at {SAMPLE_RATE} Hz"
    )]
    WrongFormat {
        /// The format tag; 1 is PCM.
        format: u16,
        /// Channels.
        channels: u16,
        /// Bits in a sample.
        bits: u16,
        /// Samples in a second.
        rate: u32,
    },
}

/// Returns the samples of the WAV file in `bytes`, from -1 to 1.
///
/// # Errors
/// The bytes are not a whole WAV file of the right kind.
pub(crate) fn samples(bytes: &[u8]) -> Result<Vec<f32>, WavError> {
    let Some((riff, mut rest)) = bytes.split_first_chunk::<12>() else {
        return Err(WavError::NotWav);
    };
    if &riff[..4] != b"RIFF" || &riff[8..] != b"WAVE" {
        return Err(WavError::NotWav);
    }
    let mut format_seen = false;
    while let Some((header, body)) = rest.split_first_chunk::<8>() {
        let [a, b, c, d, length @ ..] = *header;
        let name = [a, b, c, d];
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        let cut_short = || WavError::CutShort {
            chunk: String::from_utf8_lossy(&name).into_owned(),
        };
        let (body, after) = body.split_at_checked(length).ok_or_else(cut_short)?;
        match &name {
            b"fmt " => {
                check_format(body).unwrap_or_else(|| Err(cut_short()))?;
                format_seen = true;
            }
            b"data" if format_seen => {
                let (samples, _odd_byte) = body.as_chunks();
                let samples = samples.iter().copied().map(i16::from_le_bytes);
                return Ok(samples.map(|sample| f32::from(sample) / 32_768.0).collect());
            }
            b"data" => return Err(WavError::Missing { chunk: "fmt " }),
            _ => {}
        }
        // Chunks begin at even offsets.
        rest = after.get(length % 2..).unwrap_or_default();
    }
    Err(WavError::Missing { chunk: "data" })
}

/// Returns `None` where the chunk is too short.
fn check_format(body: &[u8]) -> Option<Result<(), WavError>> {
    let u16_at = |at: usize| {
        body.get(at..)?
            .first_chunk()
            .copied()
            .map(u16::from_le_bytes)
    };
    let format = match u16_at(0)? {
        EXTENSIBLE => u16_at(EXTENSIBLE_FORMAT_AT)?,
        format => format,
    };
    let channels = u16_at(2)?;
    let rate = u32::from_le_bytes(*body.get(4..)?.first_chunk()?);
    let bits = u16_at(14)?;
    if (format, channels, bits, rate) == (PCM, 1, 16, SAMPLE_RATE) {
        return Some(Ok(()));
    }
    Some(Err(WavError::WrongFormat {
        format,
        channels,
        bits,
        rate,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap().to_le_bytes();
        [name, &length[..], body, &[0][..body.len() % 2]].concat()
    }

    fn format(channels: u16, rate: u32, bits: u16) -> Vec<u8> {
        let [channels, bits] = [channels, bits].map(u16::to_le_bytes);
        chunk(
            b"fmt ",
            &[&[1, 0], &channels[..], &rate.to_le_bytes(), &[0; 6], &bits].concat(),
        )
    }

    fn wav(chunks: &[Vec<u8>]) -> Vec<u8> {
        chunk(b"RIFF", &[b"WAVE", &chunks.concat()[..]].concat())
    }

    #[test]
    fn other_chunks_are_stepped_over() {
        let data = chunk(b"data", &[0, 0x80, 0, 0x40, 0, 0]);
        let file = wav(&[chunk(b"LIST", b"odd"), format(1, 16_000, 16), data]);
        assert_eq!(samples(&file).unwrap(), [-1.0, 0.5, 0.0]);
    }

    #[test]
    fn the_error_names_what_is_wrong() {
        let error = |file: &[u8]| samples(file).unwrap_err().to_string();
        assert!(error(b"ID3").contains("no WAV file"));
        assert!(error(&wav(&[format(1, 16_000, 16)])).contains("no 'data' chunk"));
        assert!(error(&wav(&[chunk(b"data", &[0; 2])])).contains("no 'fmt ' chunk"));
        assert!(error(&wav(&[chunk(b"fmt ", &[1, 0])])).contains("cut short in its 'fmt '"));
        let whole = wav(&[format(1, 16_000, 16), chunk(b"data", &[0; 9])]);
        assert!(error(&whole[..whole.len() - 2]).contains("cut short in its 'data'"));
        let stereo = error(&wav(&[format(2, 44_100, 16)]));
        assert!(stereo.contains("2 channel(s) of 16 bits in format 1 at 44100 Hz"));
    }
}
