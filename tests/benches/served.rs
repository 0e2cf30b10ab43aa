//! `served`: what the server leaves of a model's speed. ResNet-18 and the MLP are run through the
//! server, over real gRPC on the loopback with the SDK, and in a bare loop over the same form of the
//! same module; both on one thread, in turn, and the medians of their rates are compared.
//!
//! Client and server share the machine: one thread of passes leaves the other cores to gRPC.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use forebay_client::{Request, Session, StreamOptions, tensor};
use forebay_proto::{DataType, Shape, Tensor};
use forebay_server::{
    device::Location,
    memory::Pool,
    model::{Error, Instance, Model as _, TorchScript, TorchSettings},
    signature::{Signature, TensorSpec},
    tensor::{HostData, HostTensor, Placed},
};
use forebay_tests::{figures::Report, harness::TestServer, models::Fixture};

/// As the row is worded.
const LEAST: f64 = 0.95;
const ROUNDS: usize = 7;
/// Of the bare model, at most, until it has the server's form.
const LOADS: usize = 10;
/// Of each side in each round.
const SLICE: Duration = Duration::from_millis(1500);

struct Case {
    fixture: Fixture,
    dims: &'static [i64],
    outputs: i64,
    /// Rows of a request.
    rows: i64,
    /// Most rows of a batch, which is what the bare loop runs.
    batch: i64,
    in_flight: usize,
}

const RESNET: Case = Case {
    fixture: Fixture::ResNet18,
    dims: &[3, 224, 224],
    outputs: 1000,
    rows: 1,
    batch: 1,
    in_flight: 4,
};

const MLP: Case = Case {
    fixture: Fixture::Mlp,
    dims: &[784],
    outputs: 10,
    rows: 64,
    batch: 64,
    in_flight: 16,
};

const CASES: [Case; 5] = [
    RESNET,
    Case {
        batch: 4,
        in_flight: 12,
        ..RESNET
    },
    MLP,
    Case {
        rows: 32,
        in_flight: 32,
        ..MLP
    },
    // One wake-up for four times as many rows.
    Case {
        rows: 256,
        batch: 256,
        in_flight: 8,
        ..MLP
    },
];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut report = Report::default();
    for case in CASES {
        let what = format!(
            "{}: requests of {} in batches of {}",
            case.fixture, case.rows, case.batch
        );
        let (served, bare, ratio) = compare(&case).await.with_context(|| what.clone())?;
        report.figure(format!("{what}: bare"), bare, "rows/s");
        report.figure(format!("{what}: served"), served, "rows/s");
        let what = format!("{what}: served / bare");
        report.figure(what, ratio, "x").at_least = Some(LEAST);
    }
    report.write()
}

/// Returns the median rates of the server and of the bare loop, and the median of their ratios.
async fn compare(case: &Case) -> anyhow::Result<(f64, f64, f64)> {
    let name = case.fixture.name();
    let folder = tempfile::tempdir()?;
    forebay_tests::models::write(folder.path(), &[case.fixture])?;
    let file = folder.path().join(name).join("1/model.pt");
    let server = TestServer::builder()
        .with_model(name, &config(case), Some(&std::fs::read(&file)?))
        .with_config(|config| config.registry.warmup_timeout = Duration::from_secs(3))
        .start()
        .await;
    let settings = TorchSettings {
        intra_op_threads: 1,
        stateful: false,
        freeze: true,
    };
    let told = &server.model(name).settings.config.parameters;
    let form = &told
        .get("FOREBAY_FORM")
        .context("the form is told")?
        .string_value;
    let model = in_form(form, || {
        TorchScript::load(&file, signature(case), settings, Pool::new(1 << 28))
    })?;
    let client = server.client().await;
    let options = StreamOptions::default().with_requests_in_flight(case.in_flight);
    let session = client.stream(options).await?;

    let mut rates: [Vec<f64>; 3] = Default::default();
    for round in 0..=ROUNDS {
        let served = served(case, &session).await?;
        let mut instance = model.instance(Location::Host)?;
        let (shape, bytes) = input(case, case.batch)?;
        // On a thread of its own, as the server's passes are.
        let bare = thread::spawn(move || bare(&mut *instance, &shape, &bytes));
        let bare = tokio::task::spawn_blocking(move || bare.join()).await?;
        let bare = bare.map_err(|_| anyhow::anyhow!("the bare loop panicked"))??;
        // The first round warms both up.
        if round > 0 {
            for (rates, rate) in rates.iter_mut().zip([served, bare, served / bare]) {
                rates.push(rate);
            }
        }
    }
    session.close().await?;
    server.stop().await;
    let [served, bare, ratio] = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    });
    Ok((served, bare, ratio))
}

