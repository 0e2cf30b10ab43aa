"""grpc_aio.py MODELS PORT: serves TorchScript files by hand, as one does without a server at hand.

One event loop for gRPC, and one thread for the models, so that the loop goes on while they run.
"""

import asyncio
import json
import pathlib
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy
import torch
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as services

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
DTYPES = {"FP32": numpy.float32, "INT64": numpy.int64}


class Server(services.GRPCInferenceServiceServicer):
    def __init__(self, folder):
        self.pool = ThreadPoolExecutor(1)
        self.models, self.signatures = {}, {}
        for model in pathlib.Path(folder).iterdir():
            self.models[model.name] = torch.jit.load(model / "1" / "model.pt").eval()
            self.signatures[model.name] = json.loads((model / "signature.json").read_text())

    async def ModelReady(self, request, context):
        return pb.ModelReadyResponse(ready=request.name in self.models)

    async def ModelMetadata(self, request, context):
        return pb.ModelMetadataResponse(name=request.name, **self.signatures[request.name])

    async def ModelInfer(self, request, context):
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.pool, self.infer, request)

    async def ModelStreamInfer(self, requests, context):
        async for request in requests:
            yield pb.ModelStreamInferResponse(infer_response=await self.ModelInfer(request, context))

    @torch.inference_mode()
    def infer(self, request):
        given = request.inputs[0]
        rows = numpy.frombuffer(request.raw_input_contents[0], DTYPES[given.datatype])
        rows = torch.from_numpy(rows.reshape(given.shape))
        output = self.models[request.model_name](rows).numpy()
        answer = pb.ModelInferResponse(model_name=request.model_name, id=request.id)
        answer.outputs.add(name="OUTPUT__0", datatype="FP32", shape=output.shape)
        answer.raw_output_contents.append(output.tobytes())
        return answer


async def main(folder, port):
    torch.set_num_threads(1)
    server = grpc.aio.server(options=UNLIMITED)
    services.add_GRPCInferenceServiceServicer_to_server(Server(folder), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


asyncio.run(main(*sys.argv[1:]))
