//! What a burst that is larger than memory shows: in figures, in traces and in replies alike.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
};

use forebay_client::tensor;
use forebay_proto::{
    InferRequest, Parameter, Parameters,
    inference::{ModelInferRequest, ModelInferResponse, infer_parameter::ParameterChoice},
};
use forebay_tests::harness::{TestRepository, echo, until, within};
use opentelemetry_proto::tonic::{common::v1::any_value::Value, trace::v1::Span};

use super::{Traced, figures::Figures};

const REQUESTS: usize = 32;
const BYTES: usize = 256 << 10;

/// Memory for half of the requests, and a device that takes longer for each than it takes to send.
const SETTINGS: &str = r#"
[admission]
host_bytes = "4 MiB"
max_message_bytes = "1 MiB"
[device]
kind = "simulated"
compute = "20ms"
"#;

#[tokio::test]
async fn a_burst_is_seen_on_the_disk_while_it_lasts_and_gone_when_it_is_over() {
    let traced = with_disk().await;
    let sent = send_all(&traced);
    let seen = until(|| {
        let parked = |one: &Figures| {
            let mut figures = one.starting("forebay.model.queue.parked");
            figures.any(|(_, requests)| requests > 0.0)
        };
        traced.collector.figures().iter().any(parked)
    });
    let (replies, ()) = tokio::join!(sent, seen);
    assert_eq!(replies.len(), REQUESTS);

    let collector = traced.end().await;
    let all = collector.figures();
    let last = all.last().unwrap();
    assert_served(last);
    assert_parked(last, &replies);
    assert_moved(last);
    assert_idle(last);
}

#[tokio::test]
async fn the_trace_and_the_reply_agree_on_how_long_a_request_was_on_disk() {
    let traced = with_disk().await;
    let replies = send_all(&traced).await;
    let spans = traced.stop().await;

    let mut parked = 0;
    for (id, timings) in &replies {
        let queue = child(&spans, infer(&spans, id), "queue").unwrap();
        let stages = ["parked", "onboard"].map(|name| child(&spans, queue, name));
        let told = ["forebay_parked_ns", "forebay_onboard_ns"].map(|name| timings.get(name));
        assert_eq!(
            stages.map(|stage| stage.map(|stage| nanos(stage) + earlier(stage))),
            told.map(Option::<&u64>::copied)
        );
        let [Some(away), Some(onboard)] = stages else {
            continue;
        };
        parked += 1;
        assert!(queue.start_time_unix_nano <= away.start_time_unix_nano);
        assert_eq!(away.end_time_unix_nano, onboard.start_time_unix_nano);
        assert!(onboard.end_time_unix_nano <= queue.end_time_unix_nano);
        assert!(nanos(away) > 0 && nanos(onboard) > 0);
        assert!(nanos(away) + nanos(onboard) <= timings["forebay_queue_ns"]);
    }
    assert!(parked > 0 && parked < REQUESTS, "{parked} were parked");
}

#[tokio::test]
async fn figures_stay_at_home_where_they_are_not_wanted() {
    let repository =
        TestRepository::default().with_model("echo", &echo("echo", "TYPE_FP32", ""), None);
    let traced = Traced::serve(repository, "", "0s").await;
    send(&traced, 1).await;
    let collector = traced.end().await;
    assert!(!collector.spans().is_empty());
    assert!(collector.figures().is_empty());
}

fn assert_served(figures: &Figures) {
    let of_model = |name: &str, attribute: &str| {
        let mut attributes = vec!["model=echo", "version=1"];
        attributes.extend((!attribute.is_empty()).then_some(attribute));
        attributes.sort_unstable();
        figures.get(&format!("forebay.model.{name}{{{}}}", attributes.join(",")))
    };
    let requests = REQUESTS as f64;
    assert_eq!(of_model("requests", "outcome=success"), requests);
    assert_eq!(of_model("requests", "outcome=failure"), 0.0);
    assert_eq!(of_model("inferences", ""), requests);
    // Passes of 20 ms.
    let least = requests * 0.020;
    assert!(of_model("stage.time", "stage=compute") >= least);
    let computing = of_model("pipeline.time", "state=computing");
    assert!(computing > 0.0 && computing <= of_model("pipeline.time", "state=busy"));
    assert!(of_model("stage.time", "stage=queue") > least);
    assert!(of_model("request.time", "outcome=success") > of_model("stage.time", "stage=queue"));
}

/// Checks that the sums are those of the replies.
fn assert_parked(figures: &Figures, replies: &HashMap<String, BTreeMap<String, u64>>) {
    let requests = "forebay.model.parking.requests{model=echo,version=1}";
    let timings = |name: &'static str| replies.values().filter_map(move |told| told.get(name));
    let parked = timings("forebay_parked_ns").count();
    assert!(parked > 0 && parked < REQUESTS, "{parked} were parked");
    assert_eq!(figures.get(requests), parked as f64);
    for (state, name) in [
        ("parked", "forebay_parked_ns"),
        ("onboard", "forebay_onboard_ns"),
    ] {
        let told = timings(name).sum::<u64>() as f64 / 1e9;
        let time = format!("forebay.model.parking.time{{model=echo,state={state},version=1}}");
        assert_eq!(figures.get(&time), told, "{state}");
    }
}

