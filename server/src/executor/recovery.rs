//! What becomes of a batch that failed.
//!
//! Where the device had no memory for it, its caches are freed and the batch is run again in halves,
//! down to single jobs; one that still finds no memory is tried once more when no other batch of the
//! instance runs, and fails on its own. An error that the device will
//! not be free of any more is declared, which ends the models on it. All else fails the batch.
//!
//! Invariants: a batch is tried again on the thread that noticed, by one thread of an instance at a
//! time, with copies on streams of their own and its passes on the instance's stream, so batches in
//! flight are not disturbed; until then it holds no memory of the device, and nobody waits for it but
//! those that have yet to begin; requests of sequences, whose order counts, are never tried again.

use std::{sync::Arc, time::Instant};

use super::{
    batch::Batch,
    d2h, h2d,
    mode::Path,
    stages::{Line, lock},
};
use crate::{
    device::{self, Device},
    error::Error,
};

/// The copies of batches that are tried again.
#[derive(Debug)]
pub(super) struct Again<D: Device> {
    h2d: h2d::Stage<D>,
    d2h: d2h::Stage<D>,
}

impl<D: Device> Line<D> {
    /// Answers the jobs of a batch that failed, after another try where that may help.
    /// They count as run the way of `path`.
    pub(super) fn recover(&self, batch: Batch, path: Path, error: Error) {
        match &error {
            Error::Device(cause) if cause.is_final() => {
                self.device.outage().declare(&cause.to_string());
            }
            Error::Device(cause) if cause.is_out_of_memory() => {
                return match self.retry(batch, path, &error) {
                    Ok(()) => {}
                    Err((batch, cause)) if cause.is_final() => {
                        self.recover(batch, path, cause.into())
                    }
                    Err((batch, _)) => exhausted(batch, &error),
                };
            }
            _ => {}
        }
        batch.fail(&error);
    }

    /// Runs a batch again in parts. Fails where there are no streams for it.
    fn retry(&self, batch: Batch, path: Path, error: &Error) -> Result<(), (Batch, device::Error)> {
        // Where inputs are lent to the pass, it may have written to them. What a request of a
        // sequence has done to its state cannot be taken back.
        if !self.device.has_own_memory() || batch.life().is_some() {
            exhausted(batch, error);
            return Ok(());
        }
        batch.set_aside();
        let mut again = lock(&self.again);
        let again = match self.again(&mut again) {
            Ok(again) => again,
            Err(cause) => return Err((batch, cause)),
        };
        let (model, rows) = (batch.model(), batch.rows());
        tracing::warn!(model, rows, %error, "trying a batch again in parts");
        self.device.reclaim();
        let mut rest = batch.halves();
        rest.reverse();
        while let Some(mut part) = rest.pop() {
            match self.run_part(&mut part, again) {
                Ok(Some((finished, began))) => {
                    let all = 0..part.rows();
                    self.answer(part, path, vec![all], (finished, began));
                }
                Ok(None) => {}
                Err(Error::Device(cause)) if cause.is_out_of_memory() => {
                    self.device.reclaim();
                    if part.is_single() {
                        exhausted(part, &cause.into());
                    } else {
                        rest.extend(part.halves().into_iter().rev());
                    }
                }
                // Not out of memory, so this goes no deeper.
                Err(error) => self.recover(part, path, error),
            }
        }
        Ok(())
    }

    fn again<'a>(&self, again: &'a mut Option<Again<D>>) -> Result<&'a Again<D>, device::Error> {
        let stream = |stage| {
            let name = format!("again-{stage}-{}", self.index);
            self.device.open_stream(&name)
        };
        Ok(match again {
            Some(made) => made,
            none => none.insert(Again {
                h2d: h2d::Stage {
                    device: Arc::clone(&self.device),
                    stream: stream("h2d")?,
                    context: Arc::clone(&self.context),
                },
                d2h: d2h::Stage {
                    device: Arc::clone(&self.device),
                    stream: stream("d2h")?,
                },
            }),
        })
    }

    /// Runs a part, and where it is a single job, once more with the device to itself.
    fn run_part(
        &self,
        part: &mut Batch,
        again: &Again<D>,
    ) -> Result<Option<(d2h::Finished, Instant)>, Error> {
        let error = match self.run_again(part, again) {
            Err(error) if part.is_single() => error,
            otherwise => return otherwise,
        };
        match &error {
            Error::Device(cause) if cause.is_out_of_memory() => {}
            _ => return Err(error),
        }
        let _alone = self.depth.alone();
        self.device.reclaim();
        self.run_again(part, again)
    }

    /// Runs a batch from start to end. Returns `None` where nobody wants it any more.
    fn run_again(
        &self,
        batch: &mut Batch,
        again: &Again<D>,
    ) -> Result<Option<(d2h::Finished, Instant)>, Error> {
        if !batch.prune() {
            return Ok(None);
        }
        let began = Instant::now();
        let uploaded = again.h2d.run(batch.gather(self.device.pool(), true)?)?;
        if !batch.prune() {
            // The inputs may go once their copy is over.
            let _gone = self.device.synchronize(&uploaded.upload.1);
            return Ok(None);
        }
        let computed = lock(&self.compute).run(uploaded, None)?;
        let downloading = again.d2h.run(computed)?;
        let finished = d2h::finish(&*self.device, vec![downloading])?;
        Ok(Some((finished, began)))
    }
}

/// Tells the jobs of a batch that the device has too little memory for them.
fn exhausted(batch: Batch, cause: &Error) {
    let (model, reason) = (batch.model().to_owned(), cause.to_string());
    let error = match batch.life() {
        Some(_) => Error::SequenceMemory { model, reason },
        None => Error::DeviceMemory {
            model,
            rows: batch.rows(),
            reason,
        },
    };
    batch.fail(&error);
}
