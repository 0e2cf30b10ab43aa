//! Every way in which a configuration can be wrong.

use super::{TENSORS, read, torchscript};

/// Each snippet has one fault, told in words that begin and go on like this.
const FAULTY: &[(&str, &str, &str)] = &[
    (
        "model_warmup { name: 'w' batch_size: 9 inputs { key: 'x' value { data_type: TYPE_FP32 dims: 4 zero_data: true } } }",
        "model_warmup[0].batch_size: 9 is more",
        "use at most 8",
    ),
    (
        "model_warmup { name: 'w' batch_size: 1 count: 10001 inputs { key: 'x' value { data_type: TYPE_FP32 dims: 4 zero_data: true } } }",
        "model_warmup[0].count: 10001",
        "use at most",
    ),
    (
        "model_warmup { name: 'w' batch_size: 2  }",
        "model_warmup[0].inputs['x']: missing",
        "every input",
    ),
    (
        "model_warmup { name: 'w' batch_size: 2 inputs { key: 'x' value { data_type: TYPE_FP32 dims: 4 zero_data: true } } inputs { key: 'z' value { data_type: TYPE_FP32 dims: 4 zero_data: true } } }",
        "model_warmup[0].inputs['z']: the model has no such",
        "names",
    ),
    (
        "model_warmup { name: 'w' batch_size: 2 inputs { key: 'x' value { data_type: TYPE_INT8 dims: 4 zero_data: true } } }",
        "model_warmup[0].inputs['x'].data_type: TYPE_INT8",
        "FP32",
    ),
    (
        "model_warmup { name: 'w' batch_size: 2 inputs { key: 'x' value { data_type: TYPE_FP32 dims: 5 zero_data: true } } }",
        "model_warmup[0].inputs['x'].dims: [5] is no shape",
        "sizes from 1",
    ),
    (
        "model_warmup { name: 'w' batch_size: 2 inputs { key: 'x' value { data_type: TYPE_FP32 dims: 4 } } }",
        "model_warmup[0].inputs['x']: no data",
        "set zero_data",
    ),
    (
        "model_warmup { name: 'w' batch_size: 2 inputs { key: 'x' value { data_type: TYPE_FP32 dims: 4 input_data_file: '../x' } } }",
        "model_warmup[0].inputs['x'].input_data_file: \"../x\"",
        "own folder",
    ),
    (
        "model_warmup { name: 'w' batch_size: 2 inputs { key: 'x' value { data_type: TYPE_FP32 dims: 4 input_data_file: '/x' } } }",
        "model_warmup[0].inputs['x'].input_data_file: \"/x\"",
        "own folder",
    ),
    (
        "parameters { key: 'DISABLE_OPTIMIZED_EXECUTION' value { string_value: 'yes' } }",
        "parameters.DISABLE_OPTIMIZED_EXECUTION: 'yes' is no truth value",
        "write true or false",
    ),
    (
        "parameters { key: 'INFERENCE_MODE' value { string_value: 'maybe' } }",
        "parameters.INFERENCE_MODE: 'maybe' is no truth value",
        "write true or false",
    ),
    (
        "parameters { key: 'INFERENCE_MODE' value { string_value: 'Off' } }",
        "parameters.INFERENCE_MODE: false is not supported",
        "always runs in inference mode",
    ),
    (
        "parameters { key: 'DISABLE_CUDNN' value { string_value: '1' } }",
        "parameters.DISABLE_CUDNN: true is not supported",
        "cuDNN cannot be switched off",
    ),
    ("name: 'n'", "name: 'n' is not", "write name: \"m\""),
    (
        "platform: 'onnx'",
        "platform: 'onnx' is not supported",
        "\"pytorch_libtorch\"",
    ),
    (
        "parameters { key: 'FOREBAY_EXECUTOR_MODE' value { string_value: 'fast' } }",
        "parameters.FOREBAY_EXECUTOR_MODE: 'fast' is not a mode",
        "write inline, stages or auto",
    ),
    (
        "parameters { key: 'FOREBAY_MICRO_BATCHES' value { string_value: '0' } }",
        "parameters.FOREBAY_MICRO_BATCHES: '0' is neither",
        "write auto, off or how many pieces",
    ),
    (
        "parameters { key: 'FOREBAY_MODEL_RESIDENCY' value { string_value: 'mru' } }",
        "parameters.FOREBAY_MODEL_RESIDENCY: 'mru' is not a residency",
        "write pinned or lru",
    ),
    (
        "parameters { key: 'model_residency' value { string_value: 'lru' } } \
         parameters { key: 'FOREBAY_MODEL_RESIDENCY' value { string_value: 'pinned' } }",
        "parameters.FOREBAY_MODEL_RESIDENCY: says otherwise than model_residency",
        "remove one",
    ),
    (
        "parameters { key: 'model_residency' value { string_value: 'lru' } } \
         sequence_batching { direct { } }",
        "parameters.model_residency: lru would lose the state",
        "write pinned",
    ),
    (
        "runtime: 'model.py'",
        "runtime: not supported yet",
        "remove",
    ),
    (
        "default_model_filename: '../x'",
        "default_model_filename",
        "own folder",
    ),
    (
        "default_model_filename: '..'",
        "default_model_filename",
        "own folder",
    ),
    (
        "input { data_type: TYPE_FP32 dims: 1 }",
        "input[1].name: missing",
        "give it",
    ),
    (
        "input { name: 'x' data_type: TYPE_FP32 dims: 1 }",
        "input[1].name: another input",
        "own",
    ),
    (
        "output { name: 'y' data_type: TYPE_FP32 dims: 1 }",
        "output[1].name: another",
        "own",
    ),
    (
        "input { name: 'z' dims: 1 }",
        "input[1].data_type: missing",
        "TYPE_FP32",
    ),
    (
        "input { name: 'z' data_type: TYPE_BOOL }",
        "input[1].dims: missing",
        "dims: [ 1 ]",
    ),
    (
        "input { name: 'z' data_type: TYPE_BOOL dims: [2, 0] }",
        "input[1].dims[1]: 0",
        "-1",
    ),
    (
        "input { name: 'z' data_type: TYPE_BOOL dims: -2 }",
        "input[1].dims[0]: -2",
        "-1",
    ),
    (
        "output { name: 'z' data_type: TYPE_BOOL dims: 2 reshape { } }",
        "output[1].reshape.shape: [] has another number of elements than dims, [2]",
        "same product",
    ),
    (
        "input { name: 'z' data_type: TYPE_BOOL dims: [2, 3] reshape { shape: 5 } }",
        "input[1].reshape.shape: [5] has another number of elements than dims, [2, 3]",
        "same product",
    ),
    (
        "input { name: 'z' data_type: TYPE_BOOL dims: [2, -1, 3] reshape { shape: [3, -1, 2] } }",
        "input[1].reshape.shape: [3, -1, 2] has another number of elements",
        "behind each -1",
    ),
    (
        "input { name: 'z' data_type: TYPE_BOOL dims: [-1, -1] reshape { shape: [1, -1] } }",
        "input[1].reshape.shape: [1, -1] has not as many -1 as dims, [-1, -1]",
        "the same order",
    ),
    (
        "input { name: 'z' data_type: TYPE_BOOL dims: 1 reshape { shape: [1, 0] } }",
        "input[1].reshape.shape[1]: 0",
        "-1",
    ),
    (
        "input { name: 'z' data_type: TYPE_BOOL dims: 1 is_shape_tensor: true }",
        "input[1].is_shape_tensor: not supported yet",
        "remove",
    ),
    (
        "input { name: 'z' data_type: TYPE_BOOL dims: 1 allow_ragged_batch: true }",
        "input[1].allow_ragged_batch: not supported yet",
        "equal shapes",
    ),
    (
        "dynamic_batching { preferred_batch_size: 9 }",
        "dynamic_batching.preferred_batch_size[0]: 9 is more than max_batch_size, which is 8",
        "raise",
    ),
    (
        "dynamic_batching { preferred_batch_size: [4, 0] }",
        "dynamic_batching.preferred_batch_size[1]: 0",
        "1 or more",
    ),
    (
        "dynamic_batching { preserve_ordering: true }",
        "dynamic_batching.preserve_ordering",
        "remove",
    ),
    (
        "dynamic_batching { priority_levels: 2 }",
        "dynamic_batching.priority_levels",
        "order they came",
    ),
    (
        "dynamic_batching { priority_queue_policy { key: 1 } }",
        "dynamic_batching.priority_queue_policy",
        "default_queue_policy",
    ),
    (
        "dynamic_batching { default_queue_policy { timeout_action: DELAY } }",
        "dynamic_batching.default_queue_policy.timeout_action",
        "REJECT",
    ),
    (
        "sequence_batching { oldest { } }",
        "sequence_batching.oldest",
        "use direct { }",
    ),
    (
        "sequence_batching { control_input { } }",
        "sequence_batching.control_input",
        "without control",
    ),
    (
        "sequence_batching { state { } }",
        "sequence_batching.state",
        "in the model",
    ),
    (
        "sequence_batching { iterative_sequence: true }",
        "sequence_batching.iterative_sequence",
        "each step",
    ),
    (
        "ensemble_scheduling { }",
        "ensemble_scheduling: not supported yet",
        "in the client",
    ),
    ("batch_input { }", "batch_input: not", "let clients"),
    ("batch_output { }", "batch_output: not", "along the batch"),
    (
        "model_transaction_policy { decoupled: true }",
        "model_transaction_policy.decoupled",
        "one response",
    ),
    (
        "response_cache { enable: true }",
        "response_cache.enable",
        "false",
    ),
    (
        "cc_model_filenames { key: '9.0' value: 'm' }",
        "cc_model_filenames",
        "default_model_filename",
    ),
    (
        "model_operations { op_library_filename: 'x.so' }",
        "model_operations",
        "custom operators",
    ),
    (
        "model_repository_agents { agents { } }",
        "model_repository_agents",
        "as they are",
    ),
    (
        "instance_group { count: -1 }",
        "instance_group[0].count: -1",
        "1 to 256",
    ),
    (
        "instance_group { count: 257 }",
        "instance_group[0].count: 257",
        "1 to 256",
    ),
    (
        "instance_group { kind: 7 }",
        "instance_group[0].kind: 7",
        "KIND_AUTO",
    ),
    (
        "instance_group { kind: KIND_CPU gpus: 0 }",
        "instance_group[0].gpus: KIND_CPU",
        "KIND_GPU",
    ),
    (
        "instance_group { gpus: [ 1, 1 ] }",
        "instance_group[0].gpus[1]: 1 is listed twice",
        "once",
    ),
    (
        "instance_group { gpus: -1 }",
        "instance_group[0].gpus[0]: -1",
        "from 0",
    ),
    (
        "instance_group { passive: true }",
        "instance_group[0].passive",
        "serves requests",
    ),
    (
        "version_policy { specific { } }",
        "version_policy.specific.versions: empty",
        "list",
    ),
    (
        "version_policy { specific { versions: 0 } }",
        "version_policy.specific.versions[0]: 0",
        "from 1",
    ),
];