fn assert_moved(figures: &Figures) {
    for direction in ["write", "read"] {
        let of_way =
            |name: &str| figures.get(&format!("forebay.spill.{name}{{direction={direction}}}"));
        let (bytes, operations) = (of_way("io"), of_way("operations"));
        assert!(operations > 0.0, "{direction}");
        assert!(bytes >= BYTES as f64 && bytes % 4096.0 == 0.0, "{bytes}");
        assert!(bytes <= (REQUESTS * BYTES) as f64, "{bytes}");
        assert!(of_way("operation.time") > 0.0);
        let bucket = |le: &str| {
            figures.get(&format!(
                "forebay.spill.operation.duration.bucket{{direction={direction},le={le}}}"
            ))
        };
        assert_eq!(bucket("+Inf"), operations);
        // No disk answers in a microsecond.
        assert_eq!(bucket("0.000001"), 0.0);
    }
    let errors: Vec<_> = figures.starting("forebay.spill.errors").collect();
    assert_eq!(errors.len(), 7);
    assert!(errors.iter().all(|(_, count)| *count == 0.0), "{errors:?}");
    let dirs: Vec<_> = figures.starting("forebay.spill.dir.in_use").collect();
    assert!(matches!(dirs[..], [(_, 1.0)]), "{dirs:?}");
}

fn assert_idle(figures: &Figures) {
    assert_eq!(figures.get("forebay.host.limit{}"), f64::from(4 << 20));
    assert_eq!(figures.get("forebay.spill.limit{}"), f64::from(64 << 20));
    for key in [
        "forebay.host.usage{}",
        "forebay.host.waiting{}",
        "forebay.model.queue.length{model=echo,version=1}",
        "forebay.model.queue.parked{model=echo,version=1}",
        "forebay.spill.usage{}",
        "forebay.spill.tensors{}",
        "forebay.spill.in_flight{}",
        "forebay.spill.queue.usage{}",
    ] {
        assert_eq!(figures.get(key), 0.0, "{key}");
    }
}

async fn with_disk() -> Traced {
    let repository =
        TestRepository::default().with_model("echo", &echo("echo", "TYPE_FP32", ""), None);
    let disk = repository.scratch().join("disk");
    fs::create_dir(&disk).unwrap();
    let toml = format!("{SETTINGS}[spill]\ndirs = [{disk:?}]\ncapacity = \"64 MiB\"\n");
    Traced::serve(repository, &toml, "10ms").await
}

/// Sends them all at once, and returns for each what its reply says of its time.
async fn send_all(traced: &Traced) -> HashMap<String, BTreeMap<String, u64>> {
    send(traced, REQUESTS).await
}

async fn send(traced: &Traced, requests: usize) -> HashMap<String, BTreeMap<String, u64>> {
    let requests: Vec<_> = (0..requests).map(request).collect();
    let call = tonic::Request::new(tokio_stream::iter(requests));
    let replies = traced.service().await.model_stream_infer(call).await;
    let mut replies = replies.unwrap().into_inner();
    let mut told = HashMap::new();
    while let Some(reply) = within(replies.message()).await.unwrap() {
        assert_eq!(reply.error_message, "");
        let reply = reply.infer_response.unwrap();
        told.insert(reply.id.clone(), timings(&reply));
    }
    told
}

fn request(number: usize) -> ModelInferRequest {
    let values = vec![1.0f32; BYTES / size_of::<f32>()];
    let shape = [i64::try_from(values.len()).unwrap()];
    let request = InferRequest {
        model_name: "echo".to_owned(),
        id: number.to_string(),
        parameters: Parameters::from([("forebay_timings".to_owned(), Parameter::Bool(true))]),
        inputs: vec![tensor::from_slice("x", &values, shape).unwrap()],
        ..InferRequest::default()
    };
    request.into()
}

fn timings(reply: &ModelInferResponse) -> BTreeMap<String, u64> {
    let timing = |(name, parameter): (&String, &forebay_proto::inference::InferParameter)| {
        let Some(ParameterChoice::Int64Param(nanos)) = parameter.parameter_choice else {
            panic!("{name} is no number");
        };
        (name.clone(), u64::try_from(nanos).unwrap())
    };
    let told = reply.parameters.iter();
    let own = told.filter(|(name, _)| name.starts_with("forebay_"));
    own.map(timing).collect()
}

fn infer<'a>(spans: &'a [Span], id: &str) -> &'a Span {
    let is_its = |span: &&Span| {
        let mut attributes = span.attributes.iter();
        span.name == "infer"
            && attributes.any(|attribute| {
                let value = attribute
                    .value
                    .as_ref()
                    .and_then(|value| value.value.as_ref());
                attribute.key == "id" && value == Some(&Value::StringValue(id.to_owned()))
            })
    };
    spans.iter().find(is_its).unwrap()
}

fn child<'a>(spans: &'a [Span], parent: &Span, name: &str) -> Option<&'a Span> {
    let mut named = spans.iter().filter(|span| span.name == name);
    named.find(|span| span.parent_span_id == parent.span_id)
}

fn nanos(span: &Span) -> u64 {
    span.end_time_unix_nano - span.start_time_unix_nano
}

/// Returns how long a request was in that state the times before.
fn earlier(span: &Span) -> u64 {
    let mut attributes = span.attributes.iter();
    let found = attributes.find(|attribute| attribute.key == "earlier_ns");
    let value = found.and_then(|found| found.value.as_ref()?.value.as_ref());
    value.map_or(0, |value| match value {
        Value::IntValue(nanos) => u64::try_from(*nanos).unwrap(),
        other => panic!("{other:?} is no number"),
    })
}
