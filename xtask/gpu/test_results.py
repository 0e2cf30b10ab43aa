"""What the scripts make of figures: `python3 -m unittest test_results`."""

import io
import json
import os
import sys
import tempfile
import unittest
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import run
from forebay_gpu import phases, record, served, table
from forebay_gpu.process import Died, Setting, Skip, Unusable

OPTIONS = {"device": "gpu", "quick": False}
SIZES = [1, 32, 64, 128, 256]


def ladder(batches=SIZES, status="ok", cut=None, columns=(), **more):
    judged = {"best": ["auto", 1.0], "auto_of_best": 1.0, "best_of_all": ["auto", 1.0],
              "auto_of_all": 1.0, "repetitions": 3, "passes": True, "faults": [],
              "near_floor": False, **more}
    report = {"cut": cut, "columns": list(columns),
              "judgements": [{"batch": size, **judged} for size in batches]}
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
        self.assertEqual(verdict(repetitions=1), table.NONE)
        self.assertEqual(verdict(repetitions=0, faults=["auto: 25 requests failed"]), table.MISSED)

    def test_a_package_that_is_faster_than_auto_is_told_and_not_judged(self):
        faster = ladder(batches=[1], best=["inline", 101.0], auto_of_best=0.99,
                        best_of_all=[".pt2", 200.0], auto_of_all=0.5)
        verdict, said = table.auto(faster, [1])
        self.assertEqual(verdict, table.MET)
        self.assertIn("0.990 of inline, and 0.500 of .pt2, which is not judged (n = 3)", said)
        verdict, said = table.auto(ladder(batches=[1], beside=[".pt2: 2 requests failed"]), [1])
        self.assertEqual(verdict, table.MET)
        self.assertIn("batch 1: .pt2: 2 requests failed, which is not judged", said)

    def test_page_locked_memory_stands_still_in_the_last_repetition(self):
        def verdict(*slabs, **more):
            rows = [{"batch": batch, "pinned_allocations": one} for batch, one in enumerate(slabs)]
            column = {"label": "auto", "state": {"measured": {"rows": rows}}}
            return table.pinned(ladder(columns=[column], **more))

        self.assertEqual(verdict([2, 1, 0], [0, 0, 0])[0], table.MET)
        self.assertIn("0 slabs in the last repetitions, 3 in all", verdict([2, 1, 0])[1])
        self.assertEqual(verdict([2, 1, 0], status="failed")[0], table.NONE)
        missed, said = verdict([0, 0, 0], [0, 0, 4])
        self.assertEqual(missed, table.MISSED)
        self.assertIn("auto at batch 1: [0, 0, 4]", said)
        self.assertEqual(verdict([])[0], table.NONE)
        self.assertEqual(verdict([0, 0], []), (table.NONE, "auto at batch 1: not told; 0 slabs in the "
                                               "last repetitions, 0 in all after the run-in, in 1 cells"))
        unfinished, said = verdict([0, 0], cut="its limit was reached")
        self.assertEqual(unfinished, table.NONE)
        self.assertIn("its limit was reached; 0 slabs", said)
        self.assertEqual(verdict([0, 1], [], cut="its limit was reached")[0], table.MISSED)
        self.assertEqual(table.pinned({})[0], table.NONE)

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

    def test_overlap_is_judged_where_compute_is_longest_and_both_are_told(self):
        two = case(1, 1.0)
        stages = {"h2d": 6.2, "compute": 200.0, "d2h": 31.6}
        two["case6243"]["data"] += case(1, 1.18, stages_ms=stages)["case6243"]["data"]
        verdict, said = table.overlap(two)
        self.assertEqual(verdict, table.MET)
        self.assertIn("1.000 of 1.647 at full overlap, at compute 58.4 ms; 1.180 of 1.189", said)
        two["case6243"]["data"].reverse()
        self.assertEqual(table.overlap(two)[0], table.MISSED)
        two["case6243"].update(status="failed", reason="r")
        self.assertEqual(table.overlap(two)[0], table.NONE)

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

    def test_remarks_stand_beside_the_figures_and_what_programs_said_breaks_no_table(self):
        phases = ladder()
        phases["ladder"]["remarks"] = ["models as saved"]
        figures = [figure for _, _, figure in table.verdicts(phases, OPTIONS)]
        self.assertEqual(sum("models as saved" in one for one in figures), 2)
        self.assertEqual(table.table(["a"], [["x | y\nz"]])[2], "| x / y z |")


