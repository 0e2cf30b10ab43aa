"""Packages of AOTInductor, exported by docs/export/export_aoti.py: served answers are the model's own.

Run with PYTHONPATH also naming a PyTorch 2.11, against the models of tests/conformance/aoti.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import harness
import numpy as np
import torch

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "aoti"))
import models  # noqa: E402

# Largest difference, against the largest value: packages round in other places.
TOLERANCE = 1e-3
# As they were exported.
LARGEST = {"mlp_aoti": 16, "resnet18_aoti": 4}

torch.set_num_threads(1)
# Gradients are switched off by thread or by model, and here are threads.
MLP, RESNET18, LOOKUP = (
    make()[0].requires_grad_(False) for make in (models.mlp, models.resnet18, models.lookup)
)


class Packages(harness.Case):
    def mlp(self, batch, generator):
        """Asks the server and the model the same; the two inputs tell whether they were swapped."""
        image = torch.randn(batch, 784, generator=generator)
        bias = torch.randn(batch, 10, generator=generator)
        inputs = [harness.tensor("image", image.numpy()), harness.tensor("bias", bias.numpy())]
        answer = self.client.infer("mlp_aoti", inputs, client_timeout=harness.PATIENCE)
        expected = MLP(image, bias)
        self.close_to(answer.as_numpy("scores"), expected["scores"].numpy())
        scores = answer.as_numpy("scores")
        np.testing.assert_array_equal(answer.as_numpy("best")[:, 0], scores.argmax(axis=1))

    def resnet18(self, batch, generator):
        image = torch.randn(batch, 3, 224, 224, generator=generator)
        inputs = [harness.tensor("image", image.numpy())]
        answer = self.client.infer("resnet18_aoti", inputs, client_timeout=harness.PATIENCE)
        self.close_to(answer.as_numpy("OUTPUT__0"), RESNET18(image).numpy())

    def close_to(self, actual, expected):
        self.assertEqual(actual.shape, expected.shape)
        apart = np.abs(actual - expected).max() / np.abs(expected).max()
        self.assertLessEqual(apart, TOLERANCE)

    def test_the_answers_are_the_models_own_at_every_kind_of_batch(self):
        generator = torch.Generator().manual_seed(3)
        for batch in (1, 3, LARGEST["mlp_aoti"]):
            self.mlp(batch, generator)
        for batch in (1, 3, LARGEST["resnet18_aoti"]):
            self.resnet18(batch, generator)

    def test_instances_that_share_a_package_do_not_disturb_each_other(self):
        def ask(seed):
            generator = torch.Generator().manual_seed(seed)
            for _ in range(20):
                self.mlp(1 + seed % 5, generator)
            self.resnet18(1 + seed % 2, generator)

        with ThreadPoolExecutor(8) as pool:
            # Raises what any of them raised.
            list(pool.map(ask, range(8)))
        statistics = self.client.get_inference_statistics("mlp_aoti").model_stats[0]
        self.assertGreaterEqual(statistics.inference_stats.success.count, 160)

    def lookup(self, number):
        numbers = harness.tensor("numbers", np.full((1, 512), number, dtype=np.int64))
        return self.client.infer("lookup_aoti", [numbers], client_timeout=harness.PATIENCE)

    def test_a_number_out_of_bounds_fails_its_request_only(self):
        expected = LOOKUP(torch.full((1, 512), 3)).numpy()
        self.close_to(self.lookup(3).as_numpy("OUTPUT__0"), expected)
        text = "the package's code failed"
        for number in (10, -11):
            self.refused(text, lambda client_timeout: self.lookup(number), status="INTERNAL")
        self.close_to(self.lookup(3).as_numpy("OUTPUT__0"), expected)

    def test_the_configuration_says_what_runs_it(self):
        config = self.client.get_model_config("mlp_aoti").config
        self.assertEqual((config.platform, config.backend), ("torch_aoti", "pytorch"))
        self.assertEqual(config.default_model_filename, "model.pt2")
        self.assertEqual(config.instance_group[0].count, 2)

    def refuse(self, text, shape, dtype=np.float32):
        bias = np.zeros((shape[0], 10), dtype=np.float32)
        inputs = [harness.tensor("image", np.zeros(shape, dtype=dtype)), harness.tensor("bias", bias)]
        call = self.client.infer
        self.refused(text, call, "mlp_aoti", inputs, status="INVALID_ARGUMENT")

    def test_what_the_package_was_not_compiled_for_is_refused(self):
        self.refuse("batch-size must be <= 16", (17, 784))
        self.refuse("unexpected shape for input 'image'", (1, 785))
        self.refuse("unexpected shape for input 'image'", (784,))
        self.refuse("'image' data-type is 'FP64'", (1, 784), np.float64)
        self.refuse("'image' data-type is 'INT32'", (1, 784), np.int32)
        self.mlp(2, torch.Generator().manual_seed(4))


if __name__ == "__main__":
    harness.run()
