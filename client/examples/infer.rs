//! Asks a model for one inference, with inputs of zeros, and prints what it answers.
//!
//! `cargo run -p forebay-client --example infer -- --model resnet18`

use std::io::{self, Write as _};

use anyhow::Context as _;
use clap::Parser;
use forebay_client::{Client, DataType, Request, Shape, Tensor, tensor};

#[derive(Parser)]
struct Flags {
    /// Where the server listens.
    #[arg(long, default_value = "http://127.0.0.1:8001")]
    endpoint: String,
    /// The model to ask.
    #[arg(long)]
    model: String,
    /// Stands for each dimension that the model leaves open.
    #[arg(long, default_value_t = 1)]
    open_dimension: i64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    let mut out = io::stdout();
    let client = Client::connect(&flags.endpoint).await?;
    let model = client.model_metadata(&flags.model).await?;
    let mut request = Request::new(&model.name).with_server_timings();
    for input in model.inputs {
        let dims = input
            .shape
            .iter()
            .map(|&dim| if dim < 0 { flags.open_dimension } else { dim });
        let shape = Shape::new(dims.collect())?;
        // An empty byte string is zeros too: the four bytes of its length.
        let bytes = shape
            .byte_size(input.datatype)?
            .unwrap_or(4 * shape.elements());
        let zeros = vec![0; usize::try_from(bytes).context("size the input")?];
        request = request.with_input(Tensor::new(input.name, input.datatype, shape, zeros)?);
    }

    let reply = client.infer(request).await?;
    for output in reply.outputs() {
        let (name, datatype, shape) = (output.name(), output.datatype(), output.shape());
        write!(out, "{name} {datatype} {shape}:")?;
        if output.datatype() == DataType::Fp32 {
            let values = tensor::to_vec::<f32>(output)?;
            write!(out, " {:?}", &values[..values.len().min(8)])?;
        }
        writeln!(out)?;
    }
    let (timings, server) = (reply.timings(), reply.server_timings());
    writeln!(out, "{:?}, of it {server:?}", timings.done - timings.sent)?;
    Ok(())
}
