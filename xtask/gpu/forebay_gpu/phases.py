"""The phases: each takes the setting, the results so far and its seconds, and returns its data."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from importlib import metadata

from . import table
from .process import Background, Skip, Unusable
from .served import SMALL_CASE, as_served, device, loadgen, main_server, rows_of

# ResNet-18 in each configuration that is compared; .pt2 is made here.
RUNGS = ["inline", "stages", "workers2", "workers3", "workers4", "auto"]
AOTI = "ladder_aoti"
# In triton-inference-server/server#6243, a request of 100 MB with 400 MB of answers computes so long.
CASE_COMPUTE_MS = 58.4


def machine(setting, results, seconds):
    """Driver, GPU, versions, and what the server finds of devices."""
    fields = {
        "system": platform.platform,
        "cores": os.cpu_count,
        "python": lambda: sys.version.split()[0],
        "torch": torch_version,
        "nvidia_smi": nvidia_smi,
        "libraries": lambda: [str(folder) for folder in setting.libraries()],
        "bundle": lambda: (setting.bundle / "VERSION").read_text().strip(),
        # The first program to read libtorch_cuda.so waits for a cold disk.
        "forebay": lambda: setting.run("forebay", "--version", timeout=60).strip(),
        "devices": lambda: setting.run("forebay", "devices", timeout=60, check=False).strip(),
    }
    found, faults = {}, []
    for field, ask in fields.items():
        try:
            found[field] = ask()
        except Exception as error:
            found[field] = "n/a"
            faults.append(f"{field}: {error}")
        results.note("machine", found)
    missing = re.search("^no accelerator.*", found["devices"], re.MULTILINE)
    if setting.gpu and missing:
        raise Unusable(missing[0])
    if faults:
        raise RuntimeError("; ".join(faults))
    return found


def nvidia_smi():
    fields = "name,driver_version,memory.total,clocks.max.sm,clocks.max.memory,pcie.link.gen.max"
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=15,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"n/a: {error}"
    return done.stdout.strip() or f"n/a: {done.stderr.strip()[-200:]}"


def torch_version():
    # Asked of its metadata: loading PyTorch takes seconds.
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return None


def models(setting, results, seconds):
    """Writes the model repository, and beside it the one of the reference."""
    setting.run("make-models", setting.repository, "--ladder", timeout=seconds)
    for config in setting.repository.glob("*/config.pbtxt"):
        text = config.read_text()
        if setting.quick:
            text = text.replace("max_batch_size: 256", "max_batch_size: 4")
        if setting.options.auto_instances and config.parent.name == "ladder_auto":
            text = re.sub(r"count: \d+", f"count: {setting.options.auto_instances}", text)
        config.write_text(text)
    reference = setting.scratch / "reference"
    for name in ["ladder_inline", "case6243"]:
        shutil.copytree(setting.repository / name, reference / name, copy_function=os.link)
    return sorted(path.name for path in setting.repository.iterdir())


def bare(setting, results, seconds):
    """The bounds, measured by PyTorch alone: copies of pinned memory, the frozen module."""
    need_torch(setting)
    out = setting.scratch / "bare.json"
    model = setting.repository / "ladder_inline" / "1" / "model.pt"
    device = "cuda" if setting.gpu else "cpu"
    batches = ",".join(map(str, setting.batches))
    try:
        setting.python(
            "-m", "forebay_gpu.bare", model, device, batches, seconds - 15, out, timeout=seconds
        )
    finally:
        if out.exists():
            results.note("bare", json.loads(out.read_text()))
    return results.data("bare")


def need_torch(setting):
    if torch_version() is None:
        raise Skip("this Python has no PyTorch")


def start_export(setting):
    """Starts the exporter, which takes its time, beside phases whose times do not count."""
    exporter = setting.bundle / "export_aoti.py"
    if torch_version() is None or not exporter.exists() or setting.background:
        return
    what = f"{setting.bundle / 'forebay_gpu' / 'resnet18.py'}:resnet18"
    model = setting.repository / "ladder_inline" / "1" / "model.pt"
    most = 4 if setting.quick else 256
    device = "cuda" if setting.gpu else "cpu"
    setting.background = Background(
        [sys.executable, str(exporter), what, str(setting.scratch / "exported"),
         "--name", AOTI, "--max-batch", str(most), "--device", device],
        setting.options.out / "export.log",
        {**os.environ, "FOREBAY_RESNET18": str(model)},
    )


def export(setting, results, seconds):
    """Takes the package that the exporter made into the repository."""
    need_torch(setting)
    if not (setting.bundle / "export_aoti.py").exists():
        raise Skip("the bundle has no exporter")
    start_export(setting)
    said = setting.background.wait(seconds)
    made = setting.scratch / "exported" / AOTI
    config = made / "config.pbtxt"
    # A request is a batch of its own, as for the other columns.
    text = re.sub(r"dynamic_batching *\{[^}]*\}\n?", "", config.read_text())
    config.write_text(text)
    shutil.move(made, setting.repository / AOTI)
    return said


def parity(setting, results, seconds):
    """Outputs of the GPU equal the CPU's, with TF32 off so that FP32 means FP32."""
    if not setting.options.only or "export" in setting.options.only:
        start_export(setting)
    end = time.monotonic() + seconds
    try:
        reference = setting.serve("reference", setting.scratch / "reference", "cpu", seconds / 2)
        exact = setting.serve(
            "exact", setting.repository, device(setting), end - time.monotonic() - 10,
            NVIDIA_TF32_OVERRIDE="0",
        )
        return compare(setting, results, "parity", (exact, reference), 1e-3, end)
    finally:
        setting.stop("exact", "reference")