class Calls(unittest.TestCase):
    def test_several_calls_into_one_folder_add_up(self):
        with tempfile.TemporaryDirectory() as out:
            out = Path(out)
            first = record.Results(out, OPTIONS)
            first.run("bare", lambda: {"copies": []})
            first.run("parity", lambda: fail(RuntimeError("no device")))
            second = record.Results(out, OPTIONS)
            second.leave("bare")
            second.leave("parity")
            second.run("async", lambda: {"text": "t"})
            found = json.loads((out / "results.json").read_text())["phases"]
            told = {name: entry["status"] for name, entry in found.items()}
            self.assertEqual(told, {"bare": "ok", "parity": "failed", "async": "ok"})
            self.assertTrue(first.failed() and not second.failed())
            other = record.Results(out, {**OPTIONS, "quick": True})
            self.assertEqual(other.phases, {})

    def test_a_call_continues_what_another_left_elsewhere(self):
        with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as out:
            first, out = Path(first), Path(out)
            call = record.Results(first, OPTIONS)
            call.run("machine", lambda: {"nvidia_smi": "A Card, 1"})
            call.run("bare", lambda: {"copies": []})
            call.run("export", lambda: fail(Skip("no PyTorch")))
            call.leave("async")
            call.write()
            again = {**OPTIONS, "continued": first / "results.json"}
            second = record.Results(out, again)
            for name in "bare", "export", "parity":
                second.leave(name)
            second.run("async", lambda: {"text": "t"})
            # With a folder that has results already, those of both count.
            third = record.Results(out, again)
            told = {name: entry["status"] for name, entry in third.phases.items()}
            self.assertEqual(told, {"machine": "ok", "bare": "ok", "export": "skipped", "async": "ok",
                                    "parity": "skipped"})
            self.assertEqual(third.phases["export"]["reason"], "no PyTorch")
            self.assertEqual(third.phases["bare"]["gpu"], "A Card, 1")
            self.assertIn("A Card", (out / "table.md").read_text())

    def test_a_file_that_cannot_be_continued_ends_the_call_at_once(self):
        with tempfile.TemporaryDirectory() as out:
            words = ["run.py", "--out", out, "--continue", f"{out}/results.json"]
            with mock.patch.object(sys, "argv", words), redirect_stderr(io.StringIO()) as said:
                with self.assertRaises(SystemExit):
                    run.arguments()
            self.assertIn("holds no results", said.getvalue())
            self.assertEqual(os.listdir(out), [])

    def test_without_an_accelerator_the_run_ends_at_once(self):
        def machine(setting, results, seconds):
            raise Unusable("no accelerator: there is no driver")

        calls = []
        known = [("machine", machine, 9), ("models", lambda *_: calls.append("models"), 9)]
        with tempfile.TemporaryDirectory() as out:
            words = ["run.py", "--out", out, "--only", "machine"]
            with mock.patch.object(sys, "argv", words), mock.patch.object(run, "PHASES", known):
                with redirect_stdout(io.StringIO()) as said:
                    self.assertEqual(run.main(), 1)
            found = json.loads((Path(out) / "results.json").read_text())["phases"]
        self.assertEqual(found["machine"]["status"], "failed")
        self.assertEqual(found["models"]["reason"], "no accelerator: there is no driver")
        self.assertEqual(calls, [])
        self.assertIn("nothing was measured: no accelerator", said.getvalue())

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

    def test_a_gpu_that_the_server_does_not_see_is_its_own_fault(self):
        results = record.Results(self.out, OPTIONS)
        said = {"--version": "forebay 0", "devices": "cpu: 2 cores\nno accelerator: there is no driver"}
        self.setting.run = lambda program, word, **_: said[word]
        with redirect_stdout(io.StringIO()):
            results.run("machine", lambda: phases.machine(self.setting, results, 9))
        self.assertEqual(results.unusable, "no accelerator: there is no driver")
        self.setting.gpu = False
        again = record.Results(self.out, OPTIONS)
        with redirect_stdout(io.StringIO()):
            again.run("machine", lambda: phases.machine(self.setting, again, 9))
        self.assertIsNone(again.unusable)


