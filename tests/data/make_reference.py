"""Writes what the silero-vad package itself finds in a WAV file, for tests to compare with.

usage: make_reference.py SPEECH.wav SEGMENTS.json PROBABILITIES.json

Every parameter of `get_speech_timestamps` keeps its default. The model is the packaged
TorchScript one. The WAV file must be 16 kHz, mono, 16 bit.
"""

import array
import json
import sys
import wave
from importlib.metadata import version

import torch
from silero_vad import get_speech_timestamps, load_silero_vad

RATE = 16_000
CHUNK = 512
SECONDS_DIGITS = 3


def samples(path):
    with wave.open(path, "rb") as speech:
        form = (speech.getframerate(), speech.getnchannels(), speech.getsampwidth())
        if form != (RATE, 1, 2):
            sys.exit(f"{path}: expected 16 kHz, mono, 16 bit; it is {form}")
        data = array.array("h", speech.readframes(speech.getnframes()))
    if sys.byteorder == "big":
        data.byteswap()
    return torch.tensor(data, dtype=torch.float32) / 32768


def segments(speech, model):
    in_samples = get_speech_timestamps(speech, model)
    in_seconds = get_speech_timestamps(
        speech, model, return_seconds=True, time_resolution=SECONDS_DIGITS
    )
    return [
        {
            "start": s["start"],
            "end": s["end"],
            "start_seconds": t["start"],
            "end_seconds": t["end"],
        }
        for s, t in zip(in_samples, in_seconds, strict=True)
    ]


def probabilities(speech, model):
    """The last chunk is filled up with zeros, as `get_speech_timestamps` does."""
    model.reset_states()
    padded = torch.nn.functional.pad(speech, (0, -len(speech) % CHUNK))
    return [round(model(chunk, RATE).item(), 6) for chunk in padded.split(CHUNK)]


def write(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.write("\n")


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    _, wav, segments_path, probabilities_path = sys.argv
    torch.set_num_threads(1)
    model = load_silero_vad()
    about = {
        "made_by": f"silero-vad {version('silero-vad')}, torch {torch.__version__}, CPU",
        "sample_rate": RATE,
    }
    with torch.no_grad():
        speech = samples(wav)
        about["samples"] = len(speech)
        write(segments_path, about | {"segments": segments(speech, model)})
        found = probabilities(speech, model)
        write(probabilities_path, about | {"chunk": CHUNK, "probabilities": found})


if __name__ == "__main__":
    main()
