"""What `forebay check` says of packages of AOTInductor that do not fit their configuration.

    package_faults.py FOREBAY REPOSITORY

REPOSITORY holds `mlp_aoti`, as tests/conformance/aoti makes it. Each case changes a copy of it.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile

import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "aoti"))
import models

FOREBAY, REPOSITORY = sys.argv[1:3]


def without_notes(source, target, **changed):
    """Copies a package less what our exporter notes in it, as other exporters leave it."""
    with zipfile.ZipFile(source) as read, zipfile.ZipFile(target, "w") as write:
        for item in read.infolist():
            data = read.read(item)
            if item.filename.endswith("wrapper_metadata.json"):
                metadata = json.loads(data)
                del metadata["forebay_inputs"]
                data = json.dumps(metadata | changed).encode()
            write.writestr(item, data)


class Faults(unittest.TestCase):
    def setUp(self):
        self.models = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.models)
        self.folder = os.path.join(self.models, "mlp_aoti")
        shutil.copytree(os.path.join(REPOSITORY, "mlp_aoti"), self.folder)
        self.config = os.path.join(self.folder, "config.pbtxt")
        self.package = os.path.join(self.folder, "1", "model.pt2")
        self.original = os.path.join(REPOSITORY, "mlp_aoti", "1", "model.pt2")

    def change(self, before, after):
        with open(self.config) as file:
            text = file.read()
        self.assertIn(before, text)
        with open(self.config, "w") as file:
            file.write(text.replace(before, after))

    def check(self):
        command = [FOREBAY, "check", "--model-repository", self.models]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        # Not a signal: a package that does not fit must never end the process.
        self.assertIn(done.returncode, (0, 1), done.stderr)
        return done.returncode, done.stdout

    def wrong(self, *texts):
        status, report = self.check()
        self.assertEqual(status, 1, report)
        for text in texts:
            self.assertIn(text, report)

    def test_a_model_that_fits_is_in_order(self):
        status, report = self.check()
        self.assertEqual(status, 0, report)

    def test_another_datatype_is_named(self):
        self.change('"image" data_type: TYPE_FP32', '"image" data_type: TYPE_FP64')
        self.wrong("input 'image' is FP64 in config.pbtxt, but FP32 in the package")

    def test_another_shape_is_named(self):
        self.change("784", "785")
        self.wrong("input 'image' has the shape [1, 785]", "[1 to 16, 784] in the package")

    def test_batches_beyond_the_packages_are_refused(self):
        self.change("max_batch_size: 16", "max_batch_size: 17")
        self.wrong("batches of up to 16", "--max-batch 17")

    def test_names_that_the_package_has_not_are_told_those_it_has(self):
        self.change('"image"', '"imgae"')
        self.wrong("the input 'imgae'", "[bias, image]")

    def test_outputs_that_the_package_has_not_are_told_those_it_has(self):
        self.change('"best"', '"worst"')
        self.wrong("the output 'worst'", "[scores, best]")

    def test_a_package_for_a_gpu_is_refused_on_the_cpu(self):
        without_notes(self.original, self.package, AOTI_DEVICE_KEY="cuda")
        self.wrong("was compiled for device 'cuda'", "--device cpu")

    def test_a_package_without_notes_is_held_against_its_own_checks(self):
        without_notes(self.original, self.package)
        status, report = self.check()
        self.assertEqual(status, 0, report)
        with open(self.config) as file:
            text = file.read()
        for before, after in [
            ('"image" data_type: TYPE_FP32', '"image" data_type: TYPE_FP64'),
            ('"image" data_type: TYPE_FP32', '"image" data_type: TYPE_INT8'),
            ("max_batch_size: 16", "max_batch_size: 17"),
        ]:
            self.change(before, after)
            self.wrong("refuses a made-up request")
            with open(self.config, "w") as file:
                file.write(text)

    def test_a_package_of_another_exporter_for_one_batch_size_is_refused(self):
        # Its code would read that many rows of a smaller batch, whatever lies behind them.
        model, _ = models.mlp()
        example = {"bias": torch.zeros(16, 10), "image": torch.zeros(16, 784)}
        with torch.no_grad():
            exported = torch.export.export(model, (), kwargs=example)
        torch._inductor.aoti_compile_and_package(exported, package_path=self.package)
        self.wrong("refuses a made-up request of 2 items", "a dynamic batch dimension")

    def test_a_package_that_a_number_could_make_end_the_process_is_refused(self):
        with zipfile.ZipFile(self.original) as read, zipfile.ZipFile(self.package, "w") as write:
            for item in read.infolist():
                data = read.read(item)
                if item.filename.endswith("kernel.cpp"):
                    self.assertIn(b"#pragma omp parallel", data)
                    data += b"AOTI_TORCH_CHECK((0 <= tmp7) & (tmp7 < 10L));"
                write.writestr(item, data)
        self.wrong("would end the whole server", "docs/export/export_aoti.py")

    def test_a_package_without_its_code_is_refused(self):
        with zipfile.ZipFile(self.original) as read, zipfile.ZipFile(self.package, "w") as write:
            for item in read.infolist():
                if not item.filename.endswith(".so"):
                    write.writestr(item, read.read(item))
        self.wrong("it holds no compiled model of the name 'model'")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
