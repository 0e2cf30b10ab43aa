//! An accelerator made of threads, for tests and for machines without one.
//!
//! Each stream is a worker that runs what is enqueued, in order and later. Copies are real copies
//! that take as long as the configured link would; the forward pass is the model's own, stretched
//! to a given time. Events order streams as on the real thing, so overlap, depth and ordering of
//! the executor show here in every test run.
//!
//! Invariant: every use of memory that streams and events do not order is reported as a [`Hazard`]
//! that names both sides, whether or not it went well this time.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{Device, Error, Location, Work};
use crate::{
    memory::Pool,
    model,
    tensor::{HostData, HostTensor, Placed},
};

mod clocks;
mod stream;

pub use clocks::Hazard;
use clocks::{Clocks, HOST, Moment, Operation};
pub use stream::Stream;
use stream::{Completion, Content, Slot};

/// What operations cost on the simulated device.
#[derive(Debug, Clone, Copy, Default)]
pub struct Costs {
    /// Copies to the device.
    pub h2d: Link,
    /// A forward pass takes at least this long,
    pub compute: Duration,
    /// and this much longer for each row: what the first dimension of the first input counts.
    pub compute_per_row: Duration,
    /// Copies from the device.
    pub d2h: Link,
}

/// What a copy costs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Link {
    /// Time for each copy, whatever its size.
    pub latency: Duration,
    /// Bytes per second; `None` is as fast as the host copies.
    pub bytes_per_second: Option<u64>,
}

impl Link {
    /// Returns how long a copy of `bytes` takes.
    pub fn time(&self, bytes: usize) -> Duration {
        let transfer = self.bytes_per_second.map_or(Duration::ZERO, |rate| {
            Duration::from_nanos(
                (bytes as u64)
                    .saturating_mul(1_000_000_000)
                    .checked_div(rate)
                    .unwrap_or(u64::MAX),
            )
        });
        self.latency + transfer
    }
}

/// A simulated accelerator.
#[derive(Debug, Clone)]
pub struct Simulated {
    costs: Costs,
    /// The device's own memory.
    memory: Pool,
    /// Host memory, which copies come from and go to.
    pool: Pool,
    clocks: Arc<Mutex<Clocks>>,
}

impl Simulated {
    /// Makes an idle device; batches are gathered, and outputs land, in slabs of `pool`.
    pub fn new(costs: Costs, pool: Pool) -> Self {
        const KEEP_BYTES: usize = 256 << 20;
        Self {
            costs,
            memory: Pool::new(KEEP_BYTES),
            pool,
            clocks: Arc::default(),
        }
    }

    /// Returns the hazards seen so far.
    pub fn hazards(&self) -> Vec<Hazard> {
        self.clocks().hazards().to_vec()
    }

    fn clocks(&self) -> MutexGuard<'_, Clocks> {
        lock(&self.clocks)
    }

    /// Enqueues an operation that reads `source` and makes a new buffer.
    fn enqueue(
        &self,
        stream: &Stream,
        what: &'static str,
        source: Option<Buffer>,
        run: impl FnOnce(Option<Content>, Instant) -> (Content, Instant) + Send + 'static,
    ) -> Result<Buffer, Error> {
        let produced = {
            let mut clocks = self.clocks();
            let source = source.as_ref().map(|source| (source.produced, source.what));
            clocks
                .enqueue(stream.id(), what, source)
                .map_err(Error::Hazard)
        };
        let source = source.map(Buffer::consume);
        let produced = produced?;
        let slot = Slot::default();
        let output = slot.clone();
        stream.send(Box::new(move |begins| {
            let (content, ends) = run(source.map(|slot| slot.take()), begins);
            output.fill(content);
            ends
        }))?;
        Ok(Buffer {
            slot,
            produced,
            what,
            clocks: Arc::clone(&self.clocks),
            consumed: false,
        })
    }

    fn copy(
        memory: &Pool,
        tensors: Vec<Option<HostTensor>>,
        link: Link,
        begins: Instant,
    ) -> (Content, Instant) {
        let began = Instant::now();
        let mut bytes = 0;
        let copies = tensors
            .into_iter()
            .map(|tensor| {
                let tensor = tensor?;
                let source = tensor.data.as_ref();
                bytes += source.len();
                let mut target = memory.lease(source.len());
                target.copy_from_slice(source);
                Some(HostTensor {
                    data: HostData::Slab(target),
                    ..tensor
                })
            })
            .collect();
        let ends = pass(begins, began.elapsed().max(link.time(bytes)));
        (Content::Ready(copies), ends)
    }
}

fn rows(inputs: &[Option<HostTensor>]) -> u32 {
    let first = inputs.iter().flatten().next();
    let rows = first.and_then(|input| input.shape.dims().first());
    rows.map_or(0, |&rows| u32::try_from(rows).unwrap_or(u32::MAX))
}

