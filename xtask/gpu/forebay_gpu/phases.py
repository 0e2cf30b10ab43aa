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

from .process import Background, Skip

# ResNet-18 in each configuration that is compared; .pt2 is made here.
RUNGS = ["inline", "stages", "workers2", "workers3", "workers4", "auto"]
AOTI = "ladder_aoti"
# In triton-inference-server/server#6243, a request of 100 MB with 400 MB of answers computes so long.
CASE_COMPUTE_MS = 58.4


def machine(setting, results, seconds):
    """Driver, GPU, versions, and what the server finds of devices."""
    return {
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "python": sys.version.split()[0],
        "torch": torch_version(),
        "nvidia_smi": nvidia_smi(),
        "libraries": [str(folder) for folder in setting.libraries()],
        "bundle": (setting.bundle / "VERSION").read_text().strip(),
        "forebay": setting.run("forebay", "--version", timeout=10).strip(),
        "devices": setting.run("forebay", "devices", timeout=seconds, check=False).strip(),
    }


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
    setting.python(
        "-m", "forebay_gpu.bare", model, device, batches, seconds - 15, out, timeout=seconds
    )
    return json.loads(out.read_text())


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


def loadgen(setting, results, command, server, *arguments, timeout, check=True):
    """Runs the load generator; returns its JSON and its table."""
    out = setting.scratch / "loadgen.json"
    out.unlink(missing_ok=True)
    text = setting.run(
        "loadgen", command, "--endpoint", server.endpoint, "--json", out, *arguments,
        timeout=timeout, check=check,
    )
    if not out.exists():
        raise RuntimeError(f"loadgen {command} left no report: {text[-1500:]}")
    return json.loads(out.read_text()), text


def parity(setting, results, seconds):
    """Outputs of the GPU equal the CPU's, with TF32 off so that FP32 means FP32."""
    start_export(setting)
    end = time.monotonic() + seconds
    reference = setting.serve("reference", setting.scratch / "reference", "cpu", seconds / 2)
    kind = device(setting)
    exact = setting.serve(
        "exact", setting.repository, kind, end - time.monotonic() - 10, NVIDIA_TF32_OVERRIDE="0"
    )
    try:
        return compare(setting, results, exact, reference, 1e-3, end)
    finally:
        exact.stop()
        reference.stop()


def served_parity(setting, results, seconds):
    """The same as it is served: convolutions may round to TF32's ten bits."""
    end = time.monotonic() + seconds
    server = setting.serving("main")
    if server is None:
        raise Skip("the server of the ladder is not running")
    reference = setting.serve("reference", setting.scratch / "reference", "cpu", seconds / 2)
    try:
        return compare(setting, results, server, reference, 2e-2 if setting.gpu else 1e-3, end)
    finally:
        reference.stop()


def compare(setting, results, server, reference, tolerance, end):
    rungs = [f"ladder_{rung}" for rung in RUNGS]
    if (setting.repository / AOTI).exists() and server.name == "main":
        rungs.append(AOTI)
    models = [word for rung in rungs for word in ("--model", rung)]
    rows = []
    for arguments in (
        [*models, "--reference-model", "ladder_inline", "--batch", "1,2" if setting.quick else "1,32"],
        ["--model", "case6243", "--shape", "x:500,1000", "--shape", "rounds:2", "--batch", "1"],
    ):
        report, _ = loadgen(
            setting, results, "parity", server, "--reference", reference.endpoint,
            "--tolerance", tolerance, *arguments,
            timeout=max(end - time.monotonic(), 5), check=False,
        )
        rows += report["rows"]
    return {"tolerance": tolerance, "rows": rows}


def device(setting):
    # Without one the server then does not start: nothing of the CPU passes for a GPU's.
    return "accelerator" if setting.gpu else "cpu"


def main_server(setting, seconds):
    """Returns the server that is measured; it stays for the phases after."""
    return setting.serving("main") or setting.serve(
        "main", setting.repository, device(setting), seconds
    )


def ladder(setting, results, seconds):
    """Configurations of ResNet-18 against one another."""
    end = time.monotonic() + seconds
    server = main_server(setting, seconds / 2)
    size = ["--requests", "4", "--repetitions", "2"] if setting.quick else []
    reports, texts = [], []
    # Small batches apart: all their repetitions take less than one of the large ones.
    for batches, part in (setting.batches[:2], 0.35), (setting.batches[2:], 1):
        if not batches:
            continue
        left = (end - time.monotonic()) * part
        report, text = loadgen(
            setting, results, "ladder", server,
            "--batch", ",".join(map(str, batches)), *size,
            "--limit", f"{max(int(left) - 10, 1)}s", "--timeout", "60s", timeout=left,
        )
        reports.append(report)
        texts.append(text)
        # Kept even if the next one fails.
        results.note("ladder", {"reports": reports, "text": "\n".join(texts)})
    return {"reports": reports, "text": "\n".join(texts)}


def case6243(setting, results, seconds):
    """100 MB in, 400 MB out: throughput over what the slowest stage allows."""
    end = time.monotonic() + seconds
    server = main_server(setting, seconds / 2)
    rows = 250 if setting.quick else 25_000

    def measure(rounds, requests, repetitions):
        left = end - time.monotonic()
        report, _ = loadgen(
            setting, results, "ladder", server, "--column", "auto=case6243", "--floor", "none",
            "--batch", "1", "--shape", f"x:{rows},1000", "--shape", f"rounds:{rounds}",
            "--requests", requests, "--repetitions", repetitions, "--streams", "4", "--quiet",
            "--limit", f"{max(int(left / 2), 1)}s", "--timeout", "20s", timeout=left,
        )
        state = report["columns"][0]["state"]
        if "absent" in state:
            raise RuntimeError(f"case6243 is not served: {state['absent']['reason']}")
        cell = state["measured"]["rows"][0]
        if cell["failed"]:
            raise RuntimeError(f"{cell['failed']} requests failed: {cell['failure']}")
        return {"rounds": rounds, **cell}

    def rounds_for(compute_ms):
        return max(1, round((compute_ms - once) / max(each, 1e-3)) + 1)

    # The first run of each size settles the kernels; single requests tell the stages.
    few, many = (measure(rounds, 2, 3)["alone_ms"]["compute"] for rounds in (1, 11))
    once, each = few, (many - few) / 10
    if setting.quick:
        return [measure(2, 4, 2)]
    found = [measure(rounds_for(CASE_COMPUTE_MS), 30, 5)]
    per_request_ms = 1e3 / found[0]["samples_per_s"]["mean"]
    if found[0]["of_bound"] < 0.95 and end - time.monotonic() > 20:
        # Client and network may be slower than any stage; then compute is made to be the slowest.
        found.append(measure(rounds_for(1.3 * per_request_ms), 30, 3))
    return found


def queued(setting, results, seconds):
    """Queued against done."""
    server = main_server(setting, seconds)
    report, text = loadgen(setting, results, "async", server, timeout=seconds)
    return {"report": report, "text": text}
