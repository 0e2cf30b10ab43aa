"""What the conformance scripts share: the server's address, clients, tensors.

Each script is run as `python3 tests/conformance/NAME.py HOST:PORT` by `cargo xtask conformance`,
against the models that it prepares: `identity_<datatype>`, `simple` and `mlp`.
"""

import queue
import sys
import unittest

import numpy as np
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

ADDRESS = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8001"
# Seconds to wait for any one answer; a server that takes longer hangs.
PATIENCE = 20


def run():
    """Runs the tests of the calling script."""
    unittest.main(module="__main__", argv=[sys.argv[0]], verbosity=2)


class Case(unittest.TestCase):
    """A test with a client of its own."""

    def setUp(self):
        self.client = grpcclient.InferenceServerClient(ADDRESS)
        self.addCleanup(self.client.close)

    def refused(self, text, call, *arguments, status=None, **named):
        """Checks that the call is refused with `text`, and that the server lives on."""
        with self.assertRaises(InferenceServerException) as caught:
            call(*arguments, client_timeout=PATIENCE, **named)
        self.assertIn(text, caught.exception.message())
        if status is not None:
            self.assertEqual(caught.exception.status(), f"StatusCode.{status}")
        self.assertTrue(self.client.is_server_live())
        return caught.exception


def tensor(name, values, datatype=None):
    """Returns an input that holds `values`."""
    datatype = datatype or np_to_triton_dtype(values.dtype)
    made = grpcclient.InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values)
    return made


def simple_inputs(batch=1, start=0):
    """Returns the values and the inputs of a request to the model `simple`."""
    first = np.arange(start, start + 16 * batch, dtype=np.int32).reshape(batch, 16)
    second = np.full((batch, 16), 3, dtype=np.int32)
    return first, second, [tensor("INPUT0", first), tensor("INPUT1", second)]


class Answers:
    """A callback that keeps what it is called with, in order."""

    def __init__(self):
        self.queue = queue.Queue()

    def __call__(self, result, error):
        self.queue.put((result, error))

    def next(self):
        return self.queue.get(timeout=PATIENCE)
