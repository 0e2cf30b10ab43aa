//! Turns the probability of speech in each chunk into segments of speech.
//!
//! Decides as Silero's own `get_speech_timestamps` does at its defaults for 16 kHz, but while the
//! audio still comes in: each segment is told as soon as it is known to be over.

/// Samples in a second.
pub(crate) const SAMPLE_RATE: u32 = 16_000;
/// Samples in a chunk.
pub(crate) const CHUNK: u32 = 512;

/// Speech begins at this probability.
const THRESHOLD: f64 = 0.5;
/// Silence begins below this one. Between the two, things stay as they are.
const SILENCE_THRESHOLD: f64 = THRESHOLD - 0.15;
/// Speech that is not longer is dropped: 250 ms.
const MIN_SPEECH: u64 = 4_000;
/// A pause that is shorter does not end a segment: 100 ms.
const MIN_SILENCE: u64 = 1_600;
/// Each segment is widened by this much at both ends: 30 ms.
const PAD: u64 = 480;

/// Were pauses shorter, neighbours would have to share one, and a segment's end could not be told
/// before the next one starts.
const _: () = assert!(MIN_SILENCE >= 2 * PAD);

/// A stretch of speech, in samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    /// The first sample.
    pub(crate) start: u64,
    /// The sample after the last.
    pub(crate) end: u64,
}

impl Segment {
    /// Returns start and end in seconds.
    pub(crate) fn seconds(self) -> [f64; 2] {
        [self.start, self.end].map(|sample| sample as f64 / f64::from(SAMPLE_RATE))
    }

    fn padded(self, samples: u64) -> Self {
        Self {
            start: self.start.saturating_sub(PAD),
            end: (self.end + PAD).min(samples),
        }
    }

    fn is_long_enough(self) -> bool {
        self.end - self.start > MIN_SPEECH
    }
}

/// Follows one recording.
#[derive(Debug, Default)]
pub(crate) struct Segmenter {
    /// Where the next chunk begins.
    position: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, Default)]
enum State {
    #[default]
    Silence,
    Speech {
        start: u64,
    },
    /// Still speech, unless the pause that began at `end` grows long enough.
    Pause {
        start: u64,
        end: u64,
    },
}

impl Segmenter {
    /// Takes the next chunk's probability; returns the segment that it ends.
    pub(crate) fn push(&mut self, probability: f32) -> Option<Segment> {
        let here = self.position;
        self.position += u64::from(CHUNK);
        let probability = f64::from(probability);
        let speech = probability >= THRESHOLD;
        let silence = probability < SILENCE_THRESHOLD;
        let (next, over) = match self.state {
            State::Silence if speech => (State::Speech { start: here }, None),
            State::Speech { start } if silence => (State::Pause { start, end: here }, None),
            State::Pause { start, .. } if speech => (State::Speech { start }, None),
            State::Pause { start, end } if silence && here - end >= MIN_SILENCE => {
                (State::Silence, Some(Segment { start, end }))
            }
            unchanged => (unchanged, None),
        };
        self.state = next;
        over.filter(|segment| segment.is_long_enough())
            .map(|segment| segment.padded(self.position))
    }

    /// Ends the recording after `samples`; returns the segment that was not over yet.
    pub(crate) fn finish(self, samples: u64) -> Option<Segment> {
        let (State::Speech { start } | State::Pause { start, .. }) = self.state else {
            return None;
        };
        // A pause too short to end the segment belongs to it.
        let segment = Segment {
            start,
            end: samples.max(start),
        };
        segment.is_long_enough().then(|| segment.padded(samples))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs over `(chunks, probability)` pairs and returns starts and ends in samples.
    fn segments(runs: &[(usize, f32)], cut: u64) -> Vec<(u64, u64)> {
        let mut segmenter = Segmenter::default();
        let mut found = Vec::new();
        let mut samples = 0;
        for &(chunks, probability) in runs {
            for _ in 0..chunks {
                found.extend(segmenter.push(probability));
                samples += u64::from(CHUNK);
            }
        }
        found.extend(segmenter.finish(samples - cut));
        found
            .iter()
            .map(|segment| (segment.start, segment.end))
            .collect()
    }

    #[test]
    fn speech_is_padded_on_both_sides() {
        let runs = [(10, 0.1), (20, 0.9), (10, 0.1)];
        assert_eq!(segments(&runs, 0), [(10 * 512 - 480, 30 * 512 + 480)]);
    }

    #[test]
    fn padding_stays_inside_the_recording() {
        assert_eq!(segments(&[(20, 0.9)], 100), [(0, 20 * 512 - 100)]);
    }

    #[test]
    fn speech_of_a_quarter_second_or_less_is_dropped() {
        assert_eq!(segments(&[(5, 0.1), (7, 0.9), (10, 0.1)], 0), []);
        assert_eq!(segments(&[(5, 0.1), (8, 0.9), (10, 0.1)], 0).len(), 1);
        assert_eq!(segments(&[(5, 0.1), (8, 0.9)], 96), []);
        assert_eq!(segments(&[(5, 0.1), (8, 0.9)], 95).len(), 1);
    }

    #[test]
    fn pauses_shorter_than_a_tenth_of_a_second_do_not_split() {
        let runs = |pause| [(20, 0.9), (pause, 0.1), (20, 0.9), (9, 0.1)];
        assert_eq!(segments(&runs(4), 0).len(), 1);
        let split = segments(&runs(5), 0);
        assert_eq!(
            split,
            [(0, 20 * 512 + 480), (25 * 512 - 480, 45 * 512 + 480)]
        );
    }

    #[test]
    fn between_the_thresholds_nothing_changes() {
        // Neither starts speech, nor ends it, nor counts towards a pause.
        assert_eq!(segments(&[(20, 0.49)], 0), []);
        let runs = [
            (20, 0.5),
            (20, 0.36),
            (1, 0.34),
            (9, 0.4),
            (1, 0.3),
            (5, 0.6),
        ];
        assert_eq!(segments(&runs, 0), [(0, 40 * 512 + 480)]);
        let runs = [(20, 0.5), (1, 0.34), (9, 0.4), (1, 0.6), (5, 0.6)];
        assert_eq!(segments(&runs, 0), [(0, 36 * 512)]);
    }

    #[test]
    fn seconds_are_samples_over_the_rate() {
        let segment = Segment {
            start: 4_000,
            end: 40_000,
        };
        assert_eq!(segment.seconds(), [0.25, 2.5]);
    }
}
