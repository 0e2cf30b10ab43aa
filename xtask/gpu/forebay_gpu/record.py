"""What came of each phase, written after each: results.json, and table.md for people.

Invariant: a call adds to what earlier ones left in the same folder, or in the file that it is told to
continue; only a phase that runs again replaces what it had.
"""

import json
import time
import traceback
from pathlib import Path

from . import table
from .process import Skip, Unusable

SCHEMA = "forebay-gpu/1"


class Results:
    """Phases by name, each with its status: ok, failed, interrupted or skipped, and why."""

    def __init__(self, out, options):
        self.out = out
        self.options = {key: show(value) for key, value in options.items()}
        self.phases = {}
        for file in filter(None, [options.get("continued"), out / "results.json"]):
            for name, entry in earlier(file, self.options).items():
                if entry["status"] != "skipped" or name not in self.phases:
                    self.phases[name] = entry
        self.ran = []
        # Why no phase can run, once that is known.
        self.unusable = None
        self.started = time.time()

    def run(self, name, phase):
        """Runs a phase. Nothing that goes wrong in it stops the others."""
        print(f"== {name}", flush=True)
        start = time.monotonic()
        # There while it runs, so that half a phase is kept, and told from a whole one.
        entry = {"status": "interrupted", "reason": "it did not come to its end"}
        self.phases[name] = entry
        self.ran.append(entry)
        entry["started_at_unix_s"] = time.time()
        self.write()
        try:
            entry["data"] = phase()
            entry["status"] = "ok"
            del entry["reason"]
        except Skip as reason:
            entry.update(status="skipped", reason=str(reason))
        except Exception as error:
            entry.update(status="failed", reason=str(error) or repr(error))
            if not isinstance(error, RuntimeError):
                entry["traceback"] = traceback.format_exc()
            if isinstance(error, Unusable):
                self.unusable = entry["reason"]
        # Calls may run on machines of different kinds.
        entry["gpu"] = (self.data("machine") or {}).get("nvidia_smi")
        entry["seconds"] = round(time.monotonic() - start, 2)
        if entry["status"] != "ok":
            print(f"   {entry['status']}: {entry['reason'][:400]}", flush=True)
        self.write()

    def note(self, name, data):
        """Keeps what a phase has so far."""
        self.phases[name]["data"] = data
        self.write()

    def remark(self, name, text):
        """Adds what is to be told beside a phase's figures."""
        remarks = self.phases[name].setdefault("remarks", [])
        if text not in remarks:
            remarks.append(text)
            print(f"   {text[:400]}", flush=True)
            self.write()

    def forms(self, name, lines):
        """Keeps what the server, which a phase started, said of its models' forms."""
        self.phases[name].setdefault("forms", []).extend(lines)
        self.write()

    def skip(self, name, reason):
        """Says why a phase does not run. What an earlier call found stays."""
        if self.phases.get(name, {"status": "skipped"})["status"] == "skipped":
            self.phases[name] = {"status": "skipped", "reason": reason}

    def leave(self, name):
        """Leaves a phase as earlier calls left it."""
        self.phases.setdefault(name, {"status": "skipped", "reason": "not asked for"})

    def data(self, name):
        """Returns what a phase found, or None."""
        return self.phases.get(name, {}).get("data")

    def failed(self):
        """Returns whether any phase of this call failed."""
        return any(entry["status"] in ("failed", "interrupted") for entry in self.ran)

    def write(self):
        whole = {
            "schema": SCHEMA,
            "started_at_unix_s": self.started,
            "options": self.options,
            "phases": self.phases,
            "verdicts": table.verdicts(self.phases, self.options),
        }
        replace(self.out / "results.json", json.dumps(whole, indent=1) + "\n")
        replace(self.out / "table.md", table.page(whole))


def earlier(file, options):
    """Returns the phases of earlier calls of the same kind, which left `file`."""
    try:
        found = json.loads(file.read_text())
        same = found["schema"] == SCHEMA and all(
            found["options"][key] == options[key] for key in ("device", "quick")
        )
        return found["phases"] if same else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def show(value):
    return str(value) if isinstance(value, Path) else value


def replace(path, text):
    """Writes a file so that no reader sees half of it."""
    partial = path.with_suffix(path.suffix + ".partial")
    partial.write_text(text)
    partial.replace(path)
