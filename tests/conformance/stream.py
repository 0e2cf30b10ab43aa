"""The bidirectional stream as tritonclient uses it: in order, and open after a bad request."""

import harness
import numpy as np
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException


class Stream(harness.Case):
    def setUp(self):
        super().setUp()
        self.answers = harness.Answers()

    def start(self, **options):
        self.client.start_stream(self.answers, **options)
        self.addCleanup(self.client.stop_stream)

    def test_answers_come_in_the_order_of_requests(self):
        self.start()
        sent = []
        for number in range(100):
            first, second, inputs = harness.simple_inputs(start=number)
            self.client.async_stream_infer("simple", inputs, request_id=str(number))
            sent.append(first + second)
        for number, expected in enumerate(sent):
            result, error = self.answers.next()
            self.assertIsNone(error)
            self.assertEqual(result.get_response().id, str(number))
            np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), expected)

    def test_one_stream_serves_several_models(self):
        self.start()
        _, _, inputs = harness.simple_inputs()
        text = np.array([[b"rain"]], dtype=np.object_)
        words = grpcclient.InferInput("INPUT0", [1, 1], "BYTES")
        words.set_data_from_numpy(text)
        self.client.async_stream_infer("simple", inputs, request_id="s")
        self.client.async_stream_infer("identity_bytes", [words], request_id="b")
        names = [self.answers.next()[0].get_response().model_name for _ in range(2)]
        self.assertEqual(names, ["simple", "identity_bytes"])

    def test_a_bad_request_fails_alone_and_the_stream_stays_open(self):
        self.start()
        _, _, inputs = harness.simple_inputs()
        for request_id, model in (("1", "simple"), ("2", "nonesuch"), ("3", "simple")):
            self.client.async_stream_infer(model, inputs, request_id=request_id)
        first, error = self.answers.next()
        self.assertIsNone(error)
        self.assertEqual(first.get_response().id, "1")
        _, error = self.answers.next()
        self.assertIsInstance(error, InferenceServerException)
        self.assertIn("Request for unknown model: 'nonesuch' is not found", error.message())
        third, error = self.answers.next()
        self.assertIsNone(error)
        self.assertEqual(third.get_response().id, "3")

    def test_grpc_errors_end_the_stream_where_the_client_asks_for_them(self):
        self.start(headers={"triton_grpc_error": "true"})
        _, _, inputs = harness.simple_inputs()
        self.client.async_stream_infer("nonesuch", inputs, request_id="1")
        _, error = self.answers.next()
        self.assertEqual(error.status(), "StatusCode.NOT_FOUND")

    def test_closing_the_stream_waits_for_what_is_in_flight(self):
        self.client.start_stream(self.answers)
        _, _, inputs = harness.simple_inputs()
        for number in range(20):
            self.client.async_stream_infer("simple", inputs, request_id=str(number))
        self.client.stop_stream()
        answered = [self.answers.next() for _ in range(20)]
        self.assertTrue(all(error is None for _, error in answered))

    def test_each_response_is_marked_as_final(self):
        self.start()
        _, _, inputs = harness.simple_inputs()
        for asked in [False, True]:
            self.client.async_stream_infer("simple", inputs, enable_empty_final_response=asked)
            result, error = self.answers.next()
            self.assertIsNone(error)
            self.assertTrue(result.get_response().parameters["triton_final_response"].bool_param)


harness.run()