#[test]
fn each_fault_names_its_field_and_the_mend() {
    for (more, field, mend) in FAULTY {
        let faults = torchscript(more).unwrap_err();
        assert_eq!(faults.len(), 1, "{more}: {faults:#?}");
        assert!(faults[0].starts_with(field), "{more}: {faults:#?}");
        let (_, told) = faults[0].split_once("; ").unwrap();
        assert!(told.contains(mend), "{more}: {faults:#?}");
    }
}

#[test]
fn all_faults_are_reported_at_once() {
    let faults = read(
        ".bad",
        "name: 'other' max_batch_size: -1 dynamic_batching { preferred_batch_size: -3 }",
    )
    .unwrap_err();
    let fields: Vec<_> = faults
        .iter()
        .map(|fault| fault.split(": ").next().unwrap())
        .collect();
    assert_eq!(
        fields,
        [
            "folder",
            "name",
            "platform",
            "max_batch_size",
            "input",
            "output",
            "dynamic_batching.preferred_batch_size[0]",
        ]
    );
}

#[test]
fn a_preferred_batch_needs_a_batch_dimension() {
    let batching = "dynamic_batching { preferred_batch_size: 4 }";
    let faults = read("m", &format!("backend: 'pytorch' {TENSORS} {batching}")).unwrap_err();
    assert_eq!(
        faults,
        [
            "dynamic_batching.preferred_batch_size[0]: 4 is more than max_batch_size, which is 0; \
             lower or remove it, or raise max_batch_size"
        ]
    );
}

#[test]
fn a_backend_must_go_with_its_platform() {
    for (text, fault) in [
        ("backend: 'python'", "backend: 'python' is not supported"),
        (
            "platform: 'ensemble'",
            "platform: 'ensemble' is not supported",
        ),
        (
            "platform: 'torch_aoti' backend: 'x'",
            "backend: 'x' does not go with",
        ),
        (
            "platform: 'pytorch_libtorch' backend: 'x'",
            "backend: 'x' does not go with",
        ),
        ("", "platform: neither"),
    ] {
        let faults = read("m", &format!("{text} {TENSORS}")).unwrap_err();
        assert_eq!(faults.len(), 1, "{text}: {faults:#?}");
        assert!(faults[0].starts_with(fault), "{text}: {faults:#?}");
    }
}
