"""Every datatype of the protocol, through an identity model: what goes in comes out, to the bit."""

import harness
import ml_dtypes
import numpy as np
import tritonclient.grpc as grpcclient

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = {"fp16": np.float16, "fp32": np.float32, "fp64": np.float64, "bf16": ml_dtypes.bfloat16}


def values_of(name):
    """Returns a tensor of the datatype, with the values at its edges."""
    if name == "bool":
        return np.array([[True, False, True]])
    if name in INTEGERS:
        limits = np.iinfo(name)
        return np.array([[limits.min, 0, 1, limits.max]], dtype=name)
    kind = FLOATS[name]
    limits = ml_dtypes.finfo(kind)
    edges = [0.0, -0.0, 1.5, np.inf, -np.inf, np.nan, limits.max, limits.tiny]
    return np.array([edges], dtype=np.float64).astype(kind)


class Numeric(harness.Case):
    def test_every_datatype_comes_back_to_the_bit(self):
        for name in ("bool", *INTEGERS, *FLOATS):
            with self.subTest(datatype=name):
                values = values_of(name)
                result = self.client.infer(
                    f"identity_{name}", [harness.tensor("INPUT0", values)]
                )
                answer = result.as_numpy("OUTPUT0")
                self.assertEqual(answer.dtype, values.dtype)
                self.assertEqual(answer.shape, values.shape)
                self.assertEqual(answer.tobytes(), values.tobytes())
                self.assertEqual(result.get_output("OUTPUT0").datatype, name.upper())

    def test_a_tensor_without_elements(self):
        values = np.empty((3, 0), dtype=np.float32)
        result = self.client.infer("identity_fp32", [harness.tensor("INPUT0", values)])
        self.assertEqual(result.as_numpy("OUTPUT0").shape, (3, 0))
        self.assertEqual(list(result.get_response().raw_output_contents), [b""])


class Bytes(harness.Case):
    def echo(self, elements, shape):
        values = np.array(elements, dtype=np.object_).reshape(shape)
        made = grpcclient.InferInput("INPUT0", shape, "BYTES")
        made.set_data_from_numpy(values)
        return self.client.infer("identity_bytes", [made]).as_numpy("OUTPUT0")

    def test_elements_come_back_with_their_lengths(self):
        elements = [b"", b"a", "naïve ☂".encode(), b"nul\x00inside", b"\xff\xfe", b"x" * 70000]
        answer = self.echo(elements, [2, 3])
        self.assertEqual(answer.shape, (2, 3))
        self.assertEqual(answer.flatten().tolist(), elements)

    def test_no_elements(self):
        self.assertEqual(self.echo([], [1, 0]).shape, (1, 0))


harness.run()