def served_parity(setting, results, seconds):
    """The same as it is served: convolutions may round to TF32's ten bits."""
    end = time.monotonic() + seconds
    server = main_server(setting, results, "served_parity", seconds * 0.7)
    # Where it was started anew, comparing has its own part of the time all the same.
    end = max(end, time.monotonic() + seconds * 0.3)
    try:
        reference = setting.serve("reference", setting.scratch / "reference", "cpu", seconds / 2)
        return compare(
            setting, results, "served_parity", (server, reference), as_served(setting), end
        )
    finally:
        setting.stop("reference")


def compare(setting, results, phase, servers, tolerance, end):
    server, _ = servers
    rungs = [f"ladder_{rung}" for rung in RUNGS]
    if (setting.repository / AOTI).exists() and server.name == "main":
        rungs.append(AOTI)
    batches = "1,2" if setting.quick else "1,32"
    comparisons = [
        ["--model", rung, "--reference-model", "ladder_inline", "--batch", batches] for rung in rungs
    ]
    comparisons.append(SMALL_CASE)
    rows = []
    for arguments in comparisons:
        left = max(end - time.monotonic(), 5)
        rows += rows_of(setting, results, servers, tolerance, *arguments, timeout=left)
        results.note(phase, {"tolerance": tolerance, "rows": rows})
    return {"tolerance": tolerance, "rows": rows}


def ladder(setting, results, seconds):
    """Configurations of ResNet-18 against one another."""
    end = time.monotonic() + seconds
    # Anew, for the latency of the very first request is of one that has answered nothing.
    setting.stop("main")
    server = main_server(setting, results, "ladder", seconds / 2)
    asked = setting.options
    repetitions = 2 if setting.quick else asked.repetitions
    reports, texts = [], []
    # Small batches apart: all their repetitions take less than one of the large ones, of which a
    # request is up to 192 MB.
    for batches, part, requests in (setting.batches[:2], 0.5, 100), (setting.batches[2:], 1, 25):
        if not batches:
            continue
        requests = 4 if setting.quick else asked.requests or requests
        left = (end - time.monotonic()) * (part if setting.batches[2:] else 1)
        if reports:
            fit = repetitions_that_fit(reports[-1], batches, requests, 0.9 * (left - 20))
            if fit < repetitions:
                repetitions = fit
                results.remark("ladder", f"repetitions of batches {batches}: {fit}, for no more fit")
        report, text = loadgen(
            setting, results, "ladder", server, "--batch", ",".join(map(str, batches)),
            "--requests", requests, "--repetitions", repetitions,
            "--limit", f"{max(int(left) - 10, 1)}s", "--timeout", "60s", timeout=left,
        )
        reports.append(report)
        texts.append(text)
        # Kept even if the next one fails.
        results.note("ladder", {"reports": reports, "text": "\n".join(texts)})
    return {"reports": reports, "text": "\n".join(texts)}


