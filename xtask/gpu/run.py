#!/usr/bin/env python3
"""Measures Forebay on this machine's GPU, and writes results.json and table.md.

    python3 run.py --out DIR --only machine bare parity
    python3 run.py --out DIR --only export served_parity ladder
    python3 run.py --out DIR --only case6243 async

Each call takes ten minutes at most, and what they find adds up in DIR; where DIR begins empty, name
the results.json of the call before by --continue. Without --only, phases run in the order of what
they are worth until --limit; what did not fit is named. Without a GPU that the server can use, it ends
at once. Takes PyTorch 2.11 for CUDA 13 and Python 3.10 or later, and no network. After each phase,
what is there is written. With
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

# Name, what it does, and seconds at most. The ladder takes what is left: it moves the most by far.
PHASES = [
    ("machine", phases.machine, 140),
    ("models", phases.models, 120),
    ("bare", phases.bare, 80),
    ("parity", phases.parity, 180),
    ("export", phases.export, 180),
    ("case6243", phases.case6243, 240),
    ("async", phases.queued, 60),
    ("served_parity", phases.served_parity, 150),
    ("ladder", phases.ladder, float("inf")),
]
# These run in every call.
ALWAYS = ["machine", "models"]


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    out = os.environ.get("OUT", "forebay-gpu-results")
    add("--out", type=Path, default=Path(out), help="where results go; default: $OUT")
    add("--continue", dest="continued", type=Path, metavar="FILE",
        help="the results.json of an earlier call; what it found stays in the results")
    add("--limit", type=float, default=560.0, help="seconds that all of it may take; default: 560")
    add("--device", choices=["gpu", "cpu"], default="gpu")
    add("--quick", action="store_true", help="small sizes and few requests: a test, no measurement")
    add("--lib", type=Path, help="the lib folder of a libtorch, where Python has no PyTorch")
    add("--auto-instances", type=int, help="instances of the column auto, in place of its own")
    add("--requests", type=int, help="of the ladder at once; default: 100, of batches above 32: 25")
    add("--repetitions", type=int, default=3, help="of the ladder; default: 3")
    names = [name for name, _, _ in PHASES]
    add("--only", nargs="+", metavar="PHASE", choices=names, help="of: " + " ".join(names))
    options = parser.parse_args()
    # At once, before a machine that is lent spends its time.
    if options.continued and not record.earlier(options.continued, vars(options)):
        parser.error(f"{options.continued} holds no results of this kind of run")
    return options


def main():
    options = arguments()
    # So that the finally blocks below stop what was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options.out.mkdir(parents=True, exist_ok=True)
    results = record.Results(options.out, vars(options))
    setting = Setting(HERE, options)
    end = time.monotonic() + options.limit
    if not options.only and not options.quick:
        print(f"All of it may not fit in {options.limit:.0f} s; see --help for three calls.", flush=True)
    left_out = []
    try:
        for name, run, most in PHASES:
            if options.only and name not in options.only + ALWAYS:
                results.leave(name)
                continue
            if results.unusable:
                results.skip(name, results.unusable)
                continue
            left = end - time.monotonic()
            if left < 5:
                results.skip(name, f"the limit of {options.limit:.0f} s was reached")
                left_out.append(name)
                continue
            results.run(name, lambda: run(setting, results, min(most, left)))
    finally:
        setting.close()
        results.write()
    if results.unusable:
        print(f"\nnothing was measured: {results.unusable}", flush=True)
    if left_out:
        print(f"\nleft out at the limit; run --only {' '.join(left_out)}", flush=True)
    print(f"\n{options.out / 'results.json'}\n{options.out / 'table.md'}", flush=True)
    return 1 if results.failed() else 0


if __name__ == "__main__":
    sys.exit(main())
