//! The threads of an instance, and the way of a batch through its stages.
//!
//! There are as many threads as there may be batches in flight, and all do the same. One holds the
//! *turn*: it takes a batch, enqueues its copy and its pass, and gives the turn on before it waits
//! for the outputs. So no batch is handed from thread to thread. A batch that runs inline differs
//! in one thing only: its thread keeps the turn until it has answered.
//!
//! Invariants: batches enter each stage in the order in which they were taken, since a stage is
//! locked before the one before it is let go; whoever waits for outputs holds no stage.

use std::{
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    Context, Source,
    batch::Batch,
    compute,
    d2h::{self, Downloading, Finished},
    depth::Depth,
    h2d,
    micro::{self, MicroBatches},
    mode::{Arrival, Chooser, Mode, Path, Taken, Took},
    recovery::Again,
};
use crate::{
    device::{self, Device},
    error::Error,
    request::Stages,
    statistics::Execution,
};

/// What the threads of one instance share.
#[derive(Debug)]
pub(super) struct Line<D: Device> {
    pub(super) device: Arc<D>,
    pub(super) context: Arc<Context>,
    pub(super) index: usize,
    pub(super) depth: Arc<Depth>,
    /// Whether the model's batches may be cut.
    may_cut: bool,
    turn: Mutex<Turn<D>>,
    pub(super) compute: Mutex<compute::Stage<D>>,
    d2h: Mutex<d2h::Stage<D>>,
    chooser: Mutex<Chooser>,
    pub(super) again: Mutex<Option<Again<D>>>,
}

/// What only the thread whose turn it is may use.
#[derive(Debug)]
struct Turn<D: Device> {
    source: Source,
    h2d: h2d::Stage<D>,
}

/// The turn, held.
type Held<'a, D> = MutexGuard<'a, Turn<D>>;

/// What a line is made of.
#[derive(Debug)]
pub(super) struct Builder<D: Device> {
    pub(super) device: Arc<D>,
    pub(super) copy: Arc<Mutex<compute::ModelCopy>>,
    pub(super) context: Arc<Context>,
    pub(super) index: usize,
    pub(super) source: Source,
    pub(super) mode: Mode,
    pub(super) micro_batches: MicroBatches,
}

impl<D: Device> Builder<D> {
    /// Makes the line and `threads` threads that work on it.
    pub(super) fn spawn(self, threads: usize) -> Result<Vec<JoinHandle<()>>, device::Error> {
        let index = self.index;
        let line = Arc::new(self.line()?);
        (0..threads)
            .map(|thread| {
                let line = Arc::clone(&line);
                let name = match thread {
                    0 => format!("fb-compute-{index}"),
                    more => format!("fb-compute-{index}.{more}"),
                };
                thread::Builder::new()
                    .name(name.clone())
                    .spawn(move || line.work())
                    .map_err(|_| device::Error::Stopped(name))
            })
            .collect()
    }

    fn line(self) -> Result<Line<D>, device::Error> {
        let Self {
            device,
            copy,
            context,
            index,
            source,
            mode,
            micro_batches,
        } = self;
        let stream = |stage: &str| device.open_stream(&format!("{stage}-{index}"));
        Ok(Line {
            may_cut: device.has_own_memory()
                && source.scheduler.joins()
                && micro::may_cut(&context),
            depth: Arc::clone(&source.depth),
            turn: Mutex::new(Turn {
                source,
                h2d: h2d::Stage {
                    device: Arc::clone(&device),
                    stream: stream("h2d")?,
                    context: Arc::clone(&context),
                },
            }),
            compute: Mutex::new(compute::Stage {
                device: Arc::clone(&device),
                stream: stream("compute")?,
                copy,
            }),
            d2h: Mutex::new(d2h::Stage {
                device: Arc::clone(&device),
                stream: stream("d2h")?,
            }),
            chooser: Mutex::new(Chooser::new(mode, micro_batches)),
            again: Mutex::default(),
            device,
            context,
            index,
        })
    }
}

