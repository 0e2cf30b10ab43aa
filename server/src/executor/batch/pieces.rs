//! A batch in pieces: gathering the rows of one, and joining what comes back of several.
//!
//! A job whose rows lie in one piece gets a part of that piece's output, uncopied. A job whose rows
//! lie in several gets a joined copy, which is the only one that the host makes of outputs.

use std::ops::Range;

use forebay_proto::Tensor;

use super::{Batch, split};
use crate::{
    error::Error,
    memory::Pool,
    model,
    request::{Answer, Stages},
    signature::{Signature, TensorSpec},
    tensor::{HostData, HostTensor},
};

impl Batch {
    /// Returns the rows of each member.
    pub(in super::super) fn member_rows(&self) -> impl Iterator<Item = usize> + Clone {
        self.members.iter().map(|member| member.rows)
    }

    /// Forgets members that are gone. Only before any row was gathered.
    pub(in super::super) fn forget_gone(&mut self) {
        self.members.retain(|member| member.job.is_some());
    }

    /// Joins the `rows` of the inputs, as [`Batch::gather`] does with all of them.
    pub(in super::super) fn gather_rows(
        &self,
        rows: &Range<usize>,
        pool: &Pool,
    ) -> Result<Vec<Option<HostTensor>>, Error> {
        let count = self.jobs().next().map_or(0, |job| job.inputs.len());
        (0..count)
            .map(|index| self.join_rows(index, rows, pool))
            .collect()
    }

    fn join_rows(
        &self,
        index: usize,
        rows: &Range<usize>,
        pool: &Pool,
    ) -> Result<Option<HostTensor>, Error> {
        let mut parts: Vec<(&Tensor, Range<usize>)> = Vec::new();
        for (member, of_member) in overlaps(self.member_rows(), rows) {
            let member = &self.members[member];
            let input = member.job.as_ref().and_then(|job| job.inputs.get(index));
            if let Some(Some(input)) = input {
                let row = input.data().len() / member.rows.max(1);
                parts.push((input, of_member.start * row..of_member.end * row));
            }
        }
        let Some((first, _)) = parts.first() else {
            return Ok(None);
        };
        let (datatype, shape) = (first.datatype(), first.shape());
        let shape = shape.with_batch(i64::try_from(rows.len()).unwrap_or(i64::MAX))?;
        let mut slab = pool.lease(parts.iter().map(|(_, bytes)| bytes.len()).sum());
        let mut rest = &mut slab[..];
        for (part, bytes) in parts {
            let (target, after) = rest.split_at_mut(bytes.len());
            target.copy_from_slice(&part.data()[bytes]);
            rest = after;
        }
        Ok(Some(HostTensor {
            datatype,
            shape,
            data: HostData::Slab(slab),
        }))
    }

    /// Answers every job from the outputs of pieces, as [`Batch::answer`] does from those of all
    /// rows. Joined outputs lie in slabs of `pool`.
    pub(in super::super) fn answer_pieces<K: Send + 'static>(
        mut self,
        pieces: Vec<(Range<usize>, Vec<HostTensor>)>,
        signature: &Signature,
        stages: Stages,
        (pool, keep): (&Pool, impl Fn(usize) -> K),
    ) {
        let shares_memory = self.shares_memory(signature);
        match self.join_pieces(pieces, &signature.outputs, pool, &keep) {
            Ok(answers) => {
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
            Err(error) => self.fail(&error),
        }
    }

    /// Returns the outputs of each member.
    fn join_pieces<K: Send + 'static>(
        &self,
        pieces: Vec<(Range<usize>, Vec<HostTensor>)>,
        specs: &[TensorSpec],
        pool: &Pool,
        keep: &impl Fn(usize) -> K,
    ) -> Result<Vec<Vec<Tensor>>, Error> {
        // By member and output: its parts, in the order of pieces.
        let mut parts: Vec<Vec<Vec<Tensor>>> = self
            .member_rows()
            .map(|_| specs.iter().map(|_| Vec::new()).collect())
            .collect();
        for (rows, outputs) in pieces {
            let (members, rows): (Vec<usize>, Vec<usize>) = overlaps(self.member_rows(), &rows)
                .map(|(member, rows)| (member, rows.len()))
                .unzip();
            for (index, (output, spec)) in outputs.into_iter().zip(specs).enumerate() {
                let of_members = split(output, spec, Some(&rows), keep)?;
                for (&member, part) in members.iter().zip(of_members) {
                    parts[member][index].push(part);
                }
            }
        }
        parts
            .into_iter()
            .map(|outputs| {
                let joined = outputs.into_iter().map(|parts| join(parts, pool, keep));
                joined.collect()
            })
            .collect()
    }
}

/// Returns the members whose rows lie in `rows`, and which rows of theirs.
fn overlaps(
    members: impl Iterator<Item = usize>,
    rows: &Range<usize>,
) -> impl Iterator<Item = (usize, Range<usize>)> {
    let rows = rows.clone();
    let mut end = 0;
    members.enumerate().filter_map(move |(index, count)| {
        let begin = end;
        end += count;
        let (from, to) = (begin.max(rows.start), end.min(rows.end));
        (from < to).then(|| (index, from - begin..to - begin))
    })
}

/// Checks that parts of an output have rows of one shape.
fn check_rows(parts: &[Tensor]) -> Result<(), Error> {
    fn row(part: &Tensor) -> Option<&[i64]> {
        part.shape().dims().get(1..)
    }
    let mut pairs = parts.windows(2);
    let Some(pair) = pairs.find(|pair| row(&pair[0]) != row(&pair[1])) else {
        return Ok(());
    };
    let [one, other] = [&pair[0], &pair[1]].map(Tensor::shape);
    Err(Error::Model(model::Error::Output {
        name: pair[0].name().to_owned(),
        actual: format!("of shape {one} in one piece of a batch and {other} in another"),
        expected: "rows of one shape; write -1 in dims where they vary".to_owned(),
    }))
}

/// Joins the parts of a job's output.
fn join<K: Send + 'static>(
    mut parts: Vec<Tensor>,
    pool: &Pool,
    keep: &impl Fn(usize) -> K,
) -> Result<Tensor, Error> {
    if parts.len() == 1
        && let Some(whole) = parts.pop()
    {
        return Ok(whole);
    }
    check_rows(&parts)?;
    let mut slab = pool.lease(parts.iter().map(|part| part.data().len()).sum());
    let mut rest = &mut slab[..];
    let mut rows = 0;
    for part in &parts {
        let (target, after) = rest.split_at_mut(part.data().len());
        target.copy_from_slice(part.data());
        rest = after;
        rows += part.shape().dims().first().copied().unwrap_or(0);
    }
    // A member has rows, and each of them lies in a piece.
    let (name, datatype, shape, _) = parts.pop().ok_or(Error::Lost)?.into_parts();
    let held = keep(slab.len());
    let bytes = HostData::Slab(slab).into_bytes(held);
    Ok(Tensor::new(name, datatype, shape.with_batch(rows)?, bytes)?)
}