/// Loads a model until it is found to be fastest in `form`: times decide, which vary.
fn in_form(
    form: &str,
    load: impl Fn() -> Result<TorchScript, Error>,
) -> anyhow::Result<TorchScript> {
    for _ in 0..LOADS {
        let model = load()?;
        if model.form() == form {
            return Ok(model);
        }
    }
    bail!("the server runs the form {form}, which none of {LOADS} loads chose: run it again");
}

fn config(case: &Case) -> String {
    let (name, dims, outputs, batch) = (case.fixture, case.dims, case.outputs, case.batch);
    let joins = if case.batch > case.rows {
        "dynamic_batching { max_queue_delay_microseconds: 2000 }"
    } else {
        ""
    };
    format!(
        "name: '{name}' platform: 'pytorch_libtorch' max_batch_size: {batch} {joins} \
         input [ {{ name: 'INPUT__0' data_type: TYPE_FP32 dims: {dims:?} }} ] \
         output [ {{ name: 'OUTPUT__0' data_type: TYPE_FP32 dims: [ {outputs} ] }} ]"
    )
}

fn signature(case: &Case) -> Signature {
    let spec = |name: &str, dims: &[i64]| TensorSpec {
        name: name.to_owned(),
        datatype: DataType::Fp32,
        dims: dims.to_vec(),
        reshape: None,
        optional: false,
    };
    Signature {
        inputs: vec![spec("INPUT__0", case.dims)],
        outputs: vec![spec("OUTPUT__0", &[case.outputs])],
        max_batch_size: usize::try_from(case.batch).unwrap_or(1),
    }
}

/// Returns the shape and the bytes of `rows` rows.
fn input(case: &Case, rows: i64) -> anyhow::Result<(Shape, Vec<u8>)> {
    let shape = Shape::new([&[rows], case.dims].concat())?;
    let elements = usize::try_from(shape.elements())?;
    let bytes = (0..elements).flat_map(|index| (index as f32 % 17.0 / 16.0).to_le_bytes());
    Ok((shape.clone(), bytes.collect()))
}

/// Returns the rows per second of the server with its requests in flight.
async fn served(case: &Case, session: &Session) -> anyhow::Result<f64> {
    let (shape, bytes) = input(case, case.rows)?;
    let tensor = Tensor::new("INPUT__0", DataType::Fp32, shape, bytes)?;
    let request = Request::new(case.fixture.name()).with_input(tensor);
    let mut tickets = std::collections::VecDeque::new();
    let (mut began, mut rows) = (Instant::now(), -1.0);
    while rows < 0.0 || began.elapsed() < SLICE {
        if tickets.len() < case.in_flight {
            tickets.push_back(session.submit(request.clone()).await?);
            continue;
        }
        let ticket = tickets.pop_front().context("requests are in flight")?;
        let reply = ticket.await?;
        if rows < 0.0 {
            // The pipeline is full from here on.
            (began, rows) = (Instant::now(), 0.0);
            continue;
        }
        let output = reply.output("OUTPUT__0").context("it has an output")?;
        rows += tensor::to_vec::<f32>(output)?.len() as f64 / case.outputs as f64;
    }
    let took = began.elapsed();
    for ticket in tickets {
        ticket.await?;
    }
    Ok(rows / took.as_secs_f64())
}

/// Returns the rows per second of passes one after the other.
fn bare(instance: &mut dyn Instance, shape: &Shape, bytes: &[u8]) -> anyhow::Result<f64> {
    // Any request's bytes come in memory of their own: here one copy serves all passes.
    let bytes = bytes::Bytes::copy_from_slice(bytes);
    let (began, mut passes) = (Instant::now(), 0.0);
    while began.elapsed() < SLICE {
        let input = HostTensor {
            datatype: DataType::Fp32,
            shape: shape.clone(),
            data: HostData::Wire(bytes.clone()),
        };
        instance.forward(vec![Some(Placed::Host(input))])?;
        passes += 1.0;
    }
    let rows = shape.dims().first().copied().unwrap_or(1) as f64;
    Ok(passes * rows / began.elapsed().as_secs_f64())
}
