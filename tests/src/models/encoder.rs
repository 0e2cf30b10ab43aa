//! A transformer encoder with random weights: four layers, 256 wide, in four heads.
//!
//! Invariant: `forward` works at every batch size, so that a trace of it does.

use tch::{Device, Kind, TchError, Tensor};

const F32: (Kind, Device) = (Kind::Float, Device::Cpu);
const LAYERS: usize = 4;
const WIDTH: i64 = 256;
const HEADS: i64 = 4;
const HIDDEN: i64 = 4 * WIDTH;
/// Different tokens. Few, so that the table of them does not outweigh the rest.
const VOCABULARY: i64 = 4096;
/// Tokens of a text.
pub(super) const TOKENS: i64 = 128;

/// The weights of the encoder.
#[derive(Debug)]
pub(super) struct Encoder {
    tokens: Tensor,
    places: Tensor,
    layers: Vec<Layer>,
}

/// Attention, and the perceptron after it.
#[derive(Debug)]
struct Layer {
    attended: Norm,
    /// Queries, keys and values in one.
    projection: Linear,
    joined: Linear,
    perceived: Norm,
    up: Linear,
    down: Linear,
}

#[derive(Debug)]
struct Linear {
    weight: Tensor,
    bias: Tensor,
}

#[derive(Debug)]
struct Norm {
    scale: Tensor,
    shift: Tensor,
}

impl Encoder {
    /// Draws the weights from libtorch's generator.
    pub(super) fn random() -> Result<Self, TchError> {
        let layers = (0..LAYERS).map(|_| Layer::random());
        Ok(Self {
            tokens: Tensor::f_randn([VOCABULARY, WIDTH], F32)?,
            places: Tensor::f_randn([TOKENS, WIDTH], F32)?,
            layers: layers.collect::<Result<_, _>>()?,
        })
    }

    /// Maps tokens `[B, 128]` to the mean of what the last layer makes of them, `[B, 256]`.
    pub(super) fn forward(&self, tokens: &Tensor) -> Result<Tensor, TchError> {
        let mut x = Tensor::f_embedding(&self.tokens, tokens, -1, false, false)?;
        x = x.f_add(&self.places)?;
        for layer in &self.layers {
            x = layer.forward(&x)?;
        }
        x.f_mean_dim([1].as_slice(), false, None)
    }
}

impl Layer {
    fn random() -> Result<Self, TchError> {
        Ok(Self {
            attended: Norm::random()?,
            projection: Linear::random(WIDTH, 3 * WIDTH)?,
            joined: Linear::random(WIDTH, WIDTH)?,
            perceived: Norm::random()?,
            up: Linear::random(WIDTH, HIDDEN)?,
            down: Linear::random(HIDDEN, WIDTH)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let x = x.f_add(&self.attend(&self.attended.forward(x)?)?)?;
        let hidden = self.up.forward(&self.perceived.forward(&x)?)?;
        x.f_add(&self.down.forward(&hidden.f_gelu("none")?)?)
    }

    fn attend(&self, x: &Tensor) -> Result<Tensor, TchError> {
        // The batch size is left open, since a trace would bake it in: [3, B, heads, tokens, width].
        let parts = self
            .projection
            .forward(x)?
            .f_reshape([-1, TOKENS, 3, HEADS, WIDTH / HEADS])?
            .f_permute([2, 0, 3, 1, 4])?;
        let [queries, keys, values] = [
            parts.f_select(0, 0)?,
            parts.f_select(0, 1)?,
            parts.f_select(0, 2)?,
        ];
        Tensor::f_scaled_dot_product_attention(
            &queries,
            &keys,
            &values,
            None::<&Tensor>,
            0.0,
            false,
            None,
            false,
        )
        .and_then(|heads| heads.f_transpose(1, 2)?.f_reshape([-1, TOKENS, WIDTH]))
        .and_then(|heads| self.joined.forward(&heads))
    }
}

impl Linear {
    fn random(from: i64, to: i64) -> Result<Self, TchError> {
        let inputs = f64::from(i32::try_from(from).expect("a thousand at most"));
        Ok(Self {
            weight: Tensor::f_randn([to, from], F32)?.f_mul_scalar(inputs.sqrt().recip())?,
            bias: Tensor::f_randn([to], F32)?.f_mul_scalar(0.1)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_linear(&self.weight, Some(&self.bias))
    }
}

impl Norm {
    fn random() -> Result<Self, TchError> {
        Ok(Self {
            scale: Tensor::f_ones([WIDTH], F32)?,
            shift: Tensor::f_randn([WIDTH], F32)?.f_mul_scalar(0.1)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_layer_norm([WIDTH], Some(&self.scale), Some(&self.shift), 1e-5, true)
    }
}