/// A batch whose outputs are on their way.
#[derive(Debug)]
struct Enqueued<'a, D: Device> {
    pieces: Vec<Downloading<D>>,
    /// The rows of each piece.
    ranges: Vec<Range<usize>>,
    /// When gathering began.
    began: Instant,
    /// How long it took, where the batch was not cut but may be.
    gathering: Duration,
    /// The turn, where the batch runs inline.
    turn: Option<Held<'a, D>>,
}

impl<D: Device> Line<D> {
    /// Runs batches until the scheduler is closed and empty.
    fn work(&self) {
        let mut turn = lock(&self.turn);
        while let Some(batch) = turn.source.next() {
            // A panic drops the batch, which answers its jobs.
            let run = catch_unwind(AssertUnwindSafe(|| self.run(batch, turn)));
            let kept = run.unwrap_or_else(|_| {
                tracing::error!(
                    "a stage of the executor panicked; its batch was answered with an error"
                );
                lock(&self.chooser).lost();
                None
            });
            turn = kept.unwrap_or_else(|| lock(&self.turn));
        }
    }

    /// Runs a batch through the stages and answers it. Returns the turn where it was kept.
    fn run<'a>(&'a self, mut batch: Batch, turn: Held<'a, D>) -> Option<Held<'a, D>> {
        let _busy = self.context.statistics.enter();
        if !batch.prune() {
            return Some(turn);
        }
        batch.forget_gone();
        let taken = self.choose(&batch, &turn.source);
        let enqueued = match self.enqueue(&mut batch, taken.path, turn) {
            Ok(Some(enqueued)) => enqueued,
            Ok(None) => {
                lock(&self.chooser).lost();
                return None;
            }
            Err(error) => {
                self.fail(batch, taken.path, error);
                return None;
            }
        };
        match d2h::finish(&*self.device, enqueued.pieces) {
            Ok(finished) => {
                // Before the answer, which may bring the next batch.
                let took = Took {
                    gathering: enqueued.gathering,
                    stages: finished.took(),
                };
                lock(&self.chooser).observe(&taken, finished.ended, took);
                self.answer(
                    batch,
                    taken.path,
                    enqueued.ranges,
                    (finished, enqueued.began),
                );
            }
            Err(error) => self.fail(batch, taken.path, error.into()),
        }
        enqueued.turn
    }

    fn fail(&self, batch: Batch, path: Path, error: Error) {
        lock(&self.chooser).lost();
        self.recover(batch, path, error);
    }

    fn choose(&self, batch: &Batch, source: &Source) -> Taken {
        lock(&self.chooser).choose(Arrival {
            rows: batch.rows(),
            in_company: source.has_more(),
            // What an output's shape depends on may be the rows of its batch.
            may_cut: self.may_cut && !self.context.output_shapes.differ(),
            queued: batch.queued().unwrap_or_else(Instant::now),
        })
    }

