//! The stages of an instance, on threads of their own or on one.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    Context, Source,
    batch::Batch,
    compute::{self, Computed},
    d2h,
    h2d::{self, Uploaded},
    mode::{Chooser, Mode, Path},
    recovery::{Recovery, Stop},
};
use crate::{
    device::{self, Device},
    request,
};

/// Batches that wait between two stages. One is enough for the next stage never to run dry; the
/// depth of the pipeline bounds them anyway.
const BETWEEN_STAGES: usize = 1;

/// Makes the stages of one instance.
#[derive(Debug)]
pub(super) struct Builder<D: Device> {
    pub(super) device: Arc<D>,
    pub(super) copy: Arc<Mutex<compute::ModelCopy>>,
    /// The stream of the instance's passes.
    pub(super) stream: Arc<Mutex<D::Stream>>,
    pub(super) context: Arc<Context>,
    pub(super) index: usize,
}

impl<D: Device> Builder<D> {
    fn stream(&self, stage: &str) -> Result<D::Stream, device::Error> {
        self.device.open_stream(&format!("{stage}-{}", self.index))
    }

    pub(super) fn h2d(&self, stream: &str) -> Result<h2d::Stage<D>, device::Error> {
        Ok(h2d::Stage {
            device: Arc::clone(&self.device),
            stream: self.stream(stream)?,
            context: Arc::clone(&self.context),
        })
    }

    pub(super) fn compute(&self) -> compute::Stage<D> {
        compute::Stage {
            device: Arc::clone(&self.device),
            stream: Arc::clone(&self.stream),
            copy: Arc::clone(&self.copy),
        }
    }

    pub(super) fn d2h(&self, stream: &str) -> Result<d2h::Stage<D>, device::Error> {
        Ok(d2h::Stage {
            device: Arc::clone(&self.device),
            stream: self.stream(stream)?,
            context: Arc::clone(&self.context),
        })
    }

    /// Makes one thread that runs each batch from start to end.
    pub(super) fn spawn_inline(self, source: Source) -> Result<Vec<JoinHandle<()>>, device::Error> {
        let (h2d, compute, d2h) = (self.h2d("h2d")?, self.compute(), self.d2h("d2h")?);
        let index = self.index;
        let recovery = Recovery::new(self);
        let run = move || {
            while let Some(batch) = source.next() {
                guard(&recovery, || run_through(batch, &h2d, &compute, &d2h));
            }
        };
        Ok(vec![spawn(format!("fb-compute-{index}"), run)?])
    }

    /// Makes a thread for each stage. Batches for which stages do not pay run on the second one.
    pub(super) fn spawn_staged(
        self,
        source: Source,
        mode: Mode,
    ) -> Result<Vec<JoinHandle<()>>, device::Error> {
        let chooser = Arc::new(Mutex::new(Chooser::new(mode)));
        let (to_compute, from_h2d) = sync_channel::<Sent<Handed<D>>>(BETWEEN_STAGES);
        let (to_d2h, from_compute) = sync_channel::<Sent<Computed<D>>>(BETWEEN_STAGES);
        let mut threads = Vec::with_capacity(3);
        let index = self.index;
        let recovery = Arc::new(Recovery::new(self));
        let make = recovery.builder();

        let (h2d, choices, failed) = (
            make.h2d("h2d")?,
            Arc::clone(&chooser),
            Arc::clone(&recovery),
        );
        threads.push(spawn(format!("fb-h2d-{index}"), move || {
            while let Some(batch) = source.next() {
                let path = lock(&choices).choose(batch.rows(), source.has_more());
                let handed = match path {
                    Path::Inline => Some(Handed::Inline(batch)),
                    Path::Stages => guard(&failed, || h2d.run(batch)).map(Handed::Uploaded),
                };
                if let Some(handed) = handed {
                    hand_over(&to_compute, handed);
                }
            }
        })?);

        let (compute, choices, failed) =
            (make.compute(), Arc::clone(&chooser), Arc::clone(&recovery));
        let inline = (make.h2d("inline-h2d")?, make.d2h("inline-d2h")?);
        threads.push(spawn(format!("fb-compute-{index}"), move || {
            while let Some(handed) = receive(&from_h2d, &choices) {
                match handed {
                    Handed::Uploaded(uploaded) => {
                        if let Some(computed) = guard(&failed, || compute.run(uploaded)) {
                            hand_over(&to_d2h, computed);
                        }
                    }
                    Handed::Inline(batch) => {
                        let run = || run_through(batch, &inline.0, &compute, &inline.1);
                        let done = guard(&failed, run);
                        observe(&choices, done);
                    }
                }
            }
        })?);

        let d2h = make.d2h("d2h")?;
        threads.push(spawn(format!("fb-d2h-{index}"), move || {
            while let Some(computed) = receive(&from_compute, &chooser) {
                observe(&chooser, guard(&recovery, || d2h.run(computed)));
            }
        })?);
        Ok(threads)
    }
}

/// What the stage h2d hands to the stage compute.
enum Handed<D: Device> {
    Uploaded(Uploaded<D>),
    Inline(Batch),
}

/// A value and when it was handed over.
struct Sent<T> {
    at: Instant,
    value: T,
}

/// Runs a batch through all stages on the calling thread.
pub(super) fn run_through<D: Device>(
    batch: Batch,
    h2d: &h2d::Stage<D>,
    compute: &compute::Stage<D>,
    d2h: &d2h::Stage<D>,
) -> Result<(usize, request::Stages), Stop> {
    d2h.run(compute.run(h2d.run(batch)?)?)
}

/// Runs a stage. A batch that it does not hand on is `recovery`'s. A panic in it drops its batch,
/// which answers the jobs.
fn guard<D: Device, T>(
    recovery: &Recovery<D>,
    stage: impl FnOnce() -> Result<T, Stop>,
) -> Option<T> {
    let run = || stage().map_err(|stop| recovery.take(stop)).ok();
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        tracing::error!("a stage of the executor panicked; its batch was answered with an error");
        None
    })
}

fn hand_over<T>(to: &SyncSender<Sent<T>>, value: T) {
    let at = Instant::now();
    // The next stage ends only after this one. Were it gone, dropping the value answers its jobs.
    let _gone = to.send(Sent { at, value });
}

/// Waits for what the stage before hands over, and learns what that takes where this stage was idle.
fn receive<T>(from: &Receiver<Sent<T>>, chooser: &Mutex<Chooser>) -> Option<T> {
    let idle_since = Instant::now();
    let sent = from.recv().ok()?;
    if idle_since < sent.at {
        lock(chooser).observe_handover(sent.at.elapsed());
    }
    Some(sent.value)
}

fn observe(chooser: &Mutex<Chooser>, done: Option<(usize, request::Stages)>) {
    if let Some((rows, stages)) = done {
        let copies: Duration = stages.h2d + stages.d2h;
        lock(chooser).observe(rows, copies, stages.compute);
    }
}

fn lock(chooser: &Mutex<Chooser>) -> MutexGuard<'_, Chooser> {
    chooser.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(
    name: String,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, device::Error> {
    thread::Builder::new()
        .name(name.clone())
        .spawn(run)
        .map_err(|_| device::Error::Stopped(name))
}
