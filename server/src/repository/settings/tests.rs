mod faults;

use std::{path::Path, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    repository::{
        DynamicBatching, InstanceKind, SequenceBatching,
        pbtxt::{Schema, tests::FULL},
    },
    signature::TensorSpec,
};

const TENSORS: &str = "input { name: 'x' data_type: TYPE_FP32 dims: 4 } \
     output { name: 'y' data_type: TYPE_FP32 dims: 4 }";

fn read(folder: &str, text: &str) -> Result<ModelSettings, Vec<String>> {
    let config = Schema::new()
        .parse(Path::new("config.pbtxt"), text.as_bytes())
        .unwrap();
    ModelSettings::new(folder, config)
}

/// Reads a TorchScript model with batches of up to 8 and `more`.
fn torchscript(more: &str) -> Result<ModelSettings, Vec<String>> {
    read(
        "m",
        &format!("backend: 'pytorch' max_batch_size: 8 {TENSORS} {more}"),
    )
}

#[test]
fn a_package_of_aotinductor_has_its_own_platform_and_file() {
    for backend in ["", "backend: 'pytorch'"] {
        let settings = read("m", &format!("platform: 'torch_aoti' {backend} {TENSORS}")).unwrap();
        assert_eq!(settings.backend, Backend::Aoti);
        assert_eq!(settings.filename.as_deref(), Some("model.pt2"));
        assert_eq!(settings.config.platform, "torch_aoti");
        assert_eq!(settings.config.backend, "pytorch");
    }
}

#[test]
fn a_full_configuration_is_read() {
    let settings = read("resnet50", FULL).unwrap();
    assert_eq!(settings.name, "resnet50");
    assert_eq!(settings.backend, Backend::TorchScript);
    assert_eq!(settings.filename.as_deref(), Some("model.pt"));
    assert_eq!(settings.max_batch_size, 32);
    let signature = &settings.signature;
    assert_eq!(
        signature.metadata_shape(&signature.inputs[0]),
        [-1, 3, 224, 224]
    );
    assert_eq!(signature.outputs[1].name, "OUTPUT__1");
    assert_eq!(
        settings.scheduling,
        Scheduling::Dynamic(DynamicBatching {
            preferred_batch_sizes: vec![8, 16],
            max_queue_delay: Duration::from_micros(100),
        })
    );
    assert_eq!(
        settings.queue,
        QueuePolicy {
            default_timeout: Some(Duration::from_millis(50)),
            allow_timeout_override: true,
            max_queue_size: Some(128),
        }
    );
    assert_eq!(
        settings.instances,
        [InstanceGroup {
            kind: InstanceKind::Gpu,
            count: 1,
            gpus: vec![0],
        }]
    );
    assert_eq!(settings.parameters["INFERENCE_MODE"], "true");
    assert_eq!(settings.notes, ["parameters.INFERENCE_MODE: ignored"]);
    assert_eq!(
        settings.warmup,
        [WarmupSample {
            name: "w".to_owned(),
            rows: 32,
            count: 1,
            inputs: vec![Some(WarmupInput {
                dims: vec![3, 224, 224],
                data: WarmupData::Zeros,
            })],
        }]
    );
}

#[test]
fn defaults_are_filled_in_and_shown() {
    let settings = torchscript("").unwrap();
    assert_eq!(settings.scheduling, Scheduling::Each);
    assert_eq!(settings.queue, QueuePolicy::default());
    assert_eq!(settings.version_policy, VersionPolicy::Latest(1));
    assert_eq!(settings.instances[0].kind, InstanceKind::Auto);
    assert_eq!(settings.instances[0].count, 1);
    let mut shown = settings.config;
    shown.input.clear();
    shown.output.clear();
    let expected = "name: 'm' platform: 'pytorch_libtorch' backend: 'pytorch' max_batch_size: 8 \
         default_model_filename: 'model.pt' version_policy { latest { num_versions: 1 } } \
         instance_group { name: 'm_0' count: 1 }";
    let schema = Schema::new();
    assert_eq!(schema.parse(Path::new("c"), expected.as_bytes()), Ok(shown));
}

