//! A batch: the jobs in it, how their inputs are joined, and how the outputs are split.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use forebay_proto::{DataType, Tensor};

use super::depth::Room;
use crate::{
    error::Error,
    memory::Pool,
    request::{Answer, Job, Life, Stages},
    signature::{Signature, TensorSpec},
    tensor::{HostData, HostTensor},
};

mod pieces;

/// Jobs that run together. Dropping it gives its room in the pipeline back and answers its jobs.
#[derive(Debug)]
pub(super) struct Batch {
    members: Vec<Member>,
    /// Shared by the parts of a batch that was split. Given back just before the replies go: who hears
    /// of one may send the next, which is then alone.
    room: Option<Arc<Room>>,
}

/// A job's part of the batch. Once inputs are gathered its rows stay, also when the job is gone.
#[derive(Debug)]
struct Member {
    rows: usize,
    job: Option<Box<Job>>,
}

impl Batch {
    pub(super) fn new(jobs: Vec<Box<Job>>, room: Room) -> Self {
        room.begin();
        let now = Instant::now();
        let members = jobs
            .into_iter()
            .filter_map(|job| job.in_time(now))
            .map(|mut job| {
                job.timings.batched = Some(now);
                job.timings.residency = job.reply.waited(job.timings.queued, now);
                Member {
                    rows: job.rows,
                    job: Some(job),
                }
            });
        Self {
            members: members.collect(),
            room: Some(Arc::new(room)),
        }
    }

    /// Returns the rows of all members.
    pub(super) fn rows(&self) -> usize {
        self.members.iter().map(|member| member.rows).sum()
    }

    /// Answers the jobs that are no longer wanted. Returns whether any is left.
    pub(super) fn prune(&mut self) -> bool {
        let now = Instant::now();
        for member in &mut self.members {
            member.job = member.job.take().and_then(|job| job.live(now));
        }
        self.members.iter().any(|member| member.job.is_some())
    }

    /// Returns whether any job is still wanted. Else all are answered; before that none goes, since rows
    /// that are yet to be gathered must stay.
    pub(super) fn is_wanted(&mut self) -> bool {
        let now = Instant::now();
        self.jobs().any(|job| job.is_live(now)) || self.prune()
    }

    /// Lets the device be another's, now that it holds nothing of this batch any more.
    pub(super) fn set_aside(&self) {
        if let Some(room) = &self.room {
            room.set_aside();
        }
    }

    /// Returns since when its first job waited.
    pub(super) fn queued(&self) -> Option<Instant> {
        self.jobs().map(|job| job.timings.queued).min()
    }

    /// Returns the life of the sequence that the batch belongs to; requests of sequences are never
    /// joined.
    pub(super) fn life(&self) -> Option<Life> {
        self.jobs().find_map(|job| job.life)
    }

    /// Joins the inputs, by a copy into one slab for each, which is the only copy that the host makes
    /// of them. A single job's inputs are handed on as they are, unless `always` says to copy: what
    /// a device copies from are slabs. Jobs then keep their inputs until they are answered, so that
    /// a batch can be gathered again.
    pub(super) fn gather(
        &mut self,
        pool: &Pool,
        always: bool,
    ) -> Result<Vec<Option<HostTensor>>, Error> {
        // Until here nothing was gathered, so the rows of jobs that are gone may go too.
        self.members.retain(|member| member.job.is_some());
        if let [Member { job: Some(job), .. }] = &mut self.members[..]
            && !always
        {
            let inputs = std::mem::take(&mut job.inputs);
            return Ok(inputs
                .into_iter()
                .map(|input| Some(as_received(input?)))
                .collect());
        }
        let rows = (self.members.len() > 1).then(|| i64::try_from(self.rows()).unwrap_or(i64::MAX));
        let count = self.jobs().next().map_or(0, |job| job.inputs.len());
        let joined = (0..count)
            .map(|index| self.join(index, rows, pool))
            .collect();
        if !always {
            for member in &mut self.members {
                member.job.iter_mut().for_each(|job| job.inputs.clear());
            }
        }
        joined
    }

    /// Cuts the batch in two, or returns it whole where it has one job. Jobs that are no longer
    /// wanted are answered, and their rows go.
    pub(super) fn halves(mut self) -> Vec<Self> {
        self.prune();
        self.members.retain(|member| member.job.is_some());
        if self.members.len() < 2 {
            return vec![self];
        }
        let second = Self {
            members: self.members.split_off(self.members.len() / 2),
            room: self.room.clone(),
        };
        vec![self, second]
    }

    /// Returns the name of the model.
    pub(super) fn model(&self) -> &str {
        self.jobs().next().map_or("", |job| &job.model)
    }

    /// Returns whether there is but one job to answer, or none.
    pub(super) fn is_single(&self) -> bool {
        self.jobs().nth(1).is_none()
    }

