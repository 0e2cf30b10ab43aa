//! The last stage: enqueues the copy of outputs to the host, and waits for it.
//!
//! [`finish`] is the one place where the host waits for the device on behalf of a batch that is
//! wanted.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::compute::Computed;
use crate::{
    device::{self, Device},
    tensor::HostTensor,
};

/// The stage and its stream.
#[derive(Debug)]
pub(super) struct Stage<D: Device> {
    pub(super) device: Arc<D>,
    pub(super) stream: D::Stream,
}

/// Outputs that are on their way to the host.
#[derive(Debug)]
pub(super) struct Downloading<D: Device> {
    outputs: D::Buffer,
    upload: (D::Event, D::Event),
    pass: (D::Event, D::Event),
    download: (D::Event, D::Event),
}

impl<D: Device> Stage<D> {
    /// Runs the stage.
    pub(super) fn run(&self, computed: Computed<D>) -> Result<Downloading<D>, device::Error> {
        let Computed {
            outputs,
            upload,
            pass,
        } = computed;
        self.device.wait(&self.stream, &pass.1)?;
        let before = self.device.record(&self.stream)?;
        let outputs = self.device.download(&self.stream, outputs)?;
        let after = self.device.record(&self.stream)?;
        Ok(Downloading {
            outputs,
            upload,
            pass,
            download: (before, after),
        })
    }
}

/// Outputs on the host, by pieces, and what the stages took together.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) outputs: Vec<Vec<HostTensor>>,
    pub(super) h2d: Duration,
    pub(super) compute: Duration,
    pub(super) d2h: Duration,
    /// When each pass ran.
    pub(super) passes: Vec<(Instant, Instant)>,
    pub(super) ended: Instant,
}

impl Finished {
    /// Returns what each stage took.
    pub(super) fn took(&self) -> [Duration; 3] {
        [self.h2d, self.compute, self.d2h]
    }
}

/// Waits for the pieces of a batch, which are in the order of the stream.
pub(super) fn finish<D: Device>(
    device: &D,
    pieces: Vec<Downloading<D>>,
) -> Result<Finished, device::Error> {
    if let Some(last) = pieces.last() {
        device.synchronize(&last.download.1)?;
    }
    let ended = Instant::now();
    let mut finished = Finished {
        outputs: Vec::with_capacity(pieces.len()),
        h2d: Duration::ZERO,
        compute: Duration::ZERO,
        d2h: Duration::ZERO,
        passes: Vec::with_capacity(pieces.len()),
        ended,
    };
    for piece in &pieces {
        let compute = device.elapsed(&piece.pass.0, &piece.pass.1);
        finished.h2d += device.elapsed(&piece.upload.0, &piece.upload.1);
        finished.compute += compute;
        finished.d2h += device.elapsed(&piece.download.0, &piece.download.1);
        // Events tell times between them only. The last one has just happened.
        let behind = pieces.last().map_or(Duration::ZERO, |last| {
            device.elapsed(&piece.pass.1, &last.download.1)
        });
        let pass_ended = ended.checked_sub(behind).unwrap_or(ended);
        let pass_began = pass_ended.checked_sub(compute).unwrap_or(pass_ended);
        finished.passes.push((pass_began, pass_ended));
    }
    for piece in pieces {
        finished.outputs.push(device.finish(piece.outputs)?);
    }
    Ok(finished)
}

/// Waits for pieces whose outputs nobody wants, so that their memory may go.
pub(super) fn abandon<D: Device>(device: &D, pieces: Vec<Downloading<D>>) {
    if let Some(last) = pieces.last() {
        let _gone = device.synchronize(&last.download.1);
    }
}
