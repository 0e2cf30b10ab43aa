#!/usr/bin/env python3
"""Measures Forebay on this machine's GPU, and writes results.json and table.md.

    python3 run.py [--out DIR] [--limit SECONDS]

Takes PyTorch 2.11 for CUDA 13 and Python 3.10 or later, and no network. Phases run in the order of
what they are worth, each for a time at most; after each, what is there is written. With
`--device cpu --quick` all of it runs in a short form where there is no GPU, as a test of itself:
its figures mean nothing.
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from forebay_gpu import phases, record
from forebay_gpu.process import Setting

HERE = Path(__file__).resolve().parent

# Name, what it does, and seconds at most.
PHASES = [
    ("machine", phases.machine, 30),
    ("models", phases.models, 40),
    ("bare", phases.bare, 60),
    ("parity", phases.parity, 90),
    ("export", phases.export, 100),
    ("ladder", phases.ladder, 220),
    ("case6243", phases.case6243, 80),
    ("served_parity", phases.served_parity, 40),
    ("async", phases.queued, 20),
]


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    out = os.environ.get("OUT", "forebay-gpu-results")
    add("--out", type=Path, default=Path(out), help="where results go; default: $OUT")
    add("--limit", type=float, default=480.0, help="seconds that all of it may take; default: 480")
    add("--device", choices=["gpu", "cpu"], default="gpu")
    add("--quick", action="store_true", help="small sizes and few requests: a test, no measurement")
    add("--lib", type=Path, help="the lib folder of a libtorch, where Python has no PyTorch")
    add("--auto-instances", type=int, help="instances of the column auto, in place of its own")
    add("--only", nargs="+", metavar="PHASE", help="of: " + " ".join(name for name, _, _ in PHASES))
    return parser.parse_args()


def main():
    options = arguments()
    # So that the finally blocks below stop what was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options.out.mkdir(parents=True, exist_ok=True)
    results = record.Results(options.out, vars(options))
    setting = Setting(HERE, options)
    end = time.monotonic() + options.limit
    try:
        for name, run, most in PHASES:
            if options.only and name not in options.only + ["machine", "models"]:
                results.skip(name, "not asked for")
                continue
            left = end - time.monotonic()
            if left < 5:
                results.skip(name, f"the limit of {options.limit:.0f} s was reached")
                continue
            results.run(name, lambda: run(setting, results, min(most, left)))
    finally:
        setting.close()
        results.write()
    print(f"\n{options.out / 'results.json'}\n{options.out / 'table.md'}", flush=True)
    return 1 if results.failed() else 0


if __name__ == "__main__":
    sys.exit(main())
