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

use super::{Device, Error, Location, Outage, Work};
use crate::{
    memory::Pool,
    model,
    tensor::{HostData, HostTensor, Placed},
};

mod clocks;
mod faults;
mod memory;
mod stream;

pub use clocks::Hazard;
use clocks::{Clocks, HOST, Moment, Operation};
use faults::Injector;
pub use faults::{Fault, FaultKind, Faults};
use memory::Memory;
pub use stream::Stream;
use stream::{Completion, Content, Slot, Tensors};

/// The device's name in errors.
const NAME: &str = "simulated";

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
    /// The slabs that stand for the device's own memory.
    slabs: Pool,
    /// The account of it.
    memory: Memory,
    injector: Arc<Injector>,
    outage: Outage,
    /// Host memory, which copies come from and go to.
    pool: Pool,
    clocks: Arc<Mutex<Clocks>>,
}

impl Simulated {
    /// Makes an idle device; batches are gathered, and outputs land, in slabs of `pool`.
    pub fn new(costs: Costs, pool: Pool) -> Self {
        Self::with_faults(costs, pool, Faults::default())
    }

    /// Makes a device on which things go wrong.
    pub fn with_faults(costs: Costs, pool: Pool, faults: Faults) -> Self {
        const KEEP_BYTES: usize = 256 << 20;
        Self {
            costs,
            slabs: Pool::new(KEEP_BYTES),
            memory: Memory::new(faults.memory_bytes),
            injector: Arc::new(Injector::new(faults)),
            outage: Outage::default(),
            pool,
            clocks: Arc::default(),
        }
    }

    /// Returns the hazards seen so far.
    pub fn hazards(&self) -> Vec<Hazard> {
        self.clocks().hazards().to_vec()
    }

    /// Returns the bytes of the device's memory that are taken: 0 once nothing runs any more.
    pub fn taken_bytes(&self) -> usize {
        self.memory.taken() + self.slabs.usage().leased_bytes
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
        run: impl FnOnce(Tensors, Instant) -> (Content, Instant) + Send + 'static,
    ) -> Result<Buffer, Error> {
        let plan = self.injector.enqueue();
        let produced = plan.and_then(|plan| {
            let written = source.as_ref().map(|source| (source.produced, source.what));
            let produced = self.clocks().enqueue(stream.id(), what, written);
            Ok((plan, produced.map_err(Error::Hazard)?))
        });
        // Also where it is refused: the slot outlives the operation that fills it.
        let source = source.map(Buffer::consume);
        let (plan, produced) = produced?;
        let slot = Slot::default();
        let (output, injector) = (slot.clone(), Arc::clone(&self.injector));
        stream.send(Box::new(move |begins| {
            let source = source.map_or(Content::Ready(Tensors::default()), |slot| slot.take());
            let (content, ends) = match (injector.begin(plan), source) {
                (Ok(()), Content::Ready(tensors)) => run(tensors, begins),
                (Err(error), _) | (_, Content::Failed(error)) => (Content::Failed(error), begins),
            };
            let ends = pass(ends, plan.delay);
            output.fill(content);
            ends
        }))?;
        Ok(Buffer {
            slot,
            produced,
            what,
            device: (Arc::clone(&self.clocks), Arc::clone(&self.injector)),
            consumed: false,
        })
    }

    fn copy(
        slabs: &Pool,
        tensors: Vec<Option<HostTensor>>,
        link: Link,
        begins: Instant,
    ) -> (Vec<Option<HostTensor>>, Instant) {
        let began = Instant::now();
        let bytes = total(&tensors);
        let copies = tensors
            .into_iter()
            .map(|tensor| {
                let tensor = tensor?;
                let source = tensor.data.as_ref();
                let mut target = slabs.lease(source.len());
                target.copy_from_slice(source);
                Some(HostTensor {
                    data: HostData::Slab(target),
                    ..tensor
                })
            })
            .collect();
        let ends = pass(begins, began.elapsed().max(link.time(bytes)));
        (copies, ends)
    }
}