/// Runs a pass on the host, which is what the device is made of.
fn pass_on_host(
    work: Work,
    inputs: Vec<Option<HostTensor>>,
) -> Result<Vec<HostTensor>, model::Error> {
    let inputs = inputs.into_iter().map(|input| input.map(Placed::Host));
    let outputs = work(inputs.collect())?;
    Ok(outputs.into_iter().filter_map(Placed::into_host).collect())
}

/// Lets time pass on the device, and returns its end.
fn pass(begins: Instant, takes: Duration) -> Instant {
    let ends = begins + takes;
    std::thread::sleep(ends.saturating_duration_since(Instant::now()));
    ends
}

/// A panic while the lock is held leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Memory of the simulated device, or on its way to or from it.
#[derive(Debug)]
pub struct Buffer {
    slot: Slot,
    /// The operation that writes it.
    produced: Operation,
    what: &'static str,
    clocks: Arc<Mutex<Clocks>>,
    consumed: bool,
}

impl Buffer {
    fn consume(mut self) -> Slot {
        self.consumed = true;
        self.slot.clone()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if !self.consumed {
            lock(&self.clocks).free(self.produced, self.what);
        }
    }
}

/// A point in a stream of the simulated device.
#[derive(Debug, Clone)]
pub struct Event {
    moment: Moment,
    completion: Completion,
}

impl Device for Simulated {
    type Stream = Stream;
    type Event = Event;
    type Buffer = Buffer;

    fn location(&self) -> Location {
        Location::Host
    }

    fn has_own_memory(&self) -> bool {
        true
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn open_stream(&self, name: &str) -> Result<Stream, Error> {
        let id = self.clocks().add_stream(name);
        Stream::spawn(id, name)
    }

    fn upload(
        &self,
        stream: &Stream,
        tensors: Vec<Option<HostTensor>>,
        _on_host: &[bool],
    ) -> Result<Buffer, Error> {
        let (memory, link) = (self.memory.clone(), self.costs.h2d);
        self.enqueue(stream, "upload", None, move |_, begins| {
            Self::copy(&memory, tensors, link, begins)
        })
    }

    fn launch(&self, stream: &Stream, inputs: Buffer, work: Work) -> Result<Buffer, Error> {
        let Costs {
            compute,
            compute_per_row,
            ..
        } = self.costs;
        self.enqueue(
            stream,
            "forward pass",
            Some(inputs),
            move |inputs, begins| {
                let began = Instant::now();
                let inputs = match inputs.unwrap_or_default() {
                    Content::Ready(inputs) => inputs,
                    Content::Failed(error) => return (Content::Failed(error), begins),
                };
                let takes = compute.saturating_add(compute_per_row.saturating_mul(rows(&inputs)));
                let outputs = pass_on_host(work, inputs);
                let ends = pass(begins, began.elapsed().max(takes));
                let outputs = match outputs {
                    Ok(outputs) => Content::Ready(outputs.into_iter().map(Some).collect()),
                    Err(error) => Content::Failed(error.into()),
                };
                (outputs, ends)
            },
        )
    }

    fn download(&self, stream: &Stream, outputs: Buffer) -> Result<Buffer, Error> {
        let (memory, link) = (self.pool.clone(), self.costs.d2h);
        self.enqueue(
            stream,
            "download",
            Some(outputs),
            move |outputs, begins| match outputs.unwrap_or_default() {
                Content::Ready(outputs) => Self::copy(&memory, outputs, link, begins),
                failed @ Content::Failed(_) => (failed, begins),
            },
        )
    }

    fn record(&self, stream: &Stream) -> Result<Event, Error> {
        let completion = Completion::default();
        let signal = completion.clone();
        stream.send(Box::new(move |now| {
            signal.complete(now);
            now
        }))?;
        let moment = self.clocks().moment(stream.id());
        Ok(Event { moment, completion })
    }

    fn wait(&self, stream: &Stream, event: &Event) -> Result<(), Error> {
        self.clocks().join(stream.id(), &event.moment);
        let completion = event.completion.clone();
        stream.send(Box::new(move |now| now.max(completion.wait())))
    }

    fn synchronize(&self, event: &Event) -> Result<(), Error> {
        event.completion.wait();
        self.clocks().join(HOST, &event.moment);
        Ok(())
    }

    fn finish(&self, downloaded: Buffer) -> Result<Vec<HostTensor>, Error> {
        let (produced, what) = (downloaded.produced, downloaded.what);
        let slot = downloaded.consume();
        self.clocks()
            .read(HOST, "read by the host", produced, what)
            .map_err(Error::Hazard)?;
        match slot.take() {
            Content::Ready(tensors) => Ok(tensors.into_iter().flatten().collect()),
            Content::Failed(error) => Err(error),
        }
    }

    fn elapsed(&self, from: &Event, to: &Event) -> Duration {
        to.completion
            .wait()
            .saturating_duration_since(from.completion.wait())
    }
}

#[cfg(test)]
#[path = "simulated_tests.rs"]
mod tests;
