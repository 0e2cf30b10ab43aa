"""The server that is measured, and the load generator that asks it.

Invariant: before it is measured its answers are held against the CPU's, once a call. What is not as it
should be is told of every phase that it serves.
"""

import json
import time

from .process import Died, tail

# The case in small, for comparing answers.
SMALL_CASE = ["--model", "case6243", "--shape", "x:500,1000", "--shape", "rounds:2", "--batch", "1"]
AS_SAVED = 'parameters { key: "DISABLE_OPTIMIZED_EXECUTION" value { string_value: "true" } }\n'


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
        return setting.serving("main") or start_main(
            setting, results, time.monotonic() + seconds
        )
    finally:
        if setting.remark:
            results.remark(phase, setting.remark)


def start_main(setting, results, end):
    """Starts it, and holds its answers against the CPU's before anything is measured.

    The server tries TorchScript's optimized form on the CPU alone. Where answers are wrong here, or
    none come, its models run as they were saved.
    """

    def start():
        return setting.serve(
            "main", setting.repository, device(setting), end - time.monotonic()
        )

    if setting.compared:
        return start()
    try:
        server = start()
        wrong = faults_of(setting, results, server)
    except Died as died:
        wrong = str(died)
    setting.compared = True
    if not wrong:
        return server
    setting.stop("main")
    keep_as_saved(setting.repository)
    wrong = " ".join(wrong.split())[-500:]
    setting.remark = f"models as saved, by DISABLE_OPTIMIZED_EXECUTION, for else: {wrong}"
    server = start()
    again = faults_of(setting, results, server)
    if again:
        setting.remark += f"; and as saved: {again}"
    return server


def faults_of(setting, results, server):
    """Returns what is wrong with a server's answers to a request of each kind, or None."""
    try:
        reference = setting.serve("reference", setting.scratch / "reference", "cpu", 60)
        rows = []
        for arguments in ["--model", "ladder_inline", "--batch", "1"], SMALL_CASE:
            rows += rows_of(
                setting, results, (server, reference), as_served(setting), *arguments,
                "--variants", "1", "--timeout", "30s", timeout=60,
            )
    except RuntimeError as error:
        if server.process.poll() is not None:
            return f"the server ended: {tail(server.log)}"
        unknown = f"no answers were compared before it was measured: {error}"
        setting.remark = "; ".join(filter(None, [setting.remark, unknown]))
        return None
    finally:
        setting.stop("reference")
    wrong = [f"{row['model']}: {row['note']}, {row['difference']}" for row in rows if not row["passes"]]
    return "; ".join(wrong) or None


def keep_as_saved(repository):
    """Has TorchScript run on the device as it was saved."""
    for config in repository.glob("*/config.pbtxt"):
        text = config.read_text()
        if "pytorch_libtorch" in text and "KIND_CPU" not in text and AS_SAVED not in text:
            # A file of its own, for the reference has links to what is there.
            config.unlink()
            config.write_text(f"{text.rstrip()}\n{AS_SAVED}")
