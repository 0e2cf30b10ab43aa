"""What clients ask before they infer: health, metadata, configuration, statistics, reflection."""

from functools import partial

import grpc
import harness
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

INFERENCE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"


class Health(harness.Case):
    def test_server_is_live_and_ready(self):
        self.assertTrue(self.client.is_server_live())
        self.assertTrue(self.client.is_server_ready())

    def test_a_model_is_ready_by_name_and_by_version(self):
        self.assertTrue(self.client.is_model_ready("simple"))
        self.assertTrue(self.client.is_model_ready("simple", "1"))

    def test_an_unknown_model_is_not_ready_and_no_error(self):
        self.assertFalse(self.client.is_model_ready("nonesuch"))
        self.assertFalse(self.client.is_model_ready("simple", "42"))


class Metadata(harness.Case):
    def test_the_server_names_itself_and_its_extensions(self):
        metadata = self.client.get_server_metadata()
        self.assertTrue(metadata.name)
        self.assertTrue(metadata.version)
        self.assertIn("statistics", metadata.extensions)
        self.assertIn("model_configuration", metadata.extensions)

    def test_extensions_that_answer_unimplemented_are_not_named(self):
        extensions = self.client.get_server_metadata().extensions
        calls = {
            "system_shared_memory": self.client.get_system_shared_memory_status,
            "cuda_shared_memory": self.client.get_cuda_shared_memory_status,
            "trace": self.client.get_trace_settings,
            "logging": self.client.get_log_settings,
            "model_repository": partial(self.client.load_model, "simple"),
        }
        for name, call in calls.items():
            with self.subTest(extension=name):
                if name in extensions:
                    call()
                else:
                    self.refused("", call, status="UNIMPLEMENTED")

    def test_a_model_shows_its_tensors_with_the_batch_dimension(self):
        metadata = self.client.get_model_metadata("simple")
        self.assertEqual(metadata.name, "simple")
        self.assertEqual(list(metadata.versions), ["1"])
        self.assertTrue(metadata.platform)
        shown = [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs]
        self.assertEqual(shown, [("INPUT0", "INT32", [-1, 16]), ("INPUT1", "INT32", [-1, 16])])
        self.assertEqual([t.name for t in metadata.outputs], ["OUTPUT0", "OUTPUT1"])

    def test_metadata_of_an_unknown_model_is_not_found(self):
        self.refused(
            "Request for unknown model: 'nonesuch' is not found",
            self.client.get_model_metadata,
            "nonesuch",
            status="NOT_FOUND",
        )

    def test_the_configuration_is_that_of_the_repository(self):
        config = self.client.get_model_config("mlp").config
        self.assertEqual(config.name, "mlp")
        self.assertGreater(config.max_batch_size, 1)
        self.assertTrue(config.HasField("dynamic_batching"))
        self.assertFalse(self.client.get_model_config("simple").config.HasField("dynamic_batching"))

    def test_the_index_lists_every_model_as_ready(self):
        models = self.client.get_model_repository_index().models
        states = {model.name: model.state for model in models}
        self.assertEqual(set(states.values()), {"READY"})
        self.assertLessEqual({"simple", "mlp", "identity_fp32", "identity_bytes"}, set(states))


class Statistics(harness.Case):
    def read(self):
        (stats,) = self.client.get_inference_statistics("simple").model_stats
        return stats

    def test_each_request_counts_once_in_every_figure(self):
        _, _, inputs = harness.simple_inputs(batch=3)
        self.client.infer("simple", inputs)
        before = self.read()
        for _ in range(5):
            self.client.infer("simple", inputs)
        after = self.read()
        self.assertEqual(int(after.version), 1)
        self.assertEqual(after.inference_count - before.inference_count, 15)
        self.assertGreater(after.execution_count, before.execution_count)
        for figure in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
            with self.subTest(figure=figure):
                grown = [getattr(s.inference_stats, figure).count for s in (before, after)]
                self.assertEqual(grown[1] - grown[0], 5)
        infer = after.inference_stats
        parts = (infer.queue, infer.compute_input, infer.compute_infer, infer.compute_output)
        self.assertLessEqual(sum(part.ns for part in parts), infer.success.ns)

    def test_without_a_name_all_models_are_told(self):
        stats = self.client.get_inference_statistics().model_stats
        self.assertLessEqual({"simple", "mlp"}, {model.name for model in stats})


class Reflection(harness.Case):
    def setUp(self):
        super().setUp()
        self.channel = grpc.insecure_channel(harness.ADDRESS)
        self.addCleanup(self.channel.close)

    def services(self, version):
        # The two versions differ in the name of their package only.
        call = self.channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        request = reflection_pb2.ServerReflectionRequest(list_services="*")
        (answer,) = call(iter([request]), timeout=harness.PATIENCE)
        return {service.name for service in answer.list_services_response.service}

    def test_both_versions_list_the_services(self):
        for version in ("v1", "v1alpha"):
            with self.subTest(version=version):
                self.assertLessEqual({INFERENCE, HEALTH}, self.services(version))

    def test_the_contract_has_triton_s_rpcs(self):
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(self.channel))
        methods = {method.name for method in pool.FindServiceByName(INFERENCE).methods}
        self.assertEqual(len(methods), 20)
        self.assertLessEqual({"ModelInfer", "ModelStreamInfer", "RepositoryModelLoad"}, methods)

    def health(self, method, shape, service=""):
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(self.channel))
        request = GetMessageClass(pool.FindMessageTypeByName("grpc.health.v1.HealthCheckRequest"))
        reply = GetMessageClass(pool.FindMessageTypeByName("grpc.health.v1.HealthCheckResponse"))
        call = shape(
            f"/{HEALTH}/{method}",
            request_serializer=request.SerializeToString,
            response_deserializer=reply.FromString,
        )
        return call(request(service=service), timeout=harness.PATIENCE)

    def test_health_check_says_serving(self):
        for service in ("", INFERENCE, "a name of the user's"):
            with self.subTest(service=service):
                self.assertEqual(self.health("Check", self.channel.unary_unary, service).status, 1)

    def test_health_watch_says_serving_at_once(self):
        answers = self.health("Watch", self.channel.unary_stream)
        self.addCleanup(answers.cancel)
        self.assertEqual(next(answers).status, 1)


harness.run()