    /// Enqueues a batch. Returns `None` where nobody wants it any more.
    fn enqueue<'a>(
        &'a self,
        batch: &mut Batch,
        path: Path,
        turn: Held<'a, D>,
    ) -> Result<Option<Enqueued<'a, D>>, Error> {
        let began = Instant::now();
        let mut gathering = Duration::ZERO;
        let ranges = micro::cut(batch.member_rows(), path.pieces());
        let keep = path == Path::Inline;
        let mut pieces = Vec::with_capacity(ranges.len());
        let gathered = || gathering = began.elapsed();
        match self.enqueue_pieces(batch, &ranges, (turn, keep), (gathered, &mut pieces)) {
            Ok(Some(turn)) => Ok(Some(Enqueued {
                pieces,
                ranges,
                began,
                gathering,
                turn,
            })),
            otherwise => {
                // Their memory may go once the device is done with it.
                d2h::abandon(&*self.device, pieces);
                otherwise.map(|_| None)
            }
        }
    }

    /// Enqueues the pieces of a batch, one behind the other. Returns the turn, to `keep` or given on,
    /// or `None` where nobody wants the batch any more. Tells when one that is not cut is `gathered`.
    fn enqueue_pieces<'a>(
        &'a self,
        batch: &mut Batch,
        ranges: &[Range<usize>],
        (turn, keep): (Held<'a, D>, bool),
        (gathered, pieces): (impl FnOnce(), &mut Vec<Downloading<D>>),
    ) -> Result<Option<Option<Held<'a, D>>>, Error> {
        let Some((last, first)) = ranges.split_last() else {
            return Ok(None);
        };
        let life = batch.life();
        let mut locked = None;
        for rows in first {
            if !batch.is_wanted() {
                return Ok(None);
            }
            let tensors = batch.gather_rows(rows, self.device.pool())?;
            let uploaded = turn.h2d.run(tensors)?;
            let (compute, d2h) =
                locked.get_or_insert_with(|| (lock(&self.compute), lock(&self.d2h)));
            pieces.push(d2h.run(compute.run(uploaded, life)?)?);
        }
        let tensors = if first.is_empty() {
            let tensors = batch.gather(self.device.pool(), self.device.has_own_memory())?;
            if self.may_cut {
                gathered();
            }
            tensors
        } else {
            batch.gather_rows(last, self.device.pool())?
        };
        let uploaded = turn.h2d.run(tensors)?;
        let (compute, d2h) = match locked {
            Some((compute, d2h)) => (compute, Some(d2h)),
            None => (lock(&self.compute), None),
        };
        let turn = keep.then_some(turn);
        if !batch.prune() {
            // The inputs may go once their copy is over; until then others may go on.
            drop((compute, d2h, turn));
            let _gone = self.device.synchronize(&uploaded.upload.1);
            return Ok(None);
        }
        let computed = compute.run(uploaded, life)?;
        let d2h = d2h.unwrap_or_else(|| lock(&self.d2h));
        drop(compute);
        if !batch.prune() {
            // The outputs may go once the pass that writes them is over.
            drop((d2h, turn));
            let _gone = self.device.synchronize(&computed.pass.1);
            return Ok(None);
        }
        pieces.push(d2h.run(computed)?);
        Ok(Some(turn))
    }

    /// Answers a batch.
    pub(super) fn answer(
        &self,
        batch: Batch,
        path: Path,
        ranges: Vec<Range<usize>>,
        (finished, began): (Finished, Instant),
    ) {
        let Finished {
            mut outputs,
            h2d,
            compute,
            d2h,
            passes,
            ended,
        } = finished;
        let stages = Stages {
            began,
            h2d,
            compute,
            d2h,
            ended,
        };
        let context = &self.context;
        let signature = &context.signature;
        let mut pieces = outputs.iter_mut().zip(&ranges);
        let settled = pieces.try_for_each(|(outputs, rows)| {
            let rows = signature.is_batching().then_some(rows.len());
            let shapes = &context.output_shapes;
            shapes.settle(outputs, &signature.outputs, rows)
        });
        if let Err(error) = settled {
            // Counted as one that failed, like one that throws.
            return batch.fail(&error);
        }
        // Counted before the answer: whoever has an answer finds it in the statistics.
        context.statistics.record_batch(&Execution {
            rows: batch.rows(),
            path,
            stages,
            passes: &passes,
        });
        let keep = |bytes: usize| context.budget.charge(bytes as u64);
        match (outputs.len(), outputs.pop()) {
            (1, Some(outputs)) => {
                batch.answer(outputs, signature, stages, keep);
            }
            (_, last) => {
                outputs.extend(last);
                let pieces = ranges.into_iter().zip(outputs).collect();
                let memory = (self.device.pool(), keep);
                batch.answer_pieces(pieces, signature, stages, memory);
            }
        }
    }
}

/// A panic while a stage is locked costs its batch; the stage is as good as before.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