    /// Joins an input; without `rows` it is one member's whole.
    fn join(
        &self,
        index: usize,
        rows: Option<i64>,
        pool: &Pool,
    ) -> Result<Option<HostTensor>, Error> {
        let parts: Vec<&Tensor> = self
            .jobs()
            .filter_map(|job| job.inputs.get(index)?.as_ref())
            .collect();
        let Some(first) = parts.first() else {
            return Ok(None);
        };
        let shape = match rows {
            Some(rows) => first.shape().with_batch(rows)?,
            None => first.shape().clone(),
        };
        let datatype = first.datatype();
        let mut slab = pool.lease(parts.iter().map(|part| part.data().len()).sum());
        let mut rest = &mut slab[..];
        for part in &parts {
            let (target, after) = rest.split_at_mut(part.data().len());
            target.copy_from_slice(part.data());
            rest = after;
        }
        Ok(Some(HostTensor {
            datatype,
            shape,
            data: HostData::Slab(slab),
        }))
    }

    /// Splits `outputs`, whose shapes are settled, by rows and answers every job. The bytes are shared,
    /// not copied, and `keep` makes what is dropped with the last of an output's bytes.
    pub(super) fn answer<K: Send + 'static>(
        mut self,
        outputs: Vec<HostTensor>,
        signature: &Signature,
        stages: Stages,
        keep: impl Fn(usize) -> K,
    ) {
        let rows: Vec<usize> = self.members.iter().map(|member| member.rows).collect();
        let rows = (signature.max_batch_size > 0).then_some(rows);
        let shares_memory = self.shares_memory(signature);
        let mut answers: Vec<Vec<Tensor>> = self.members.iter().map(|_| Vec::new()).collect();
        for (output, spec) in outputs.into_iter().zip(&signature.outputs) {
            match split(output, spec, rows.as_ref(), &keep) {
                Ok(parts) => {
                    for (answer, part) in answers.iter_mut().zip(parts) {
                        answer.push(part);
                    }
                }
                Err(error) => return self.fail(&error),
            }
        }
        self.room = None;
        for (member, outputs) in self.members.drain(..).zip(answers) {
            if let Some(mut job) = member.job {
                job.timings.stages = Some(stages);
                job.reply.send(Ok(Answer {
                    shares_memory,
                    ..Answer::new(outputs, job.timings)
                }));
            }
        }
    }

    /// Answers every job with `error`.
    pub(super) fn fail(mut self, error: &Error) {
        self.room = None;
        for job in self.members.drain(..).filter_map(|member| member.job) {
            job.reply.send(Err(error.clone()));
        }
    }

    /// Returns whether outputs may keep memory of others: of the batch's, or, where a model passes an input
    /// on, of the message that brought it and others.
    fn shares_memory(&self, signature: &Signature) -> bool {
        self.members.len() > 1 || signature.inputs.len() > 1
    }

    fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.members
            .iter()
            .filter_map(|member| member.job.as_deref())
    }
}

fn as_received(tensor: Tensor) -> HostTensor {
    let (_, datatype, shape, data) = tensor.into_parts();
    HostTensor {
        datatype,
        shape,
        data: HostData::Wire(data),
    }
}

/// Cuts an output, whose first dimension is the batch, into the rows of each member; without `rows` it
/// is one member's whole.
fn split<K: Send + 'static>(
    output: HostTensor,
    spec: &TensorSpec,
    rows: Option<&Vec<usize>>,
    keep: &impl Fn(usize) -> K,
) -> Result<Vec<Tensor>, Error> {
    let HostTensor {
        datatype,
        shape,
        data,
    } = output;
    let held = keep(data.as_ref().len());
    let mut bytes = data.into_bytes(held);
    let named = |shape, data| Ok(Tensor::new(spec.name.clone(), datatype, shape, data)?);
    let Some(rows) = rows.filter(|rows| rows.len() > 1) else {
        return Ok(vec![named(shape, bytes)?]);
    };
    let all: usize = rows.iter().sum();
    let elements_in_row = shape.elements() / all.max(1) as u64;
    rows.iter()
        .map(|&rows| {
            let length = match datatype {
                DataType::Bytes => elements_length(&bytes, rows as u64 * elements_in_row),
                _ => bytes_of(datatype, rows as u64 * elements_in_row),
            };
            let part = bytes.split_to(length.min(bytes.len()));
            named(
                shape.with_batch(i64::try_from(rows).unwrap_or(i64::MAX))?,
                part,
            )
        })
        .collect()
}

fn bytes_of(datatype: DataType, elements: u64) -> usize {
    let size = datatype.size().unwrap_or(0);
    usize::try_from(elements).map_or(usize::MAX, |elements| elements.saturating_mul(size))
}

/// Returns the bytes that the first `elements` elements of BYTES data take.
fn elements_length(data: &Bytes, elements: u64) -> usize {
    let elements = usize::try_from(elements).unwrap_or(usize::MAX);
    forebay_proto::BytesElements::new(data.clone())
        .take(elements)
        .map(|element| 4 + element.len())
        .sum()
}
