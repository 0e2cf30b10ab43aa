//! The last stage: copies the outputs to the host, waits for them, and answers.
//!
//! This is the one place where the host waits for the device on behalf of a batch that is wanted.

use std::{sync::Arc, time::Instant};

use super::{Context, compute::Computed, recovery::Stop};
use crate::{
    device::{self, Device},
    request::Stages,
    tensor::HostTensor,
};

/// The stage and its stream.
#[derive(Debug)]
pub(super) struct Stage<D: Device> {
    pub(super) device: Arc<D>,
    pub(super) stream: D::Stream,
    pub(super) context: Arc<Context>,
}

impl<D: Device> Stage<D> {
    /// Runs the stage and answers the batch. Returns the rows and what the stages took. A batch that
    /// fails comes back with the error.
    pub(super) fn run(&self, computed: Computed<D>) -> Result<(usize, Stages), Stop> {
        let Computed {
            mut batch,
            outputs,
            began,
            upload,
            pass,
        } = computed;
        if !batch.prune() {
            // The outputs may go once the pass that writes them is over.
            let _gone = self.device.synchronize(&pass.1);
            return Err(Stop::Gone);
        }
        let rows = batch.rows();
        match self.download(outputs, &pass.1) {
            Ok((outputs, before, after)) => {
                let stages = Stages {
                    began,
                    h2d: self.device.elapsed(&upload.0, &upload.1),
                    compute: self.device.elapsed(&pass.0, &pass.1),
                    d2h: self.device.elapsed(&before, &after),
                    ended: Instant::now(),
                };
                // Counted before the answer: whoever has an answer finds it in the statistics.
                self.context.statistics.record_batch(rows, &stages);
                let batched = self.context.signature.max_batch_size > 0;
                let specs = &self.context.signature.outputs;
                batch.answer(outputs, specs, batched, stages, |bytes| {
                    self.context.budget.charge(bytes as u64)
                });
                Ok((rows, stages))
            }
            Err(error) => Err(Stop::failed(batch, error)),
        }
    }

    #[expect(
        clippy::type_complexity,
        reason = "the tensors and the two ends of their copy"
    )]
    fn download(
        &self,
        outputs: D::Buffer,
        computed: &D::Event,
    ) -> Result<(Vec<HostTensor>, D::Event, D::Event), device::Error> {
        self.device.wait(&self.stream, computed)?;
        let before = self.device.record(&self.stream)?;
        let downloaded = self.device.download(&self.stream, outputs)?;
        let after = self.device.record(&self.stream)?;
        self.device.synchronize(&after)?;
        Ok((self.device.finish(downloaded)?, before, after))
    }
}
