use forebay_proto::inference::{DataType, model_config::SchedulingChoice};
use proptest::prelude::*;

use super::*;

/// A configuration with nearly everything that the format has, as Triton's users write it.
pub(in crate::repository) const FULL: &str = r#"
# Both list styles, comments, map entries.
name: "resnet50" platform: "pytorch_libtorch" max_batch_size: 32
input [ { name: "INPUT__0" data_type: TYPE_FP32 dims: [ 3, 224, 224 ] } ]  # one list
output { name: "OUTPUT__0", data_type: TYPE_FP32; dims: 1000 }
output: < name: 'OUTPUT' "__1" data_type: TYPE_INT64 dims: -1 dims: 0x2 >
instance_group [{count:1 kind: KIND_GPU gpus:[0]}]
dynamic_batching { preferred_batch_size:[8,16] max_queue_delay_microseconds:100
  default_queue_policy { timeout_action: REJECT default_timeout_microseconds:50000
    allow_timeout_override:true max_queue_size:128 } }
version_policy:{latest:{num_versions:1}}
model_warmup [{name:"w" batch_size:32
  inputs {key:"INPUT__0" value {data_type:TYPE_FP32 dims:[3,224,224] zero_data:true}}}]
parameters {key:"INFERENCE_MODE" value {string_value:"true"}}
parameters [ { key: "GREETING" value: { string_value: "say \"hi\" # not a comment" } } ]
"#;

fn parse(text: &str) -> Result<ModelConfig, Error> {
    Schema::new().parse(Path::new("m/config.pbtxt"), text.as_bytes())
}

fn place(text: &str) -> (usize, usize) {
    let error = parse(text).unwrap_err();
    (error.line(), error.column())
}

#[test]
fn reads_every_form_that_the_format_has() {
    let config = parse(FULL).unwrap();
    assert_eq!(config.name, "resnet50");
    assert_eq!(config.input[0].dims, [3, 224, 224]);
    assert_eq!(config.input[0].data_type(), DataType::TypeFp32);
    let names: Vec<_> = config.output.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["OUTPUT__0", "OUTPUT__1"]);
    assert_eq!(config.output[0].dims, [1000]);
    assert_eq!(config.output[1].dims, [-1, 2]);
    assert_eq!(config.instance_group[0].gpus, [0]);
    assert_eq!(config.parameters.len(), 2);
    assert_eq!(
        config.parameters["GREETING"].string_value,
        "say \"hi\" # not a comment"
    );
    assert!(config.model_warmup[0].inputs.contains_key("INPUT__0"));
    let Some(SchedulingChoice::DynamicBatching(dynamic)) = config.scheduling_choice else {
        panic!("expected dynamic batching");
    };
    assert_eq!(dynamic.preferred_batch_size, [8, 16]);
}

#[test]
fn both_list_styles_mean_the_same() {
    let list = parse("input [ { name: 'a' dims: [1, 2] }, { name: 'b' dims: [] } ]").unwrap();
    let blocks = parse("input { name: 'a' dims: 1 dims: 2 }\ninput { name: 'b' }").unwrap();
    assert_eq!(list, blocks);
}

#[test]
fn an_empty_text_is_an_empty_configuration() {
    for text in ["", "\n\n", "# nothing", "\u{feff}", "\u{feff}# nothing\r\n"] {
        assert_eq!(parse(text), Ok(ModelConfig::default()), "{text:?}");
    }
}

#[test]
fn a_fault_is_shown_at_its_place() {
    let text = "name: \"m\"\n\tmax_bach_size: 8\ninput []\n";
    assert_eq!(
        parse(text).unwrap_err().to_string(),
        "m/config.pbtxt:2:2: ModelConfig has no field 'max_bach_size'; \
         did you mean 'max_batch_size'?\n  2 | \tmax_bach_size: 8\n    | \t^^^^^^^^^^^^^"
    );
}

