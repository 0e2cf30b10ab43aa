"""Runs a TorchScript file in Triton's Python backend: what the server hands over at once is one batch."""

import os
import site
import sys

# The interpreter within Triton reads neither PYTHONPATH nor what else Python reads at its start.
sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)
site.execsitecustomize()

import torch
import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, args):
        torch.set_num_threads(1)
        folder = os.path.join(args["model_repository"], args["model_version"])
        self.model = torch.jit.load(os.path.join(folder, "model.pt")).eval()

    @torch.inference_mode()
    def execute(self, requests):
        inputs = [
            torch.from_numpy(triton.get_input_tensor_by_name(request, "INPUT__0").as_numpy())
            for request in requests
        ]
        batch = torch.cat(inputs) if len(inputs) > 1 else inputs[0]
        outputs = self.model(batch).split([len(rows) for rows in inputs])
        return [
            triton.InferenceResponse([triton.Tensor("OUTPUT__0", rows.numpy())])
            for rows in outputs
        ]