#[test]
fn what_the_user_set_stays_in_what_is_shown() {
    let settings = torchscript(
        "version_policy { latest { num_versions: 3 } } default_model_filename: 'net.pt' \
         instance_group [ { name: 'one' kind: KIND_CPU count: 2 }, { kind: KIND_MODEL } ] \
         sequence_batching { direct { } }",
    )
    .unwrap();
    let shown = &settings.config.instance_group;
    assert_eq!((shown[0].name.as_str(), shown[0].count), ("one", 2));
    assert_eq!((shown[1].name.as_str(), shown[1].count), ("m_1", 1));
    assert_eq!(settings.version_policy, VersionPolicy::Latest(3));
    assert_eq!(settings.filename.as_deref(), Some("net.pt"));
    let idle = Duration::from_secs(1);
    assert_eq!(
        settings.scheduling,
        Scheduling::Sequence(SequenceBatching { max_idle: idle })
    );
    assert!(format!("{:?}", settings.config).contains("max_sequence_idle_microseconds: 1000000"));
}

#[test]
fn a_reshape_is_what_the_model_sees_and_clients_are_shown_dims() {
    let settings = torchscript(
        "input { name: 'a' data_type: TYPE_INT32 dims: [1, 2, -1, 3] \
             reshape { shape: [2, -1, 3, 1] } } \
         input { name: 'b' data_type: TYPE_STRING dims: 1 reshape { } } \
         output { name: 'c' data_type: TYPE_INT32 dims: [6] reshape { shape: [2, 3] } }",
    )
    .unwrap();
    let seen = |spec: &TensorSpec| (spec.dims.clone(), spec.model_dims().to_vec());
    let signature = &settings.signature;
    assert_eq!(seen(&signature.inputs[0]), (vec![4], vec![4]));
    assert_eq!(
        seen(&signature.inputs[1]),
        (vec![1, 2, -1, 3], vec![2, -1, 3, 1])
    );
    assert_eq!(seen(&signature.inputs[2]), (vec![1], vec![]));
    assert_eq!(seen(&signature.outputs[1]), (vec![6], vec![2, 3]));
    let shown = &settings.config.input[1];
    assert_eq!(shown.dims, [1, 2, -1, 3]);
    assert_eq!(shown.reshape.as_ref().unwrap().shape, [2, -1, 3, 1]);
}

#[test]
fn an_identity_model_echoes_inputs_of_the_same_form() {
    let settings = read("echo", &format!("backend: 'identity' {TENSORS}")).unwrap();
    assert_eq!(settings.backend, Backend::Identity);
    assert_eq!(settings.filename, None);
    let faults = read(
        "echo",
        "backend: 'identity' input { name: 'x' data_type: TYPE_FP32 dims: 4 optional: true }
         output { name: 'y' data_type: TYPE_FP32 dims: 5 }
         output { name: 'z' data_type: TYPE_FP32 dims: 4 }",
    )
    .unwrap_err();
    assert_eq!(faults.len(), 3, "{faults:#?}");
}

#[test]
fn preferred_sizes_come_ascending_and_distinct() {
    let settings = torchscript("dynamic_batching { preferred_batch_size: [8, 2, 8, 4] }").unwrap();
    let Scheduling::Dynamic(dynamic) = settings.scheduling else {
        panic!("expected dynamic batching");
    };
    assert_eq!(dynamic.preferred_batch_sizes, [2, 4, 8]);
    assert_eq!(dynamic.max_queue_delay, Duration::ZERO);
}

