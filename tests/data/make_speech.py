"""Joins recordings of speech to one WAV file, with digital silence between them.

usage: make_speech.py OUTPUT.wav RECORDING.wav...

Each recording must be 16 kHz, mono, 16 bit. The samples are copied as they are.
"""

import sys
import wave

RATE = 16_000
BEFORE_AND_AFTER_S = 0.5
BETWEEN_S = 1.0


def silence(seconds):
    return bytes(2 * round(seconds * RATE))


def samples(path):
    with wave.open(path, "rb") as recording:
        form = (recording.getframerate(), recording.getnchannels(), recording.getsampwidth())
        if form != (RATE, 1, 2):
            sys.exit(f"{path}: expected 16 kHz, mono, 16 bit; it is {form}")
        return recording.readframes(recording.getnframes())


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    output, *recordings = sys.argv[1:]
    speech = silence(BETWEEN_S).join(samples(path) for path in recordings)
    with wave.open(output, "wb") as joined:
        joined.setnchannels(1)
        joined.setsampwidth(2)
        joined.setframerate(RATE)
        joined.writeframes(silence(BEFORE_AND_AFTER_S) + speech + silence(BEFORE_AND_AFTER_S))


if __name__ == "__main__":
    main()