def repetitions_that_fit(report, batches, requests, seconds):
    """Returns how many repetitions of other batch sizes do, one at least, by the time that `report` took.

    Time goes by the bytes that are moved, and those by samples.
    """
    if report["cut"]:
        return 1
    served = sum("measured" in column["state"] for column in report["columns"])
    floor = "measured" in report["floor"]["state"]

    def samples(batches, requests, repetitions):
        # With the run-in, and the single request before each volley; the floor has two repetitions.
        volleys = served * (1 + repetitions) + floor * (1 + min(repetitions, 2))
        return volleys * (1 + requests) * sum(batches)

    done = samples(report["batches"], report["requests"], report["repetitions"])
    each = report["took_s"] / max(done, 1)
    fit = 1
    while fit < 100 and samples(batches, requests, fit + 1) * each <= seconds:
        fit += 1
    return fit


def case6243(setting, results, seconds):
    """100 MB in, 400 MB out: throughput over what the slowest stage allows."""
    end = time.monotonic() + seconds
    server = main_server(setting, results, "case6243", seconds / 2)
    # Where it was started anew, measuring has its own part of the time all the same.
    end = max(end, time.monotonic() + seconds / 2)
    rows = 250 if setting.quick else 25_000

    found = []

    def measure(rounds, requests, repetitions):
        left = end - time.monotonic()
        report, _ = loadgen(
            setting, results, "ladder", server, "--column", "auto=case6243", "--floor", "none",
            "--batch", "1", "--shape", f"x:{rows},1000", "--shape", f"rounds:{rounds}",
            "--requests", requests, "--repetitions", repetitions, "--streams", "4", "--quiet",
            "--limit", f"{max(int(left / 2), 1)}s", "--timeout", "60s", timeout=left,
        )
        state = report["columns"][0]["state"]
        if "absent" in state:
            raise RuntimeError(f"case6243 is not served: {state['absent']['reason']}")
        cell = state["measured"]["rows"][0]
        if cell["failed"]:
            raise RuntimeError(f"{cell['failed']} requests failed: {cell['failure']}")
        return {"rounds": rounds, "requests": requests, **cell}

    def keep(rounds, requests, repetitions):
        found.append(measure(rounds, requests, repetitions))
        results.note("case6243", found)

    def compute_ms(rounds):
        alone = measure(rounds, 2, 2)["alone_ms"]
        if alone is None:
            raise RuntimeError("the server did not tell its stage times, which the case is tuned by")
        return alone["compute"]

    def rounds_for(wanted_ms):
        return max(1, round((wanted_ms - once) / max(each, 1e-3)) + 1)

    # The run-in settles the kernels; single requests tell the stages.
    once, many = compute_ms(1), compute_ms(11)
    each = (many - once) / 10
    if setting.quick:
        keep(2, 4, 2)
        return found
    keep(rounds_for(CASE_COMPUTE_MS), 10, 5)
    spread, reached = found[0]["samples_per_s"], table.of_bound(found[0])
    short = spread and reached is not None and reached < table.OF_BOUND
    if short and end - time.monotonic() > 20:
        # Client and network may be slower than any stage; then compute is made to be the slowest.
        keep(rounds_for(1.3 * 1e3 / spread["mean"]), 10, 3)
    return found


def queued(setting, results, seconds):
    """Queued against done."""
    server = main_server(setting, results, "async", seconds)
    report, text = loadgen(setting, results, "async", server, timeout=seconds)
    return {"report": report, "text": text}
