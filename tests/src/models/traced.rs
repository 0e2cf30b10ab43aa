//! Models made by tracing, with weights from a fixed seed.
//!
//! Invariant: weights exist before the trace begins. What is computed during it becomes part of
//! the model; what existed before becomes a constant.

use std::path::Path;

use anyhow::{Context as _, Result};
use tch::{CModule, Device, Kind, TchError, Tensor};

use super::{
    encoder::{self, Encoder},
    resnet::ResNet18,
};

const SEED: i64 = 20_260_101;
const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

/// Saves a [`ResNet18`] at `path`.
pub(super) fn resnet18(path: &Path) -> Result<()> {
    tch::manual_seed(SEED);
    let net = ResNet18::random().context("draw the weights of ResNet-18")?;
    trace(path, "ResNet18", &zeros(&[2, 3, 224, 224])?, |x| {
        net.forward(x)
    })
}

/// Saves an [`Encoder`] at `path`.
pub(super) fn encoder(path: &Path) -> Result<()> {
    tch::manual_seed(SEED);
    let net = Encoder::random().context("draw the weights of the encoder")?;
    let tokens = Tensor::f_zeros([2, encoder::TOKENS], (Kind::Int64, Device::Cpu))?;
    trace(path, "Encoder", &tokens, |x| net.forward(x))
}

/// Saves a perceptron 784-512-10 with one hidden layer at `path`.
pub(super) fn mlp(path: &Path) -> Result<()> {
    tch::manual_seed(SEED);
    let hidden = Tensor::f_randn([512, 784], F32)?.f_mul_scalar(0.05)?;
    let scores = Tensor::f_randn([10, 512], F32)?.f_mul_scalar(0.05)?;
    let biases = [
        Tensor::f_randn([512], F32)?.f_mul_scalar(0.1)?,
        Tensor::f_randn([10], F32)?.f_mul_scalar(0.1)?,
    ];
    trace(path, "Mlp", &zeros(&[2, 784])?, |x| {
        x.f_linear(&hidden, Some(&biases[0]))?
            .f_relu()?
            .f_linear(&scores, Some(&biases[1]))
    })
}

/// Saves a model that returns its input at `path`: not a copy, but the same memory.
pub(super) fn identity(path: &Path) -> Result<()> {
    trace(
        path,
        "Identity",
        &zeros(&[2, 2])?,
        |x| Ok(x.shallow_clone()),
    )
}

fn zeros(shape: &[i64]) -> Result<Tensor, TchError> {
    Tensor::f_zeros(shape, F32)
}

fn trace<F>(path: &Path, name: &str, example: &Tensor, forward: F) -> Result<()>
where
    F: Fn(&Tensor) -> Result<Tensor, TchError>,
{
    // The closure must return, else the thread stays in tracing mode: its failure is kept aside.
    let mut failure = None;
    let module =
        CModule::create_by_tracing(name, "forward", &[example.shallow_clone()], &mut |inputs| {
            match inputs.iter().map(&forward).collect() {
                Ok(outputs) => outputs,
                Err(error) => {
                    failure = Some(error);
                    Vec::new()
                }
            }
        });
    if let Some(failure) = failure {
        return Err(failure).with_context(|| format!("trace {name}"));
    }
    module
        .and_then(|module| module.save(path))
        .with_context(|| format!("save {name} at {}", path.display()))
}
