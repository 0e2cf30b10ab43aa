"""Bad requests: refused with the texts and statuses that Triton's users search for."""

import grpc
import harness
import numpy as np
import tritonclient.grpc as grpcclient
from tritonclient.grpc import service_pb2, service_pb2_grpc


class Refusals(harness.Case):
    def refuse(self, text, model, inputs, status="INVALID_ARGUMENT", **named):
        return self.refused(text, self.client.infer, model, inputs, status=status, **named)

    def test_an_unknown_model(self):
        _, _, inputs = harness.simple_inputs()
        text = "Request for unknown model: 'nonesuch' is not found"
        self.refuse(text, "nonesuch", inputs, status="NOT_FOUND")

    def test_an_unknown_version(self):
        _, _, inputs = harness.simple_inputs()
        text = "'simple' version 42 is not found"
        self.refuse(text, "simple", inputs, status="NOT_FOUND", model_version="42")

    def test_a_version_that_is_no_number(self):
        _, _, inputs = harness.simple_inputs()
        self.refuse("", "simple", inputs, model_version="latest")

    def test_a_missing_input(self):
        _, _, inputs = harness.simple_inputs()
        text = "expected 2 inputs but got 1 inputs for model 'simple'"
        error = self.refuse(text, "simple", inputs[:1])
        self.assertIn("missing required input(s) ['INPUT1']", error.message())

    def test_an_input_that_the_model_lacks(self):
        first, _, inputs = harness.simple_inputs()
        text = "unexpected inference input 'INPUT7' for model 'simple'"
        self.refuse(text, "simple", [*inputs, harness.tensor("INPUT7", first)])

    def test_an_output_that_the_model_lacks(self):
        _, _, inputs = harness.simple_inputs()
        outputs = [grpcclient.InferRequestedOutput("OUTPUT7")]
        text = "unexpected inference output 'OUTPUT7' for model 'simple'"
        self.refuse(text, "simple", inputs, outputs=outputs)

    def test_another_datatype(self):
        values = np.zeros((1, 16), dtype=np.float32)
        inputs = [harness.tensor(name, values) for name in ("INPUT0", "INPUT1")]
        text = "inference input 'INPUT0' data-type is 'FP32', but model 'simple' expects 'INT32'"
        self.refuse(text, "simple", inputs)

    def test_another_shape(self):
        values = np.zeros((1, 15), dtype=np.int32)
        inputs = [harness.tensor(name, values) for name in ("INPUT0", "INPUT1")]
        text = "unexpected shape for input 'INPUT0' for model 'simple'. Expected [-1,16], got [1,15]"
        self.refuse(text, "simple", inputs)

    def test_a_batch_above_the_limit(self):
        _, _, inputs = harness.simple_inputs(batch=9)
        self.refuse("inference request batch-size must be <= 8 for 'simple'", "simple", inputs)

    def test_the_request_id_is_told(self):
        _, _, inputs = harness.simple_inputs()
        error = self.refuse("", "simple", inputs[:1], request_id="r-17")
        self.assertTrue(error.message().startswith("[request id: r-17] "), error.message())


class RawRefusals(harness.Case):
    """Requests that tritonclient itself would not send."""

    def refuse(self, text, shape=(1, 16), raw=None, contents=None):
        request = service_pb2.ModelInferRequest(model_name="identity_int32")
        tensor = request.inputs.add(name="INPUT0", datatype="INT32", shape=shape)
        if contents is not None:
            tensor.contents.int_contents.extend(contents)
        if raw is not None:
            request.raw_input_contents.append(raw)
        stub = service_pb2_grpc.GRPCInferenceServiceStub(self.client._channel)
        with self.assertRaises(grpc.RpcError) as caught:
            stub.ModelInfer(request, timeout=harness.PATIENCE)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
        self.assertIn(text, caught.exception.details())
        self.assertTrue(self.client.is_server_live())

    def test_too_few_bytes(self):
        self.refuse("Expected 64, got 60", raw=bytes(60))

    def test_too_many_bytes(self):
        self.refuse("Expected 64, got 68", raw=bytes(68))

    def test_no_contents(self):
        self.refuse("unable to find data for input tensor 'INPUT0'")

    def test_raw_and_typed_contents_together(self):
        self.refuse("", raw=bytes(64), contents=[0] * 16)

    def test_a_negative_dimension(self):
        self.refuse("", shape=(-1, 16), raw=bytes(64))

    def test_dimensions_that_overflow(self):
        self.refuse("", shape=(2**62, 2**62), raw=bytes(64))


harness.run()
