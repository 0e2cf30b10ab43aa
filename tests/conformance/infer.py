"""Unary inference: synchronous, asynchronous, from asyncio, compressed, with typed contents."""

import asyncio
import unittest

import harness
import numpy as np
import tritonclient.grpc as grpcclient
import tritonclient.grpc.aio as aioclient
from tritonclient.grpc import service_pb2, service_pb2_grpc


class Infer(harness.Case):
    def check(self, result, first, second):
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), first + second)
        np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), first - second)

    def test_without_requested_outputs_all_come(self):
        first, second, inputs = harness.simple_inputs()
        result = self.client.infer("simple", inputs, request_id="a-1")
        self.check(result, first, second)
        answer = result.get_response()
        self.assertEqual((answer.model_name, answer.model_version), ("simple", "1"))
        self.assertEqual(answer.id, "a-1")
        self.assertEqual(len(answer.raw_output_contents), len(answer.outputs))

    def test_only_the_requested_output_comes(self):
        first, second, inputs = harness.simple_inputs()
        outputs = [grpcclient.InferRequestedOutput("OUTPUT1")]
        result = self.client.infer("simple", inputs, outputs=outputs)
        np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), first - second)
        self.assertIsNone(result.as_numpy("OUTPUT0"))

    def test_a_batch_up_to_the_limit(self):
        for batch in (2, 8):
            with self.subTest(batch=batch):
                first, second, inputs = harness.simple_inputs(batch)
                self.check(self.client.infer("simple", inputs), first, second)

    def test_a_version_by_number(self):
        first, second, inputs = harness.simple_inputs()
        self.check(self.client.infer("simple", inputs, model_version="1"), first, second)

    def test_custom_parameters_are_taken(self):
        first, second, inputs = harness.simple_inputs()
        parameters = {"note": "x", "count": 3, "flag": True}
        result = self.client.infer("simple", inputs, parameters=parameters, priority=1)
        self.check(result, first, second)

    def test_compressed_requests_are_refused_by_name(self):
        # A small message could unpack to any size, so the server takes none.
        _, _, inputs = harness.simple_inputs(8)
        for algorithm in ("gzip", "deflate"):
            with self.subTest(algorithm=algorithm):
                infer = self.client.infer
                arguments = {"compression_algorithm": algorithm, "status": "UNIMPLEMENTED"}
                self.refused(algorithm, infer, "simple", inputs, **arguments)

    def test_inputs_in_another_order(self):
        first, second, inputs = harness.simple_inputs()
        self.check(self.client.infer("simple", inputs[::-1]), first, second)

    def test_many_asynchronous_calls_each_get_their_own_answer(self):
        pending = []
        for number in range(64):
            first, second, inputs = harness.simple_inputs(start=number)
            answers = harness.Answers()
            self.client.async_infer("simple", inputs, answers, request_id=str(number))
            pending.append((number, first, second, answers))
        for number, first, second, answers in pending:
            result, error = answers.next()
            self.assertIsNone(error)
            self.assertEqual(result.get_response().id, str(number))
            self.check(result, first, second)

    def test_a_dynamically_batched_model_answers_each_caller_alike(self):
        values = np.random.default_rng(7).random((1, 784), dtype=np.float32)
        inputs = [harness.tensor("INPUT__0", values)]
        alone = self.client.infer("mlp", inputs).as_numpy("OUTPUT__0")
        self.assertEqual(alone.shape, (1, 10))
        waiting = [harness.Answers() for _ in range(32)]
        for answers in waiting:
            self.client.async_infer("mlp", inputs, answers)
        for answers in waiting:
            result, error = answers.next()
            self.assertIsNone(error)
            np.testing.assert_allclose(result.as_numpy("OUTPUT__0"), alone, rtol=1e-4, atol=1e-5)

    def test_a_message_above_four_mebibytes(self):
        values = np.arange(2 << 20, dtype=np.float32).reshape(1, -1)
        result = self.client.infer("identity_fp32", [harness.tensor("INPUT0", values)])
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), values)


class TypedContents(harness.Case):
    """Contents in typed fields, as clients made from the .proto send them."""

    def infer(self, datatype, shape, model, **contents):
        tensor = service_pb2.ModelInferRequest().InferInputTensor(
            name="INPUT0",
            datatype=datatype,
            shape=shape,
            contents=service_pb2.InferTensorContents(**contents),
        )
        request = service_pb2.ModelInferRequest(model_name=model, inputs=[tensor])
        stub = service_pb2_grpc.GRPCInferenceServiceStub(self.client._channel)
        return grpcclient.InferResult(stub.ModelInfer(request, timeout=harness.PATIENCE))

    def test_every_typed_field_is_answered_raw(self):
        cases = [
            ("BOOL", "identity_bool", "bool_contents", [True, False]),
            ("INT8", "identity_int8", "int_contents", [-128, 127]),
            ("INT32", "identity_int32", "int_contents", [-(2**31), 7]),
            ("INT64", "identity_int64", "int64_contents", [-(2**63), 7]),
            ("UINT16", "identity_uint16", "uint_contents", [0, 65535]),
            ("UINT64", "identity_uint64", "uint64_contents", [0, 2**64 - 1]),
            ("FP32", "identity_fp32", "fp32_contents", [0.5, -1.5]),
            ("FP64", "identity_fp64", "fp64_contents", [0.1, -1e300]),
            ("BYTES", "identity_bytes", "bytes_contents", [b"", b"a\x00b"]),
        ]
        for datatype, model, field, values in cases:
            with self.subTest(datatype=datatype):
                result = self.infer(datatype, [1, 2], model, **{field: values})
                self.assertEqual(result.as_numpy("OUTPUT0").tolist(), [values])
                self.assertEqual(len(result.get_response().raw_output_contents), 1)


class FromAsyncio(unittest.IsolatedAsyncioTestCase):
    async def test_calls_overlap(self):
        client = aioclient.InferenceServerClient(harness.ADDRESS)
        first, second, inputs = harness.simple_inputs()
        calls = (client.infer("simple", inputs) for _ in range(16))
        for result in await asyncio.wait_for(asyncio.gather(*calls), harness.PATIENCE):
            np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), first + second)
        await client.close()


harness.run()
