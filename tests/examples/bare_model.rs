//! `bare_model FILE --dims 784 --outputs 10 --batches 1,8 ...`: passes of a model one after the other,
//! on one thread and without a server: the rate that no server can exceed.
//!
//! The model runs as it was saved and in the form that the server would choose for it, both at each
//! batch size in turn. Writes one line of JSON.

use std::{
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Parser;
use forebay_proto::{DataType, Shape};
use forebay_server::{
    device::Location,
    memory::Pool,
    model::{Instance, Model as _, TorchScript, TorchSettings},
    signature::{Signature, TensorSpec},
    tensor::{HostData, HostTensor, Placed},
};
use serde::Serialize;

/// Of the memory that passes take their inputs and outputs from.
const POOL_BYTES: usize = 1 << 28;

#[derive(Debug, Parser)]
struct Args {
    /// The TorchScript file.
    file: PathBuf,
    /// Dimensions of the input, without the batch.
    #[arg(long, value_delimiter = ',')]
    dims: Vec<i64>,
    /// Whether the input holds INT64 instead of FP32.
    #[arg(long)]
    int64: bool,
    /// Elements of a row of the output.
    #[arg(long)]
    outputs: i64,
    /// Rows of a pass.
    #[arg(long, value_delimiter = ',')]
    batches: Vec<i64>,
    /// How long each form runs at each batch size.
    #[arg(long)]
    seconds: f64,
}

/// What one form did at one batch size.
#[derive(Debug, Serialize)]
struct Rate {
    form: String,
    frozen: bool,
    batch: i64,
    rows_per_s: f64,
}

impl Args {
    fn datatype(&self) -> DataType {
        if self.int64 {
            DataType::Int64
        } else {
            DataType::Fp32
        }
    }

    fn signature(&self) -> anyhow::Result<Signature> {
        let spec = |name: &str, datatype, dims: &[i64]| TensorSpec {
            name: name.to_owned(),
            datatype,
            dims: dims.to_vec(),
            reshape: None,
            optional: false,
        };
        let largest = self.batches.iter().max().context("name batch sizes")?;
        Ok(Signature {
            inputs: vec![spec("INPUT__0", self.datatype(), &self.dims)],
            outputs: vec![spec("OUTPUT__0", DataType::Fp32, &[self.outputs])],
            max_batch_size: usize::try_from(*largest)?,
        })
    }

    /// Returns the rows per second of passes over `batch` rows.
    fn rate(&self, instance: &mut dyn Instance, batch: i64) -> anyhow::Result<f64> {
        let shape = Shape::new([&[batch], &self.dims[..]].concat())?;
        let bytes = shape.byte_size(self.datatype())?.context("size a tensor")?;
        let zeros = bytes::Bytes::from(vec![0; usize::try_from(bytes)?]);
        let mut pass = || {
            let input = HostTensor {
                datatype: self.datatype(),
                shape: shape.clone(),
                data: HostData::Wire(zeros.clone()),
            };
            instance.forward(vec![Some(Placed::Host(input))])
        };
        // The first passes of a size make what later ones find.
        for _ in 0..2 {
            pass()?;
        }
        let length = Duration::from_secs_f64(self.seconds);
        let (began, mut rows) = (Instant::now(), 0.0);
        while began.elapsed() < length {
            pass()?;
            rows += batch as f64;
        }
        Ok(rows / began.elapsed().as_secs_f64())
    }
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut rates = Vec::new();
    for frozen in [false, true] {
        let settings = TorchSettings {
            intra_op_threads: 1,
            stateful: false,
            freeze: frozen,
        };
        let pool = Pool::new(POOL_BYTES);
        let model = TorchScript::load(&args.file, args.signature()?, settings, pool)?;
        let mut instance = model.instance(Location::Host)?;
        for &batch in &args.batches {
            rates.push(Rate {
                form: model.form(),
                frozen,
                batch,
                rows_per_s: args.rate(&mut *instance, batch)?,
            });
        }
    }
    serde_json::to_writer(io::stdout(), &rates).context("write the rates")
}
