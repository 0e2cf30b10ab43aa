//! One figure: its name, and how it is read from a snapshot.
//!
//! Names and units follow OpenTelemetry's conventions: no unit in a name, `By` for bytes, `s` for
//! times, and `{things}` for what is counted.

use opentelemetry::{
    KeyValue, Value,
    metrics::{AsyncInstrument, Meter},
};

use super::snapshots::Reader;

/// A figure of snapshots `S`.
#[derive(Debug)]
pub(super) struct Figure<S> {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    /// What it says, in a sentence.
    pub(super) about: &'static str,
    pub(super) kind: Kind,
    pub(super) read: fn(&S) -> Vec<Point>,
}

/// How a figure moves.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// Only grows.
    Count,
    /// A sum of nanoseconds, which only grows; shown in seconds.
    Time,
    /// Goes up and down, and adds up over attributes.
    Level,
}

/// The value of a figure for some attributes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Point {
    pub(super) value: u64,
    pub(super) attributes: Vec<KeyValue>,
}

impl Point {
    /// Returns the value of a figure.
    pub(super) fn new(value: u64) -> Self {
        Self {
            value,
            attributes: Vec::new(),
        }
    }

    /// Adds an attribute.
    pub(super) fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.attributes.push(KeyValue::new(key, value));
        self
    }
}

/// Returns the one point of a figure without attributes.
pub(super) fn one(value: u64) -> Vec<Point> {
    vec![Point::new(value)]
}

/// Returns the points of a figure that is told for each value of the attribute `key`.
pub(super) fn by<const N: usize>(
    key: &'static str,
    values: [(&'static str, u64); N],
) -> Vec<Point> {
    let point = |(name, value)| Point::new(value).with(key, name);
    values.into_iter().map(point).collect()
}

impl<S: Send + Sync + 'static> Figure<S> {
    /// Has the figure read from a snapshot whenever it is due.
    pub(super) fn register(&self, meter: &Meter, snapshots: Reader<S>) {
        let (name, unit, about) = (self.name, self.unit, self.about);
        let read = self.read;
        let points = move || read(&snapshots.next());
        // The meter keeps what it is to call; nothing is done with the instrument itself.
        match self.kind {
            Kind::Count => {
                let counter = meter.u64_observable_counter(name).with_unit(unit);
                let show = move |to: &dyn AsyncInstrument<u64>| tell(to, points(), |value| value);
                let _kept = counter.with_description(about).with_callback(show).build();
            }
            Kind::Time => {
                let counter = meter.f64_observable_counter(name).with_unit(unit);
                let show = move |to: &dyn AsyncInstrument<f64>| tell(to, points(), seconds);
                let _kept = counter.with_description(about).with_callback(show).build();
            }
            Kind::Level => {
                let level = meter.i64_observable_up_down_counter(name).with_unit(unit);
                let show = move |to: &dyn AsyncInstrument<i64>| tell(to, points(), signed);
                let _kept = level.with_description(about).with_callback(show).build();
            }
        }
    }
}

fn tell<T>(to: &dyn AsyncInstrument<T>, points: Vec<Point>, shown: fn(u64) -> T) {
    for point in points {
        to.observe(shown(point.value), &point.attributes);
    }
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

fn signed(level: u64) -> i64 {
    i64::try_from(level).unwrap_or(i64::MAX)
}