#[test]
fn harmless_fields_are_noted() {
    let settings = torchscript(
        "optimization { } metric_tags { key: 'a' value: 'b' } model_metrics { } \
         response_cache { enable: false } model_transaction_policy { } \
         instance_group { rate_limiter { } profile: 'p' host_policy: 'h' } \
         sequence_batching { direct { minimum_slot_utilization: 0.5 } }",
    )
    .unwrap();
    assert_eq!(
        settings.notes,
        [
            "sequence_batching.direct.minimum_slot_utilization: ignored",
            "sequence_batching: max_batch_size joins no sequences; each instance has one at a time, \
             so raise count in instance_group for more",
            "instance_group[0].rate_limiter: ignored",
            "instance_group[0].profile: ignored",
            "instance_group[0].host_policy: ignored",
            "optimization: ignored",
            "metric_tags: ignored",
            "model_metrics: ignored",
        ]
    );
}

fn parameter(key: &str, value: &str) -> String {
    format!("parameters {{ key: '{key}' value {{ string_value: '{value}' }} }}\n")
}

#[test]
fn parameters_that_change_no_result_are_noted_and_so_are_misspelt_ones_of_our_own() {
    for (key, value, noted) in [
        ("INFERENCE_MODE", "on", true),
        ("DISABLE_CUDNN", "False", true),
        ("NUM_THREADS", "4", true),
        ("NUM_INTEROP_THREADS", "2", true),
        ("TORCH_COMPILE_OPTIONAL_PARAMETERS", "{}", true),
        ("FOREBAY_EXECUTER_MODE", "inline", true),
        ("FOREBAY_EXECUTOR_MODE", "inline", false),
        ("forebay_executor_mode", "inline", true),
        ("GREETING", "hi", false),
    ] {
        let notes = torchscript(&parameter(key, value)).unwrap().notes;
        let expected = noted.then(|| format!("parameters.{key}: ignored"));
        assert_eq!(notes, Vec::from_iter(expected), "{key}");
    }
}

#[test]
fn a_model_without_a_batch_dimension_may_have_a_queue_s_policy() {
    let batching = "dynamic_batching { max_queue_delay_microseconds: 100 \
         default_queue_policy { max_queue_size: 2 default_timeout_microseconds: 50 } }";
    let settings = read("m", &format!("backend: 'pytorch' {TENSORS} {batching}")).unwrap();
    assert_eq!(settings.scheduling, Scheduling::Each);
    assert_eq!(settings.queue.max_queue_size, Some(2));
    let timeout = Duration::from_micros(50);
    assert_eq!(settings.queue.default_timeout, Some(timeout));
    assert_eq!(
        settings.notes,
        ["dynamic_batching: each request runs alone, since max_batch_size is 0"]
    );
}

#[test]
fn sequences_without_batches_have_nothing_to_note() {
    for batch in ["", "max_batch_size: 1"] {
        let sequences = "sequence_batching { direct { } }";
        let text = format!("backend: 'pytorch' {batch} {TENSORS} {sequences}");
        assert_eq!(read("m", &text).unwrap().notes, [""; 0], "{batch}");
    }
}

#[test]
fn a_model_s_file_tells_the_platform_where_nothing_else_does() {
    let dir = tempfile::tempdir().unwrap();
    let put = |file: &str| {
        let file = dir.path().join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, "").unwrap();
    };
    let inferred = |text: &str| {
        let config = Schema::new().parse(Path::new("c"), text.as_bytes());
        let mut config = config.unwrap();
        backend::infer(&mut config, dir.path());
        config.platform
    };
    put("old/model.pt");
    put("3/model.pt/in_a_folder_of_that_name");
    assert_eq!(inferred(""), "");
    put("2/model.pt2");
    assert_eq!(inferred(""), "torch_aoti");
    put("1/model.pt");
    for (text, platform) in [
        // One that holds either could be meant.
        ("", ""),
        ("default_model_filename: 'model.pt'", "pytorch_libtorch"),
        ("default_model_filename: 'model.pt2'", "torch_aoti"),
        ("default_model_filename: 'net.pt'", ""),
        ("backend: 'identity'", ""),
        ("platform: 'onnx'", "onnx"),
    ] {
        assert_eq!(inferred(text), platform, "{text}");
    }
}

