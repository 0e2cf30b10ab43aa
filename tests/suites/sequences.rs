//! Models that keep state: a sequence has an instance to itself, from its start to its end.
//!
//! The counters add the number of calls so far to `x`, and return the sum of all `x` as well, so
//! that every answer shows the whole state.

use forebay_client::{Client, InferError, Parameter, Reply, Request, tensor};
use forebay_tests::{
    harness::{Builder, TestRepository, TestServer},
    models::Fixture,
};

mod slots;
mod state;

const COUNTER: &str = "counter";

/// Where a request stands in its sequence.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    Middle,
    End,
}

/// A request with the one element `x`.
fn step(model: &str, sequence: u64, x: f32, place: Place) -> Request {
    input(model, x).with_sequence(sequence, place == Place::Start, place == Place::End)
}

/// As [`step`], for a sequence that is named by a text.
fn named_step(model: &str, sequence: &str, x: f32, place: Place) -> Request {
    input(model, x)
        .with_parameter("sequence_id", Parameter::String(sequence.to_owned()))
        .with_parameter("sequence_start", Parameter::Bool(place == Place::Start))
        .with_parameter("sequence_end", Parameter::Bool(place == Place::End))
}

fn input(model: &str, x: f32) -> Request {
    Request::new(model).with_input(tensor::from_slice("x", &[x], [1]).unwrap())
}

/// Returns the calls so far and the sum of all `x`, as the reply to `x` shows them.
fn state(reply: &Reply, x: f32) -> (f32, f32) {
    let value = |name| tensor::to_vec::<f32>(reply.output(name).unwrap()).unwrap()[0];
    (value("OUTPUT__0") - x, value("OUTPUT__1"))
}

/// Sends one request and returns the state after it.
async fn infer(
    client: &Client,
    sequence: u64,
    x: f32,
    place: Place,
) -> Result<(f32, f32), InferError> {
    let reply = client.infer(step(COUNTER, sequence, x, place)).await?;
    Ok(state(&reply, x))
}

/// Serves the counter with one instance, so that its sequences must share it.
fn one_instance(max_idle_microseconds: u64) -> Builder {
    let made = TestRepository::default().with_fixtures(&[Fixture::Counter]);
    let module = std::fs::read(made.path().join("counter/1/model.pt")).unwrap();
    let config = format!(
        r#"
        name: "{COUNTER}"
        platform: "pytorch_libtorch"
        input [ {{ name: "x" data_type: TYPE_FP32 dims: [ -1 ] }} ]
        output [
          {{ name: "OUTPUT__0" data_type: TYPE_FP32 dims: [ -1 ] }},
          {{ name: "OUTPUT__1" data_type: TYPE_FP32 dims: [ 1 ] }}
        ]
        sequence_batching {{
          direct {{ }} max_sequence_idle_microseconds: {max_idle_microseconds}
        }}
        "#
    );
    TestServer::builder().with_model(COUNTER, &config, Some(&module))
}