#[test]
fn lines_and_columns_are_right() {
    for (text, line, column) in [
        ("nam: 1", 1, 1),
        ("  nam: 1", 1, 3),
        ("name: 1\nplatform: ''", 1, 7),
        ("name: ''\n\n\nplatform: 1", 4, 11),
        ("name: ''\r\n\r\n\r\nplatform: 1\r\n", 4, 11),
        ("# é\nname: 'é' foo: 1", 2, 11),
        ("name: '\\377'", 1, 7),
        ("name: 'x' name: 'y'", 1, 11),
        ("input {\n  dims: [1, x]\n}", 2, 13),
        ("max_batch_size: 99999999999", 1, 17),
        // A text that ends too early is wrong where it ends, not on the empty line after it.
        ("input {\n  name: 'a'\n", 2, 12),
        ("input {\r\n  name: 'a' # a\r\n\r\n", 2, 12),
        ("name:", 1, 6),
        // A string that is not closed is wrong from where it begins.
        ("name: 'm\nmax_batch_size: 8", 1, 7),
        ("name: 'm\\\nmax_batch_size: 8", 1, 7),
        ("name: 'm\r\nmax_batch_size: 8", 1, 7),
        ("name: 'm", 1, 7),
        ("name: ''\n\nplatform: 'é\\q'", 3, 13),
        ("@", 1, 1),
        ("name: 'm' .", 1, 11),
        ("}", 1, 1),
        ("input { > }", 1, 9),
    ] {
        assert_eq!(place(text), (line, column), "{text:?}");
    }
}

#[test]
fn suggests_what_was_probably_meant() {
    for (text, mend) in [
        ("inputs [ ]", "did you mean 'input'?"),
        ("maxBatchSize: 1", "did you mean 'max_batch_size'?"),
        ("input { datatype: TYPE_FP32 }", "did you mean 'data_type'?"),
        ("input { data_type: FP32 }", "did you mean 'TYPE_FP32'?"),
        (
            "input { data_type: TYPE_FLOAT32 }",
            "it has TYPE_INVALID, TYPE_BOOL,",
        ),
        ("instance_group { kind: GPU }", "did you mean 'KIND_GPU'?"),
        (
            "version_policy { newest { } }",
            "it has latest, all, specific",
        ),
        (
            "dynamic_batching { max_queue_delay_us: 1 }",
            "it has preferred_batch_size,",
        ),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.problem().contains(mend), "{text}: {error}");
    }
}

#[test]
fn each_fault_says_what_was_expected() {
    for (text, problem) in [
        (
            "max_batch_size: 'x'",
            "expected a whole number for 'max_batch_size', but found 'x'",
        ),
        (
            "max_batch_size: 1.5",
            "expected a whole number for 'max_batch_size', but found '1.5'",
        ),
        ("max_batch_size: 08", "expected a whole number"),
        ("max_batch_size: 0x", "expected a whole number"),
        ("max_batch_size: 8gb", "expected a whole number"),
        (
            "max_batch_size: -",
            "expected a whole number for 'max_batch_size', but found the end",
        ),
        (
            "max_batch_size: 3000000000",
            "3000000000 is out of range for 'max_batch_size', which is int32",
        ),
        (
            "model_warmup { batch_size: -1 }",
            "-1 is out of range for 'batch_size', which is uint32",
        ),
        (
            "max_batch_size: [ 8 ]",
            "expected one value, since 'max_batch_size' is no list",
        ),
        (
            "max_batch_size 8",
            "expected ':' after 'max_batch_size', but found '8'",
        ),
        (
            "name: m",
            "expected a string in quotes for 'name', but found 'm'",
        ),
        ("name: '\\xff'", "do not make UTF-8"),
        ("name: '\\q'", "no escape sequence"),
        ("name: 'x' name: ''", "'name' is already set; set it once"),
        ("name: '' name: 'x'", "'name' is already set; set it once"),
        (
            "dynamic_batching { } sequence_batching { }",
            "'sequence_batching' cannot go with 'dynamic_batching'; keep one of them",
        ),
        ("input: 1", "expected '{' after 'input', but found '1'"),
        (
            "input { ",
            "expected a field's name or '}', but found the end of the file",
        ),
        ("input [ { } { } ]", "expected ',' or ']', but found '{'"),
        (
            "input [ { }, ]",
            "expected '{' after 'input', but found ']'",
        ),
        (
            "input { dims: [ 1 2 ] }",
            "expected ',' or ']', but found '2'",
        ),
        (
            "input { data_type: 'TYPE_FP32' }",
            "without quotes, TYPE_FP32, but found",
        ),
        (
            "input { optional: yes }",
            "expected true or false for 'optional', but found 'yes'",
        ),
        ("[a.b/c] { }", "expected a field's name, but found '['"),
        (
            "sequence_batching { direct { minimum_slot_utilization: x } }",
            "expected a number for",
        ),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.problem().contains(problem), "{text}: {error}");
    }
}