#[test]
fn a_sample_without_a_name_is_called_by_its_place() {
    let inputs = "inputs { key: 'x' value { data_type: TYPE_FP32 dims: 4 zero_data: true } }";
    let text = format!(
        "model_warmup [ {{ name: 'w' batch_size: 1 {inputs} }}, {{ batch_size: 2 {inputs} }} ]"
    );
    let samples = torchscript(&text).unwrap().warmup;
    let names: Vec<&str> = samples.iter().map(|sample| sample.name.as_str()).collect();
    assert_eq!(names, ["w", "1"]);
}

#[test]
fn a_model_says_how_its_batches_run() {
    let text = torchscript(&format!(
        "{}{}",
        parameter("FOREBAY_EXECUTOR_MODE", "inline"),
        parameter("FOREBAY_MICRO_BATCHES", "4")
    ));
    let server = crate::executor::Config::default();
    let config = text.unwrap().executor.over(server);
    assert_eq!(config.mode, crate::executor::Mode::Inline);
    assert_eq!(config.micro_batches, "4".parse().unwrap());
    assert_eq!(config.pipeline_depth, server.pipeline_depth);
    let silent = torchscript("").unwrap().executor;
    assert_eq!(silent.over(config).mode, config.mode);
}

#[test]
fn a_model_says_whether_it_may_be_frozen_as_triton_reads_it() {
    let may_freeze = |value: &str| {
        let key = "DISABLE_OPTIMIZED_EXECUTION";
        let text = format!("parameters {{ key: '{key}' value {{ string_value: '{value}' }} }}");
        torchscript(&text).unwrap().may_freeze
    };
    assert!(torchscript("").unwrap().may_freeze);
    for (value, expected) in [
        ("true", false),
        ("True", false),
        ("1", false),
        ("ON", false),
    ]
    .into_iter()
    .chain([("false", true), ("Off", true), ("0", true)])
    {
        assert_eq!(may_freeze(value), expected, "{value}");
    }
}

#[test]
fn a_package_takes_no_sequences() {
    let text = format!("platform: 'torch_aoti' sequence_batching {{ direct {{ }} }} {TENSORS}");
    let faults = read("m", &text).unwrap_err();
    assert!(
        faults[0].starts_with("sequence_batching: a package"),
        "{faults:?}"
    );
}

#[test]
fn a_model_says_whether_its_weights_may_leave_memory() {
    use crate::residency::Mode;
    let residency = |name: &str, value: &str, more: &str| {
        let text =
            format!("parameters {{ key: '{name}' value {{ string_value: '{value}' }} }} {more}");
        torchscript(&text).unwrap().residency
    };
    assert_eq!(residency("model_residency", "lru", ""), Some(Mode::Lru));
    assert_eq!(
        residency("FOREBAY_MODEL_RESIDENCY", "pinned", ""),
        Some(Mode::Pinned)
    );
    assert_eq!(residency("other", "lru", ""), None);
    let stateful = "sequence_batching { direct { } }";
    assert_eq!(residency("other", "lru", stateful), Some(Mode::Pinned));
}

proptest! {
    #[test]
    fn whatever_parses_is_read_or_refused_without_panic(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), "[0-9a-z{}_:-]"), 1..6),
    ) {
        let mut text = FULL.to_owned();
        for (at, edit) in edits {
            let at = at.index(text.len());
            text.replace_range(at..=at, &edit);
        }
        if let Ok(config) = Schema::new().parse(Path::new("c"), text.as_bytes())
            && let Err(faults) = ModelSettings::new("resnet50", config)
        {
            prop_assert!(!faults.is_empty());
            prop_assert!(faults.iter().all(|fault| fault.contains(": ") && fault.contains("; ")));
        }
    }
}
