//! `freeze`: what the choice of a form at load gains, on the CPU with one thread. The saved and the
//! chosen form run in turn, and the medians of their passes are compared.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use forebay_proto::{DataType, Shape};
use forebay_server::{
    device::Location,
    memory::Pool,
    model::{Instance, Model as _, TorchScript, TorchSettings},
    signature::{Signature, TensorSpec},
    tensor::{HostData, HostTensor, Placed},
};
use forebay_tests::{
    figures::Report,
    models::{self, Fixture},
};

/// For each model and batch size.
const BUDGET: Duration = Duration::from_secs(12);
const FEWEST: usize = 15;
const MOST: usize = 5000;

struct Case {
    fixture: Fixture,
    dims: &'static [i64],
    outputs: i64,
    batches: [i64; 2],
}

const CASES: [Case; 2] = [
    Case {
        fixture: Fixture::ResNet18,
        dims: &[3, 224, 224],
        outputs: 1000,
        batches: [1, 8],
    },
    Case {
        fixture: Fixture::Mlp,
        dims: &[784],
        outputs: 10,
        batches: [1, 32],
    },
];

#[expect(clippy::print_stdout, reason = "a benchmark tells what it measures")]
fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("make a folder for the models")?;
    models::write(folder.path(), &CASES.map(|case| case.fixture))?;
    let mut report = Report::default();
    for case in CASES {
        let file = folder.path().join(case.fixture.name()).join("1/model.pt");
        let load = |freeze| -> anyhow::Result<(String, Box<dyn Instance>)> {
            let settings = TorchSettings {
                intra_op_threads: 1,
                stateful: false,
                freeze,
            };
            let model = TorchScript::load(&file, signature(&case), settings, Pool::new(1 << 28))?;
            println!("{}: {} ({})", case.fixture, model.form(), model.why());
            Ok((model.form(), model.instance(Location::Host)?))
        };
        let ((_, saved), (form, chosen)) = (load(false)?, load(true)?);
        let mut forms = [saved, chosen];
        for batch in case.batches {
            // The saved form over itself would show nothing but noise.
            let ratio = match form.as_str() {
                "saved" => 1.0,
                _ => compare(&mut forms, case.dims, batch)?,
            };
            let what = format!("{} batch {batch}: saved / chosen", case.fixture);
            report.figure(what, ratio, "x").at_least = Some(1.0);
        }
    }
    report.write()
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
        max_batch_size: 64,
    }
}

/// Returns the median time of the first form over that of the second.
fn compare(forms: &mut [Box<dyn Instance>; 2], dims: &[i64], batch: i64) -> anyhow::Result<f64> {
    let shape = Shape::new([&[batch], dims].concat())?;
    let bytes = shape.byte_size(DataType::Fp32)?.context("size a tensor")?;
    let zeros = vec![0; usize::try_from(bytes)?];
    let pass = |instance: &mut dyn Instance| -> anyhow::Result<Duration> {
        let input = HostTensor {
            datatype: DataType::Fp32,
            shape: shape.clone(),
            data: HostData::Wire(zeros.clone().into()),
        };
        let began = Instant::now();
        instance.forward(vec![Some(Placed::Host(input))])?;
        Ok(began.elapsed())
    };
    let mut times = [Vec::new(), Vec::new()];
    for form in &mut *forms {
        // The first passes of a size make what later ones find.
        for _ in 0..3 {
            pass(&mut **form)?;
        }
    }
    let began = Instant::now();
    while times[0].len() < FEWEST || (times[0].len() < MOST && began.elapsed() < BUDGET) {
        // Each form goes first in every other round.
        let first = times[0].len() % 2;
        for which in [first, 1 - first] {
            times[which].push(pass(&mut *forms[which])?);
        }
    }
    let [saved, chosen] = times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64()
    });
    Ok(saved / chosen)
}
