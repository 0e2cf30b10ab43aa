"""Runs a TorchScript file in MLServer."""

import torch
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse
from mlserver.utils import get_model_uri


class TorchScript(MLModel):
    async def load(self):
        torch.set_num_threads(1)
        self.model = torch.jit.load(await get_model_uri(self._settings)).eval()
        return True

    async def predict(self, payload):
        rows = torch.from_numpy(NumpyCodec.decode_input(payload.inputs[0]))
        with torch.inference_mode():
            output = self.model(rows).numpy()
        outputs = [NumpyCodec.encode_output("OUTPUT__0", output)]
        return InferenceResponse(id=payload.id, model_name=self.name, outputs=outputs)
