//! Who has seen what: vector clocks over the streams of the simulated device and the host. Pure.
//!
//! Each stream counts its operations, and knows for every other stream up to which operation it has
//! waited for it. An operation that touches memory is safe only if the operation that wrote the
//! memory is among those its stream has seen.

use std::fmt;

/// A stream, or the host.
pub(super) type Observer = usize;

/// The host as an observer: it sees what it synchronizes with.
pub(super) const HOST: Observer = 0;

/// An operation: the `number`th of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Operation {
    stream: Observer,
    number: u64,
}

/// What was seen at a point in a stream.
#[derive(Debug, Clone)]
pub(super) struct Moment(Vec<u64>);

/// A use of memory that streams and events do not order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hazard {
    /// Who uses the memory, and how.
    pub user: String,
    /// Who writes it.
    pub writer: String,
    /// What would have ordered the two.
    pub mend: &'static str,
}

impl fmt::Display for Hazard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} uses the result of {} {}",
            self.user, self.writer, self.mend
        )
    }
}

/// The clocks of one device.
#[derive(Debug)]
pub(super) struct Clocks {
    /// By observer: the operations of each stream that it has seen.
    seen: Vec<Vec<u64>>,
    names: Vec<String>,
    hazards: Vec<Hazard>,
}

impl Default for Clocks {
    fn default() -> Self {
        Self {
            seen: vec![vec![0]],
            names: vec!["host".to_owned()],
            hazards: Vec::new(),
        }
    }
}

impl Clocks {
    pub(super) fn hazards(&self) -> &[Hazard] {
        &self.hazards
    }

    pub(super) fn add_stream(&mut self, name: &str) -> Observer {
        for seen in &mut self.seen {
            seen.push(0);
        }
        self.seen.push(vec![0; self.seen.len() + 1]);
        self.names.push(name.to_owned());
        self.names.len() - 1
    }

    /// Counts an operation of `stream` that reads what `source` wrote.
    pub(super) fn enqueue(
        &mut self,
        stream: Observer,
        what: &str,
        source: Option<(Operation, &str)>,
    ) -> Result<Operation, Hazard> {
        if let Some((source, wrote)) = source {
            self.read(stream, what, source, wrote)?;
        }
        self.seen[stream][stream] += 1;
        Ok(Operation {
            stream,
            number: self.seen[stream][stream],
        })
    }

    /// Checks that `observer` has seen `source`.
    pub(super) fn read(
        &mut self,
        observer: Observer,
        what: &str,
        source: Operation,
        wrote: &str,
    ) -> Result<(), Hazard> {
        if self.has_seen(observer, source) {
            return Ok(());
        }
        let hazard = Hazard {
            user: format!("a {what} on '{}'", self.names[observer]),
            writer: self.describe(source, wrote),
            mend: "without waiting for an event after it",
        };
        self.report(hazard.clone());
        Err(hazard)
    }

    /// Checks that memory written by `source` is freed after the host knows it to be written.
    pub(super) fn free(&mut self, source: Operation, wrote: &str) {
        if !self.has_seen(HOST, source) {
            let writer = self.describe(source, wrote);
            self.report(Hazard {
                user: "a free by the host".to_owned(),
                writer,
                mend: "before it has synchronized with an event after it",
            });
        }
    }

    pub(super) fn moment(&self, stream: Observer) -> Moment {
        Moment(self.seen[stream].clone())
    }

    /// Lets `observer` see all that was seen at `moment`.
    pub(super) fn join(&mut self, observer: Observer, moment: &Moment) {
        for (seen, at) in self.seen[observer].iter_mut().zip(&moment.0) {
            *seen = (*seen).max(*at);
        }
    }

    fn has_seen(&self, observer: Observer, operation: Operation) -> bool {
        self.seen[observer][operation.stream] >= operation.number
    }

    fn describe(&self, operation: Operation, wrote: &str) -> String {
        format!(
            "{wrote} {} on '{}'",
            operation.number, self.names[operation.stream]
        )
    }

    fn report(&mut self, hazard: Hazard) {
        // Enough to find the fault by; a broken pipeline makes one for every batch.
        const KEEP: usize = 1000;
        if self.hazards.len() < KEEP {
            self.hazards.push(hazard);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_stream_has_seen_another_sees_through_it() {
        let mut clocks = Clocks::default();
        let (a, b, c) = (
            clocks.add_stream("a"),
            clocks.add_stream("b"),
            clocks.add_stream("c"),
        );
        let first = clocks.enqueue(a, "upload", None).unwrap();
        clocks.join(b, &clocks.moment(a));
        let second = clocks
            .enqueue(b, "forward pass", Some((first, "upload")))
            .unwrap();
        clocks.join(c, &clocks.moment(b));
        assert!(clocks.read(c, "download", first, "upload").is_ok());
        assert!(clocks.read(c, "download", second, "forward pass").is_ok());
        let third = clocks.enqueue(a, "upload", None).unwrap();
        let hazard = clocks.read(c, "download", third, "upload").unwrap_err();
        assert!(
            hazard.to_string().contains("'c'") && hazard.to_string().contains("upload 2 on 'a'")
        );
    }
}
