//! The fixture models, by name.

use std::{fmt, str::FromStr};

/// A model that the tests and the demonstration serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fixture {
    /// ResNet-18 with random weights: FP32 `[B, 3, 224, 224]` to `[B, 1000]`, batched dynamically.
    ResNet18,
    /// A perceptron 784-512-10 with random weights, batched dynamically.
    Mlp,
    /// A transformer encoder with random weights, batched dynamically: INT64 tokens `[B, 128]` to
    /// FP32 `[B, 256]`.
    Encoder,
    /// FP32 `[B, N]`, returned as it is: the output shares the input's memory.
    IdentityFp32,
    /// Two INT32 `[B, 16]` to their sum and their difference.
    Simple,
    /// Raises, with a text of about 10 000 characters, where the first element is negative.
    Thrower,
    /// `forward(x: Tensor, times: int, by: float, negate: bool)` is `±x * by^times`.
    Scaled,
    /// Keeps a sequence's count of calls, which it adds to `x`, and the sum of all `x`. Has
    /// `reset_states`.
    Counter,
    /// As [`Counter`](Self::Counter), without `reset_states`.
    CounterPlain,
    /// BYTES `[N]` to the same in upper case.
    Strings,
    /// Returns one row fewer than the batch has.
    WrongOutput,
    /// INT32 `[B, N]` to INT64 `[B, 1]`: the sum of the elements, each times its place from 1; batched
    /// dynamically.
    Digest,
}

/// A name that no fixture has.
#[derive(Debug)]
pub struct UnknownFixture(String);

impl Fixture {
    /// Every fixture.
    pub const ALL: [Self; 12] = [
        Self::ResNet18,
        Self::Mlp,
        Self::Encoder,
        Self::IdentityFp32,
        Self::Simple,
        Self::Thrower,
        Self::Scaled,
        Self::Counter,
        Self::CounterPlain,
        Self::Strings,
        Self::WrongOutput,
        Self::Digest,
    ];

    /// Returns the model's name, which is also its directory's.
    pub fn name(self) -> &'static str {
        match self {
            Self::ResNet18 => "resnet18",
            Self::Mlp => "mlp",
            Self::Encoder => "encoder",
            Self::IdentityFp32 => "identity_fp32",
            Self::Simple => "simple",
            Self::Thrower => "thrower",
            Self::Scaled => "scaled",
            Self::Counter => "counter",
            Self::CounterPlain => "counter_plain",
            Self::Strings => "strings",
            Self::WrongOutput => "wrong_output",
            Self::Digest => "digest",
        }
    }

    /// Returns the text of the model's `config.pbtxt`.
    pub fn config(self) -> &'static str {
        match self {
            Self::ResNet18 => include_str!("repository/resnet18/config.pbtxt"),
            Self::Mlp => include_str!("repository/mlp/config.pbtxt"),
            Self::Encoder => include_str!("repository/encoder/config.pbtxt"),
            Self::IdentityFp32 => include_str!("repository/identity_fp32/config.pbtxt"),
            Self::Simple => include_str!("repository/simple/config.pbtxt"),
            Self::Thrower => include_str!("repository/thrower/config.pbtxt"),
            Self::Scaled => include_str!("repository/scaled/config.pbtxt"),
            Self::Counter => include_str!("repository/counter/config.pbtxt"),
            Self::CounterPlain => include_str!("repository/counter_plain/config.pbtxt"),
            Self::Strings => include_str!("repository/strings/config.pbtxt"),
            Self::WrongOutput => include_str!("repository/wrong_output/config.pbtxt"),
            Self::Digest => include_str!("repository/digest/config.pbtxt"),
        }
    }
}

impl fmt::Display for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Fixture {
    type Err = UnknownFixture;

    fn from_str(name: &str) -> Result<Self, UnknownFixture> {
        Self::ALL
            .into_iter()
            .find(|fixture| fixture.name() == name)
            .ok_or_else(|| UnknownFixture(name.to_owned()))
    }
}

impl fmt::Display for UnknownFixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Fixture::ALL.map(Fixture::name).join(", ");
        write!(f, "no fixture is called `{}`: there are {names}", self.0)
    }
}

impl std::error::Error for UnknownFixture {}
