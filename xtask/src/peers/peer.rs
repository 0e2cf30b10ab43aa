//! Whom Forebay is held against, and where each can be run.
//!
//! Two of them are limits rather than peers: what the wire costs, and what the model costs.

use anyhow::Result;
use clap::ValueEnum;

use super::{
    Setup,
    cell::{Cell, Mode, Model},
    contestant::Recipe,
    echo, grpc_aio, mlserver,
    python_peer::PythonPeers,
    triton,
};
use crate::process::Interrupt;

/// Whom Forebay is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Peer {
    /// A bare echo over tonic: what the wire costs.
    Echo,
    /// A bare loop over the model: what the model costs.
    Libtorch,
    /// Triton 2.51 with its Python backend.
    Triton,
    /// grpc.aio and one thread, by hand.
    GrpcAio,
    /// MLServer 1.7.1.
    Mlserver,
}

impl Peer {
    pub(crate) const ALL: [Self; 5] = [
        Self::Echo,
        Self::Libtorch,
        Self::Triton,
        Self::GrpcAio,
        Self::Mlserver,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Libtorch => "libtorch",
            Self::Triton => "triton",
            Self::GrpcAio => "grpc-aio",
            Self::Mlserver => "mlserver",
        }
    }

    /// Returns whether it is a server.
    pub(crate) fn serves(self) -> bool {
        self != Self::Libtorch
    }

    /// Returns whether it can be run in `cell`.
    ///
    /// # Errors
    /// Why it cannot.
    pub(crate) fn applies(self, cell: Cell) -> Result<(), &'static str> {
        let identity = cell.load.model() == Model::Identity;
        match self {
            Self::Echo if !identity => Err("it has no models"),
            Self::Echo if cell.batching => Err("it has no batching"),
            Self::Libtorch if identity => Err("the identity computes nothing"),
            Self::GrpcAio if cell.batching => Err("it has no batching"),
            Self::Mlserver if cell.mode == Mode::Stream => {
                Err("its replies on a stream are of a type that the protocol's clients cannot read")
            }
            Self::Echo | Self::Libtorch | Self::Triton | Self::GrpcAio | Self::Mlserver => Ok(()),
        }
    }

    /// Gets the peer, and returns what starts it, or `None` where it is no server.
    pub(super) fn recipe(self, setup: &Setup<'_>, interrupt: &Interrupt) -> Result<Option<Recipe>> {
        let of_python = match self {
            Self::Echo => return Ok(Some(echo::recipe(setup))),
            Self::Libtorch => return Ok(None),
            Self::Triton => triton::recipe,
            Self::GrpcAio => grpc_aio::recipe,
            Self::Mlserver => mlserver::recipe,
        };
        let python = PythonPeers::prepare(setup, interrupt)?;
        of_python(setup, &python, interrupt).map(Some)
    }
}
