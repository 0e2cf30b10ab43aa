"""What the scripts make of figures: `python3 -m unittest test_results`."""

import json
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace

from forebay_gpu import phases, record, table
from forebay_gpu.process import Setting, Skip

OPTIONS = {"device": "gpu", "quick": False}
SIZES = [1, 32, 64, 128, 256]


def ladder(batches=SIZES, status="ok", cut=None, **more):
    judged = {"best": ["auto", 1.0], "auto_of_best": 1.0, "passes": True, "faults": [],
              "near_floor": False, **more}
    report = {"cut": cut, "columns": [], "judgements": [{"batch": size, **judged} for size in batches]}
    return {"ladder": {"status": status, "reason": "r", "data": {"reports": [report], "text": ""}}}


def case(reached, overlap=1.6, **more):
    stages = {"h2d": 6.2, "compute": 58.4, "d2h": 31.6}
    cell = {"rounds": 9, "requests": 10, "samples_per_s": {"mean": reached, "n": 5},
            "alone_ms": stages, "stages_ms": stages, "overlap": overlap, "of_bound": reached * 0.0584,
            "bound_per_s": 17.1, **more}
    return {"case6243": {"status": "ok", "data": [cell]}}


class Verdicts(unittest.TestCase):
    def test_auto_is_met_by_a_whole_ladder_only(self):
        def verdict(**more):
            return table.auto(ladder(**more), SIZES)[0]

        self.assertEqual(verdict(), table.MET)
        self.assertEqual(verdict(passes=False, faults=["it lags"]), table.MISSED)
        self.assertEqual(verdict(cut="its limit was reached"), table.NONE)
        self.assertEqual(verdict(status="failed"), table.NONE)
        self.assertEqual(verdict(batches=SIZES[:2]), table.NONE)
        self.assertEqual(verdict(near_floor=True, passes=False), table.BOUNDED)

    def test_case6243_counts_the_filling_of_the_pipeline_and_nothing_else(self):
        # Ten requests take 96.2 ms, and nine times 58.4 ms, at best.
        best = 10e3 / (96.2 + 9 * 58.4)
        self.assertEqual(table.case(case(0.951 * best))[0], table.MET)
        self.assertEqual(table.case(case(0.949 * best))[0], table.MISSED)
        nothing = case(best, samples_per_s=None, of_bound=None)
        self.assertEqual(table.case(nothing)[0], table.NONE)
        self.assertIn("n/a", "\n".join(table.case_rows(nothing)))
        self.assertEqual(table.case(case(best, alone_ms=None))[0], table.NONE)

    def test_overlap_is_held_against_full_overlap(self):
        full = 96.2 / 58.4
        self.assertEqual(table.overlap(case(1, 0.91 * full))[0], table.MET)
        self.assertEqual(table.overlap(case(1, 0.89 * full))[0], table.MISSED)
        self.assertEqual(table.overlap(ladder())[0], table.NONE)

    def test_parity_is_met_by_all_rows_only(self):
        row = {"model": "m", "batch": 1, "difference": 1e-5, "passes": True, "note": ""}
        for status, expected in ("ok", table.MET), ("interrupted", table.NONE):
            entry = {"status": status, "reason": "r", "data": {"tolerance": 1e-3, "rows": [row]}}
            self.assertEqual(table.parity({"parity": entry}, "parity")[0], expected)

    def test_one_bad_figure_spoils_its_own_line_only(self):
        phases = {**ladder(), "case6243": {"status": "ok", "data": [{"rounds": "?"}]}}
        verdicts = table.verdicts(phases, OPTIONS)
        self.assertEqual([one[1] for one in verdicts].count(table.MET), 1)
        whole = {"phases": phases, "options": OPTIONS, "started_at_unix_s": 0, "verdicts": verdicts}
        page = table.page(whole)
        self.assertIn("case_rows cannot be shown", page)
        self.assertIn("## Phases", page)


class Calls(unittest.TestCase):
    def test_several_calls_into_one_folder_add_up(self):
        with tempfile.TemporaryDirectory() as out:
            out = Path(out)
            first = record.Results(out, OPTIONS)
            first.run("bare", lambda: {"copies": []})
            first.run("parity", lambda: fail(RuntimeError("no device")))
            second = record.Results(out, OPTIONS)
            second.skip("bare", "not asked for")
            second.skip("parity", "not asked for")
            second.run("async", lambda: {"text": "t"})
            found = json.loads((out / "results.json").read_text())["phases"]
            told = {name: entry["status"] for name, entry in found.items()}
            self.assertEqual(told, {"bare": "ok", "parity": "failed", "async": "ok"})
            self.assertTrue(first.failed() and not second.failed())
            other = record.Results(out, {**OPTIONS, "quick": True})
            self.assertEqual(other.phases, {})

    def test_a_phase_that_was_killed_says_so_and_keeps_what_it_noted(self):
        with tempfile.TemporaryDirectory() as out:
            out = Path(out)
            results = record.Results(out, OPTIONS)

            def phase():
                results.note("bare", {"copies": []})
                raise SystemExit(143)

            with self.assertRaises(SystemExit):
                results.run("bare", phase)
            entry = json.loads((out / "results.json").read_text())["phases"]["bare"]
            self.assertEqual((entry["status"], entry["data"]), ("interrupted", {"copies": []}))
            results.run("bare", lambda: fail(Skip("no PyTorch")))
            self.assertEqual(results.phases["bare"]["status"], "skipped")


class Machines(unittest.TestCase):
    def setUp(self):
        out = tempfile.TemporaryDirectory()
        self.addCleanup(out.cleanup)
        self.out = Path(out.name)
        options = SimpleNamespace(quick=False, device="gpu", lib=None, out=self.out)
        self.setting = Setting(self.out, options)
        self.addCleanup(self.setting.close)

    def test_a_server_that_died_is_not_taken_for_running(self):
        def server(code):
            one = SimpleNamespace(name="main", endpoint="http://here")
            one.process = SimpleNamespace(poll=lambda: code)
            one.stop = lambda: self.setting.servers.remove(one)
            self.setting.servers.append(one)
            return one

        server(1)
        self.assertIsNone(self.setting.serving("main"))
        self.assertEqual(self.setting.servers, [])
        alive = server(None)
        self.assertIs(self.setting.serving("main"), alive)

    def test_what_can_be_told_of_a_machine_is_kept(self):
        results = record.Results(self.out, OPTIONS)
        # The bundle is an empty folder here: it has no VERSION and no programs.
        results.run("machine", lambda: phases.machine(self.setting, results, 9))
        entry = results.phases["machine"]
        self.assertEqual((entry["status"], entry["data"]["bundle"]), ("failed", "n/a"))
        self.assertIn("VERSION", entry["reason"])
        self.assertNotEqual(entry["data"]["system"], "n/a")


def fail(error):
    raise error


if __name__ == "__main__":
    unittest.main()