/// Returns the bytes of all tensors.
fn total(tensors: &[Option<HostTensor>]) -> usize {
    let bytes = |tensor: &HostTensor| tensor.data.as_ref().len();
    tensors.iter().flatten().map(bytes).sum()
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
    device: (Arc<Mutex<Clocks>>, Arc<Injector>),
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
        let (clocks, injector) = &self.device;
        // A device that has failed touches no memory any more.
        if !self.consumed && injector.check().is_ok() {
            lock(clocks).free(self.produced, self.what);
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
        self.injector.check()?;
        let id = self.clocks().add_stream(name);
        Stream::spawn(id, name)
    }

    fn upload(
        &self,
        stream: &Stream,
        tensors: Vec<Option<HostTensor>>,
        _on_host: &[bool],
    ) -> Result<Buffer, Error> {
        self.injector.check()?;
        let taken = self.memory.take(total(&tensors))?;
        let (slabs, link) = (self.slabs.clone(), self.costs.h2d);
        self.enqueue(stream, "upload", None, move |_, begins| {
            let (all, ends) = Self::copy(&slabs, tensors, link, begins);
            let _taken = Some(taken);
            (Content::Ready(Tensors { all, _taken }), ends)
        })
    }

    fn launch(&self, stream: &Stream, inputs: Buffer, work: Work) -> Result<Buffer, Error> {
        let (costs, memory) = (self.costs, self.memory.clone());
        let run = move |inputs: Tensors, begins: Instant| {
            let began = Instant::now();
            let by_row = costs.compute_per_row.saturating_mul(rows(&inputs.all));
            let outputs = pass_on_host(work, inputs.all).map_err(Error::from);
            let outputs = outputs.and_then(|outputs| {
                let all: Vec<_> = outputs.into_iter().map(Some).collect();
                // Besides that of the inputs, which is given back after this.
                let _taken = Some(memory.take(total(&all))?);
                Ok(Content::Ready(Tensors { all, _taken }))
            });
            let takes = costs.compute.saturating_add(by_row);
            let ends = pass(begins, began.elapsed().max(takes));
            (outputs.unwrap_or_else(Content::Failed), ends)
        };
        self.enqueue(stream, "forward pass", Some(inputs), run)
    }

    fn download(&self, stream: &Stream, outputs: Buffer) -> Result<Buffer, Error> {
        let (pool, link) = (self.pool.clone(), self.costs.d2h);
        self.enqueue(stream, "download", Some(outputs), move |outputs, begins| {
            let (all, ends) = Self::copy(&pool, outputs.all, link, begins);
            (Content::Ready(Tensors { all, _taken: None }), ends)
        })
    }

    fn record(&self, stream: &Stream) -> Result<Event, Error> {
        self.injector.check()?;
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
        self.injector.check()?;
        self.clocks().join(stream.id(), &event.moment);
        let completion = event.completion.clone();
        stream.send(Box::new(move |now| now.max(completion.wait())))
    }

    fn synchronize(&self, event: &Event) -> Result<(), Error> {
        event.completion.wait();
        self.clocks().join(HOST, &event.moment);
        self.injector.check()
    }

    fn finish(&self, downloaded: Buffer) -> Result<Vec<HostTensor>, Error> {
        let (produced, what) = (downloaded.produced, downloaded.what);
        let slot = downloaded.consume();
        self.clocks()
            .read(HOST, "read by the host", produced, what)
            .map_err(Error::Hazard)?;
        match slot.take() {
            Content::Ready(tensors) => Ok(tensors.all.into_iter().flatten().collect()),
            Content::Failed(error) => Err(error),
        }
    }

    fn elapsed(&self, from: &Event, to: &Event) -> Duration {
        to.completion
            .wait()
            .saturating_duration_since(from.completion.wait())
    }

    fn reclaim(&self) {
        self.memory.reclaim();
    }

    fn outage(&self) -> &Outage {
        &self.outage
    }
}

#[cfg(test)]
#[path = "simulated_tests.rs"]
mod tests;