#[test]
fn numbers_have_the_forms_of_the_format() {
    let text = "input { dims: [ -1, 010, 0x1F, 0, -9223372036854775808 ] data_type: 11 \
         optional: 1 } sequence_batching { direct { minimum_slot_utilization: .5f } \
         max_sequence_idle_microseconds: 18446744073709551615 }";
    let config = parse(text).unwrap();
    assert_eq!(config.input[0].dims, [-1, 8, 31, 0, i64::MIN]);
    assert_eq!(config.input[0].data_type(), DataType::TypeFp32);
    assert!(config.input[0].optional);
    let shown = format!("{:?}", config.scheduling_choice);
    assert!(shown.contains("minimum_slot_utilization: 0.5"), "{shown}");
    assert!(
        shown.contains("microseconds: 18446744073709551615"),
        "{shown}"
    );
}

#[test]
fn text_that_is_not_utf8_is_refused_at_the_byte() {
    let error = Schema::new()
        .parse(Path::new("c"), b"name: 'm'\nplatform: '\xff'")
        .unwrap_err();
    assert_eq!((error.line(), error.column()), (2, 12));
    assert!(error.problem().contains("UTF-8"));
}

#[test]
fn hostile_depth_and_length_do_not_exhaust_the_stack() {
    for text in [
        "input {".repeat(100_000),
        "[a/inference.ModelConfig] {".repeat(100_000),
        format!("name: '{}", "é".repeat(1 << 20)),
        format!("#{}\nnam: 1", "é".repeat(1 << 20)),
        format!("max_batch_size: {}", "1".repeat(1 << 20)),
        format!("{}: 1", "x".repeat(1 << 20)),
    ] {
        let shown = parse(&text).unwrap_err().to_string();
        assert!(shown.len() < 2000, "{} bytes", shown.len());
    }
}

#[test]
fn what_is_shown_of_a_long_line_is_short_and_printable() {
    let text = format!(
        "name: '{}\u{1b}[31m' nam: 1 {}",
        "é".repeat(5000),
        " ".repeat(5000)
    );
    let error = parse(&text).unwrap_err();
    let shown = error.to_string();
    assert!(shown.len() < 1200, "{} bytes", shown.len());
    assert!(!shown.contains('\u{1b}'), "{shown}");
    let lines: Vec<_> = shown.lines().collect();
    let caret = lines[2].chars().position(|char| char == '^').unwrap();
    let pointed: String = lines[1].chars().skip(caret).take(4).collect();
    assert_eq!(pointed, "nam:");
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Schema::new().parse(Path::new("c"), &bytes).map_err(|error| error.to_string());
    }

    #[test]
    fn mutations_of_a_good_text_never_panic(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        const BYTES: &[u8] = b"{}[]<>\"'\\#:,;-.0x9e\n\r\t/_aT\xc3\xa9\xff\0";
        let mut text = FULL.as_bytes().to_vec();
        for (at, byte) in edits {
            let at = at.index(text.len());
            text[at] = BYTES[byte.index(BYTES.len())];
        }
        let lines = text.iter().filter(|byte| **byte == b'\n').count() + 1;
        for text in [&text[..], &text[..cut.index(text.len())]] {
            if let Err(error) = Schema::new().parse(Path::new("c"), text) {
                prop_assert!((1..=lines).contains(&error.line()));
                prop_assert!(error.to_string().contains('^'));
            }
        }
    }
}