class Forms(unittest.TestCase):
    """The server that is measured, where the optimized form is wrong on the device."""

    def setUp(self):
        out = tempfile.TemporaryDirectory()
        self.addCleanup(out.cleanup)
        out = Path(out.name)
        options = SimpleNamespace(quick=False, device="gpu", lib=None, out=out)
        self.setting = Setting(out, options)
        self.addCleanup(self.setting.close)
        self.results = record.Results(out, OPTIONS)
        self.results.phases["ladder"] = {"status": "interrupted", "reason": "r"}
        self.started = []
        self.setting.serve = self.serve
        for name, text in [
            ("ladder_inline", 'platform: "pytorch_libtorch"\n'),
            ("ladder_transport", 'platform: "pytorch_libtorch"\ninstance_group { kind: KIND_CPU }\n'),
            ("ladder_aoti", 'platform: "torch_aoti"\n'),
        ]:
            config = self.setting.repository / name / "config.pbtxt"
            config.parent.mkdir(parents=True)
            config.write_text(text)
        self.linked = out / "reference.pbtxt"
        os.link(self.setting.repository / "ladder_inline" / "config.pbtxt", self.linked)

    def serve(self, name, repository, device, timeout, **_):
        self.started.append(name)
        server = SimpleNamespace(name=name, endpoint="http://here", log=Path("/dev/null"))
        server.process = SimpleNamespace(poll=lambda: None)
        server.stop = lambda: self.setting.servers.remove(server)
        self.setting.servers.append(server)
        return server

    def main(self, rows):
        with mock.patch.object(served, "rows_of", rows), redirect_stdout(io.StringIO()):
            return served.main_server(self.setting, self.results, "ladder", 9)

    def is_as_saved(self, name):
        config = self.setting.repository / name / "config.pbtxt"
        return served.AS_SAVED in config.read_text()

    def row(self, passes):
        return [{"model": "m", "batch": 1, "note": "y", "difference": 0.5, "passes": passes}]

    def test_it_stays_as_it_is_where_answers_are_right(self):
        server = self.main(lambda *_, **__: self.row(True))
        self.assertEqual(self.started, ["main", "reference"])
        self.assertIs(self.main(None), server)
        # Once for all.
        self.setting.stop("main")
        self.main(None)
        self.assertEqual(self.started, ["main", "reference", "main"])
        self.assertNotIn("remarks", self.results.phases["ladder"])
        self.assertFalse(self.is_as_saved("ladder_inline"))

    def test_where_answers_differ_the_models_of_the_device_run_as_saved(self):
        before = iter([self.row(False), self.row(True)])
        self.main(lambda *_, **__: next(before, self.row(True)))
        self.assertEqual(self.started, ["main", "reference"] * 2)
        self.assertEqual([one.name for one in self.setting.servers], ["main"])
        told = {name: self.is_as_saved(f"ladder_{name}") for name in ("inline", "transport", "aoti")}
        self.assertEqual(told, {"inline": True, "transport": False, "aoti": False})
        self.assertNotIn(served.AS_SAVED, self.linked.read_text())
        [remark] = self.results.phases["ladder"]["remarks"]
        self.assertIn("DISABLE_OPTIMIZED_EXECUTION, for else: m: y, 0.5", remark)
        self.assertNotIn("and as saved", remark)

    def test_a_server_that_does_not_even_start_is_tried_as_saved(self):
        serve = self.serve

        def dies_first(name, *rest, **more):
            if not self.started:
                self.started.append(name)
                raise Died("the server ended with -11")
            return serve(name, *rest, **more)

        self.setting.serve = dies_first
        self.main(lambda *_, **__: self.row(True))
        self.assertEqual(self.started, ["main", "main", "reference"])
        self.assertIn("-11", self.results.phases["ladder"]["remarks"][0])

    def test_what_cannot_be_compared_is_told_and_changes_nothing(self):
        self.main(lambda *_, **__: fail(RuntimeError("loadgen is gone")))
        self.assertFalse(self.is_as_saved("ladder_inline"))
        self.assertIn("not all answers were compared", self.results.phases["ladder"]["remarks"][0])

    def test_models_as_saved_are_told_even_where_they_cannot_be_compared(self):
        answers = iter([self.row(False), self.row(True)])
        self.main(lambda *_, **__: next(answers, None) or fail(RuntimeError("loadgen is gone")))
        [remark] = self.results.phases["ladder"]["remarks"]
        self.assertIn("DISABLE_OPTIMIZED_EXECUTION", remark)
        self.assertIn("not all answers were compared", remark)

    def test_where_models_as_saved_are_wrong_too_they_run_as_configured(self):
        config = self.setting.repository / "ladder_inline" / "config.pbtxt"
        before = config.read_text()
        self.main(lambda *_, **__: self.row(False))
        self.assertEqual(self.started, ["main", "reference"] * 2 + ["main"])
        self.assertEqual((config.read_text(), self.linked.read_text()), (before, before))
        [remark] = self.results.phases["ladder"]["remarks"]
        self.assertIn("so as configured: m: y, 0.5; m: y, 0.5; and as saved: m: y", remark)

    def test_a_reference_that_fails_is_no_fault_of_the_form(self):
        row = {**self.row(False)[0], "note": "ask the reference: it is gone", "difference": None}
        self.main(lambda *_, **__: [row])
        self.assertEqual(self.started, ["main", "reference"])
        self.assertFalse(self.is_as_saved("ladder_inline"))
        self.assertIn("m: ask the reference: it is gone", self.results.phases["ladder"]["remarks"][0])

    def test_comparing_takes_no_longer_than_is_left_and_a_second_start_has_its_own_time(self):
        limits = []

        def rows(*_, timeout, **__):
            limits.append(timeout)
            return self.row(len(limits) > 2)

        self.main(rows)
        self.assertTrue(all(limit <= 9 for limit in limits[:2]), limits)
        self.assertTrue(all(9 < limit <= served.ANEW for limit in limits[2:]), limits)

    def test_what_the_log_of_a_start_says_of_forms_is_kept_and_a_lesser_one_is_told(self):
        file = self.setting.repository / "ladder_auto" / "1" / "model.pt"
        serve = self.serve

        def says(name, *rest, **more):
            with open(self.setting.log("main"), "a") as log:
                log.write(f'2026-11-24T00:00:00.1Z  WARN f: a form of the model is not taken file="{file}"\n'
                          "2026-11-24T00:00:00.2Z  INFO f: something else\n")
            return serve(name, *rest, **more)

        self.setting.log("main").write_text("2026-11-23T00:00:00Z  INFO f: form of the model of before\n")
        self.setting.serve = says
        self.setting.compared = True
        self.main(None)
        entry = self.results.phases["ladder"]
        line = 'WARN f: a form of the model is not taken file="ladder_auto/1/model.pt"'
        self.assertEqual(entry["forms"], [line])
        self.assertEqual(entry["remarks"], [f"1 forms not taken, the first: {line}"])
        self.assertIn(f"| ladder | {line} |", table.forms(self.results.phases))
        # Of the last start alone.
        self.setting.serve = serve
        self.setting.stop("main")
        self.main(None)
        self.assertIsNone(self.setting.lesser)


class Time(unittest.TestCase):
    def test_repetitions_are_as_many_as_fit_at_the_pace_of_the_batches_before(self):
        measured = {"state": {"measured": {"rows": []}}}
        report = {"cut": None, "batches": [1, 32], "requests": 100, "repetitions": 3,
                  "columns": [measured] * 7, "floor": measured, "took_s": 62.0}
        large = [64, 128, 256]

        def fit(seconds, **more):
            return phases.repetitions_that_fit({**report, **more}, large, 25, seconds)

        # 31 volleys of 3333 samples take 62 s; one of 11 648 then takes 7 s.
        self.assertEqual(fit(31 * 7), 3)
        self.assertEqual(fit(31 * 7 - 1), 2)
        self.assertEqual(fit(0), 1)
        self.assertEqual(fit(1000, cut="its limit was reached"), 1)


def fail(error):
    raise error


if __name__ == "__main__":
    unittest.main()
