//! ResNet-18 with random weights: the shapes, the work and the memory of the real one.
//!
//! Invariant: `forward` works at every batch size, so that a trace of it does.

use tch::{Device, Kind, TchError, Tensor};

const F32: (Kind, Device) = (Kind::Float, Device::Cpu);
/// Channels of the four groups of blocks. Each but the first halves height and width.
const WIDTHS: [i64; 4] = [64, 128, 256, 512];
const CLASSES: i64 = 1000;

/// The weights of the network.
#[derive(Debug)]
pub(super) struct ResNet18 {
    stem: Conv,
    blocks: Vec<Block>,
    classes: Tensor,
    bias: Tensor,
}

/// Two convolutions and the way around them.
#[derive(Debug)]
struct Block {
    first: Conv,
    second: Conv,
    shortcut: Option<Conv>,
}

/// A convolution without bias, and the batch normalization after it.
#[derive(Debug)]
struct Conv {
    weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    mean: Tensor,
    variance: Tensor,
    stride: i64,
}

impl ResNet18 {
    /// Draws the weights from libtorch's generator.
    pub(super) fn random() -> Result<Self, TchError> {
        let mut blocks = Vec::new();
        let mut from = WIDTHS[0];
        for to in WIDTHS {
            let stride = if from == to { 1 } else { 2 };
            blocks.push(Block::random(from, to, stride)?);
            blocks.push(Block::random(to, to, 1)?);
            from = to;
        }
        Ok(Self {
            stem: Conv::random(3, WIDTHS[0], 7, 2)?,
            blocks,
            classes: Tensor::f_randn([CLASSES, from], F32)?.f_mul_scalar(0.05)?,
            bias: Tensor::f_zeros([CLASSES], F32)?,
        })
    }

    /// Maps images `[B, 3, 224, 224]` to scores `[B, 1000]`.
    pub(super) fn forward(&self, images: &Tensor) -> Result<Tensor, TchError> {
        let mut x = self.stem.forward(images)?.f_relu()?.f_max_pool2d(
            [3, 3],
            [2, 2],
            [1, 1],
            [1, 1],
            false,
        )?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        // A view with the batch size spelled out would bake that size into the trace.
        x.f_adaptive_avg_pool2d([1, 1])?
            .f_flatten(1, -1)?
            .f_linear(&self.classes, Some(&self.bias))
    }
}

impl Block {
    fn random(from: i64, to: i64, stride: i64) -> Result<Self, TchError> {
        Ok(Self {
            first: Conv::random(from, to, 3, stride)?,
            second: Conv::random(to, to, 3, 1)?,
            shortcut: if stride == 1 {
                None
            } else {
                Some(Conv::random(from, to, 1, stride)?)
            },
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let through = self.first.forward(x)?.f_relu()?;
        let through = self.second.forward(&through)?;
        let sum = match &self.shortcut {
            Some(shortcut) => through.f_add(&shortcut.forward(x)?)?,
            None => through.f_add(x)?,
        };
        sum.f_relu()
    }
}

impl Conv {
    fn random(from: i64, to: i64, size: i64, stride: i64) -> Result<Self, TchError> {
        let inputs = f64::from(i32::try_from(from * size * size).expect("a few thousand at most"));
        Ok(Self {
            // Scaled so that the sizes of activations neither vanish nor explode with depth.
            weight: Tensor::f_randn([to, from, size, size], F32)?
                .f_mul_scalar((2.0 / inputs).sqrt())?,
            scale: Tensor::f_full([to], 0.7, F32)?,
            shift: Tensor::f_randn([to], F32)?.f_mul_scalar(0.1)?,
            mean: Tensor::f_randn([to], F32)?.f_mul_scalar(0.1)?,
            variance: Tensor::f_ones([to], F32)?,
            stride,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let padding = self.weight.size()[2] / 2;
        let (stride, padding) = ([self.stride; 2], [padding; 2]);
        x.f_conv2d(&self.weight, None::<&Tensor>, stride, padding, [1, 1], 1)?
            .f_batch_norm(
                Some(&self.scale),
                Some(&self.shift),
                Some(&self.mean),
                Some(&self.variance),
                false,
                0.1,
                1e-5,
                true,
            )
    }
}
