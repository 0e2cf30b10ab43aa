"""`python3 -m forebay_gpu.bare MODEL DEVICE BATCHES SECONDS OUT`: the bounds, by PyTorch alone.

Copies between pinned memory and the GPU, each way and both at once; the frozen module, with its
input on the device, and with copies around it one after the other. Times come from the device's
events. Writes JSON to OUT after each figure, so that running out of time keeps what is there.
"""

import contextlib
import json
import os
import sys
import time

import torch

IMAGE = (3, 250, 250)
# From where copies are all overhead, to those of case 6243.
COPIES = [64 << 10, 1 << 20, 16 << 20, 100_000_000, 400_000_000]


def main():
    model, device, batches, seconds, out = sys.argv[1:]
    end = time.monotonic() + float(seconds)
    found = {"torch": torch.__version__, "copies": [], "forward": []}

    def write():
        # Whole or not there: it is read even where this is ended in the midst of it.
        with open(f"{out}.partial", "w") as file:
            json.dump(found, file)
        os.replace(f"{out}.partial", out)

    write()
    if device == "cuda":
        found["device"] = torch.cuda.get_device_name()
        found["tf32"] = {
            "convolutions": torch.backends.cudnn.allow_tf32,
            "products": torch.backends.cuda.matmul.allow_tf32,
        }
        for size in COPIES:
            found["copies"].append(copies(size))
            write()
    with torch.inference_mode():
        for form, module in forms(model, device).items():
            for batch in map(int, batches.split(",")):
                # Half for each form, so that the second is not left out.
                if time.monotonic() < end:
                    found["forward"].append(forward(module, form, batch, device))
                    write()


def copies(size):
    """Bytes per second of copies of `size` bytes."""
    host = [torch.empty(size, dtype=torch.uint8).pin_memory() for _ in range(2)]
    there = [torch.empty(size, dtype=torch.uint8, device="cuda") for _ in range(2)]
    streams = [torch.cuda.Stream() for _ in range(2)]
    count = max(5, min(200, (2 << 30) // size))

    def h2d():
        with torch.cuda.stream(streams[0]):
            there[0].copy_(host[0], non_blocking=True)

    def d2h():
        with torch.cuda.stream(streams[1]):
            host[1].copy_(there[1], non_blocking=True)

    def both():
        h2d()
        d2h()

    def rate(copy, moved):
        for _ in range(3):
            copy()
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(count):
            copy()
        # Nothing is timed that is only queued.
        torch.cuda.synchronize()
        return moved * count / (time.perf_counter() - start)

    pageable = torch.empty(size, dtype=torch.uint8)
    return {
        "bytes": size,
        "h2d_bytes_per_s": rate(h2d, size),
        "d2h_bytes_per_s": rate(d2h, size),
        "both_bytes_per_s": rate(both, 2 * size),
        "h2d_pageable_bytes_per_s": rate(lambda: there[0].copy_(pageable), size),
    }


def forms(model, device):
    module = torch.jit.load(model, map_location=device).eval()
    found = {"saved": module}
    with contextlib.suppress(RuntimeError):
        found["frozen"] = torch.jit.freeze(module)
    return dict(reversed(found.items()))


def forward(module, form, batch, device):
    """Samples per second of one stream that does nothing else."""
    there = torch.rand(batch, *IMAGE, device=device)
    row = {"form": form, "batch": batch}
    if device != "cuda":
        row["samples_per_s"] = batch / seconds_each(lambda: module(there), lambda: None)
        return row
    host = torch.rand(batch, *IMAGE).pin_memory()

    def serial():
        # As a worker without overlap does it: in, pass, out, wait.
        module(host.to("cuda", non_blocking=True)).to("cpu")

    row["samples_per_s"] = batch / seconds_each(lambda: module(there), torch.cuda.synchronize)
    row["event_ms"] = event_ms(module, there)
    row["with_copies_per_s"] = batch / seconds_each(serial, torch.cuda.synchronize)
    return row


def seconds_each(work, synchronize):
    """Mean time of `work`, over half a second at least, after what it pays for once."""
    for _ in range(5):
        work()
    synchronize()
    count, start = 0, time.perf_counter()
    while True:
        for _ in range(5):
            work()
        synchronize()
        count += 5
        taken = time.perf_counter() - start
        if taken > 0.5:
            return taken / count


def event_ms(module, there):
    """Median time of a pass between two events of its stream."""
    times = []
    for _ in range(15):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        module(there)
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return sorted(times)[len(times) // 2]


if __name__ == "__main__":
    main()
