//! The span `infer` of one request, with its stages.
//!
//! Made by hand and not by `tracing`, whose spans begin when they are made: a request begins when its
//! message asks for memory, and the stages are known only when it is answered.
//!
//! Invariant: all times of a request come from one reading of the wall clock, so that its stages lie
//! within it, in the order in which they ran.

use std::{
    cell::Cell,
    time::{Instant, SystemTime},
};

use opentelemetry::{
    Context, KeyValue,
    trace::{SpanKind, Status, TraceContextExt, Tracer as _},
};
use opentelemetry_sdk::trace::SdkTracer;

use crate::{
    error::Error,
    parking::{Parking, Stays},
    request::Timings,
};

/// The span of one request. It ends when it is dropped, as one that was cancelled unless it is known by
/// then how it ended; without a collector there is none.
#[derive(Debug, Default)]
pub struct RequestSpan(Option<Recording>);

#[derive(Debug)]
struct Recording {
    tracer: SdkTracer,
    /// Holds the span, as the parent of its stages.
    context: Context,
    clock: Clock,
    /// Whether it is known how the request ended.
    is_settled: Cell<bool>,
}

impl RequestSpan {
    /// Begins the span of a request that arrived at `arrived`, as a child of what `parent` holds.
    pub(super) fn begin(
        tracer: SdkTracer,
        parent: Context,
        arrived: Instant,
        attributes: Vec<KeyValue>,
    ) -> Self {
        let clock = Clock::read();
        let span = tracer
            .span_builder("infer")
            .with_kind(SpanKind::Server)
            .with_start_time(clock.at(arrived))
            .with_attributes(attributes);
        let span = tracer.build_with_context(span, &parent);
        Self(Some(Recording {
            tracer,
            context: parent.with_span(span),
            clock,
            is_settled: Cell::new(false),
        }))
    }

    /// Adds the stages of the request, which was answered.
    pub fn record_stages(&self, timings: &Timings) {
        let Some(recording) = &self.0 else {
            return;
        };
        recording.is_settled.set(true);
        let at = |instant| recording.clock.at(instant);
        recording.stage("admit", at(timings.arrived), at(timings.queued));
        if let Some(batched) = timings.batched {
            let queue = recording.open("queue", &recording.context, at(timings.queued));
            if let Some(parking) = &timings.parked {
                recording.parking(&queue, parking);
            }
            queue.span().end_with_timestamp(at(batched));
        }
        if !timings.residency.is_zero() {
            let came = timings.queued + timings.residency;
            recording.stage("residency", at(timings.queued), at(came));
        }
        if let Some(stages) = &timings.stages {
            // The device tells how long a stage took. They end back to back with the last one.
            let ended = at(stages.ended);
            let computed = ended - stages.d2h;
            let uploaded = computed - stages.compute;
            recording.stage("h2d", uploaded - stages.h2d, uploaded);
            recording.stage("compute", uploaded, computed);
            recording.stage("d2h", computed, ended);
        }
    }

    /// Marks the request as failed.
    pub fn fail(&self, error: &Error) {
        if let Some(recording) = &self.0 {
            recording.is_settled.set(true);
            let status = Status::error(error.to_string());
            recording.context.span().set_status(status);
        }
    }
}

impl Recording {
    fn stage(&self, name: &'static str, from: SystemTime, until: SystemTime) {
        let span = self.open(name, &self.context, from);
        span.span().end_with_timestamp(until);
    }

    /// Shows the last time on disk; the times before are an attribute.
    fn parking(&self, queue: &Context, parking: &Parking) {
        let Stays { parked, onboard } = parking.earlier;
        for (name, from, until, earlier) in [
            ("parked", parking.from, parking.fetched, parked),
            ("onboard", parking.fetched, parking.until, onboard),
        ] {
            let span = self.open(name, queue, self.clock.at(from));
            if !earlier.is_zero() {
                let nanos = i64::try_from(earlier.as_nanos()).unwrap_or(i64::MAX);
                span.span()
                    .set_attribute(KeyValue::new("earlier_ns", nanos));
            }
            span.span().end_with_timestamp(self.clock.at(until));
        }
    }

    /// Begins a span, and returns it as a parent of others.
    fn open(&self, name: &'static str, parent: &Context, from: SystemTime) -> Context {
        let span = self
            .tracer
            .span_builder(name)
            .with_kind(SpanKind::Internal)
            .with_start_time(from);
        parent.with_span(self.tracer.build_with_context(span, parent))
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if !self.is_settled.get() {
            let gone = Status::error(Error::Cancelled.to_string());
            self.context.span().set_status(gone);
        }
        let now = self.clock.at(Instant::now());
        self.context.span().end_with_timestamp(now);
    }
}

/// Tells the wall-clock time of an instant.
#[derive(Debug, Clone, Copy)]
struct Clock {
    instant: Instant,
    wall: SystemTime,
}

impl Clock {
    fn read() -> Self {
        Self {
            instant: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    fn at(&self, instant: Instant) -> SystemTime {
        match instant.checked_duration_since(self.instant) {
            Some(after) => self.wall + after,
            None => self.wall - self.instant.saturating_duration_since(instant),
        }
    }
}
