"""The server that is measured, and the load generator that asks it.

Invariant: before it is measured its answers are held against the CPU's, once a call. What is not as it
should be is told of every phase that it serves.
"""

import json
import re
import time

from .process import Died, tail

# The case in small, for comparing answers.
SMALL_CASE = ["--model", "case6243", "--shape", "x:500,1000", "--shape", "rounds:2", "--batch", "1"]
AS_SAVED = 'parameters { key: "DISABLE_OPTIMIZED_EXECUTION" value { string_value: "true" } }\n'
# How the note of a row begins whose reference gave no answer.
NO_REFERENCE = "ask the reference"
# Seconds that a server has which is started anew, and the comparison of its answers.
ANEW = 60


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


def as_served(setting):
    """Returns how far answers may be apart where TF32 is on."""
    return 2e-2 if setting.gpu else 1e-3


def rows_of(setting, results, servers, tolerance, *arguments, timeout):
    """Returns how far the answers of two servers are apart, a row for each batch size."""
    server, reference = servers
    report, _ = loadgen(
        setting, results, "parity", server, "--reference", reference.endpoint,
        "--tolerance", tolerance, *arguments, timeout=timeout, check=False,
    )
    return report["rows"]


def device(setting):
    # Without one the server then does not start: nothing of the CPU passes for a GPU's.
    return "accelerator" if setting.gpu else "cpu"


def main_server(setting, results, phase, seconds):
    """Returns the server that is measured; it stays for the phases after."""
    try:
        return setting.serving("main") or start_main(setting, results, phase, seconds)
    finally:
        for remark in filter(None, [setting.remark, setting.lesser]):
            results.remark(phase, remark)


def start_main(setting, results, phase, seconds):
    """Starts it, and holds its answers against the CPU's before anything is measured.

    The server itself tries the form of a TorchScript model on its device, and takes a lesser one where
    that fails there. Where answers are wrong all the same, or none come, its models run as they were
    saved; and where that does not help, in their forms again, which then are not the cause.
    """

    def in_seconds(seconds):
        return setting, results, phase, time.monotonic() + seconds

    if setting.compared:
        return start(*in_seconds(seconds))
    server, wrong = tried(*in_seconds(seconds))
    setting.compared = True
    if not wrong:
        return server
    setting.stop("main")
    unknown, setting.remark = setting.remark, None
    saved = keep_as_saved(setting.repository)
    tell(setting, f"models as saved, by DISABLE_OPTIMIZED_EXECUTION, for else: {wrong}", unknown)
    server, again = tried(*in_seconds(ANEW))
    if not again:
        return server
    setting.stop("main")
    for config, text in saved.items():
        config.write_text(text)
    setting.remark = None
    tell(setting, f"wrong in whatever form, so as configured: {wrong}; and as saved: {again}", unknown)
    return start(*in_seconds(ANEW))


def tried(setting, results, phase, end):
    """Returns the server that was started, and what is wrong with it, or None."""
    try:
        server = start(setting, results, phase, end)
        wrong = faults_of(setting, results, server, end)
    except Died as died:
        server, wrong = None, str(died)
    return server, wrong and " ".join(wrong.split())[-500:]


def start(setting, results, phase, end):
    """Starts it, and keeps what it says of its models' forms."""
    log = setting.log("main")
    before = log.stat().st_size if log.exists() else 0
    try:
        return setting.serve(
            "main", setting.repository, device(setting), max(end - time.monotonic(), 1)
        )
    finally:
        lines = forms_of(log, before, setting.repository)
        results.forms(phase, lines)
        lesser = [line for line in lines if "is not taken" in line]
        setting.lesser = f"{len(lesser)} forms not taken, the first: {lesser[0]}" if lesser else None


def forms_of(log, before, repository):
    """Returns the lines on models' forms, from a place in the log on, without their times."""
    if not log.exists():
        return []
    said = log.read_bytes()[before:].decode(errors="replace").replace(f"{repository}/", "")
    return [re.sub(r"^\S+Z +", "", line)[:600] for line in said.splitlines() if "form of the model" in line]


def faults_of(setting, results, server, end):
    """Returns what is wrong with a server's answers to a request of each kind, or None."""

    def left():
        return max(min(60, end - time.monotonic()), 1)

    rows, unknown = [], []
    try:
        reference = setting.serve("reference", setting.scratch / "reference", "cpu", left())
        for arguments in ["--model", "ladder_inline", "--batch", "1"], SMALL_CASE:
            rows += rows_of(
                setting, results, (server, reference), as_served(setting), *arguments,
                "--variants", "1", "--timeout", "30s", timeout=left(),
            )
    except RuntimeError as error:
        unknown.append(str(error))
    finally:
        setting.stop("reference")
    if server.process.poll() is not None:
        return f"the server ended: {tail(server.log)}"
    wrong = []
    for row in rows:
        if not row["passes"] and row["note"].startswith(NO_REFERENCE):
            unknown.append(f"{row['model']}: {row['note']}")
        elif not row["passes"]:
            wrong.append(f"{row['model']}: {row['note']}, {row['difference']}")
    if unknown:
        tell(setting, f"not all answers were compared before it was measured: {'; '.join(unknown)}")
    return "; ".join(wrong) or None


def tell(setting, *remarks):
    """Adds to what is told of each figure."""
    setting.remark = "; ".join(filter(None, [setting.remark, *remarks]))


def keep_as_saved(repository):
    """Has TorchScript run on the device as it was saved; returns what the configurations were."""
    saved = {}
    for config in repository.glob("*/config.pbtxt"):
        text = config.read_text()
        if "pytorch_libtorch" in text and "KIND_CPU" not in text and AS_SAVED not in text:
            saved[config] = text
            # A file of its own, for the reference has links to what is there.
            config.unlink()
            config.write_text(f"{text.rstrip()}\n{AS_SAVED}")
    return saved
