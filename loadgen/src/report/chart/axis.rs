//! Where values lie on an axis, and which of them are named.

/// Above this ratio of largest to smallest, an axis is logarithmic.
const WIDE: f64 = 40.0;

/// An axis: a range, a scale, and what its values mean.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Axis {
    label: &'static str,
    unit: &'static str,
    scale: Scale,
    low: f64,
    high: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scale {
    Linear,
    Log,
    /// Fractions, by how few samples lie above: 0, 0.9 and 0.99 are equally far apart.
    Percentile,
}

impl Axis {
    /// Time from 0 to `end` seconds.
    pub(crate) fn seconds(end: f64) -> Self {
        Self {
            label: "time, s",
            unit: " s",
            scale: Scale::Linear,
            low: 0.0,
            high: end.max(0.001),
        }
    }

    /// A rate from 0 to `most`.
    pub(crate) fn rate(most: f64) -> Self {
        Self {
            label: "requests/s",
            unit: "/s",
            scale: Scale::Linear,
            low: 0.0,
            high: most.max(1.0) * 1.08,
        }
    }

    /// Latencies between two extremes, on a logarithmic scale if they are far apart.
    pub(crate) fn millis(least: f64, most: f64) -> Self {
        let least = least.max(1e-6);
        let (label, unit) = ("latency, ms", " ms");
        if most / least > WIDE {
            let low = 10f64.powf(least.log10().floor());
            let high = 10f64.powf(most.log10().ceil());
            Self {
                label,
                unit,
                scale: Scale::Log,
                low,
                high,
            }
        } else {
            Self {
                label,
                unit,
                scale: Scale::Linear,
                low: 0.0,
                high: most.max(least) * 1.08,
            }
        }
    }

    /// Fractions from 0 to `most`, which is below 1.
    pub(crate) fn percentile(most: f64) -> Self {
        let high = most.clamp(0.9, 0.999_999_9);
        Self {
            label: "percentile",
            unit: "",
            scale: Scale::Percentile,
            low: 0.0,
            high,
        }
    }

    pub(crate) fn label(&self) -> &'static str {
        self.label
    }

    /// Returns where `value` lies, from 0 to 1; values outside lie on the border.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let (low, high) = (self.warp(self.low), self.warp(self.high));
        ((self.warp(value) - low) / (high - low)).clamp(0.0, 1.0)
    }

    /// Returns the values to name, with their names.
    pub(crate) fn ticks(&self) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Linear => self.even_ticks(),
            Scale::Log => {
                let decades = std::iter::successors(Some(self.low), |value| Some(value * 10.0));
                let inside = decades.take_while(|value| *value <= self.high * 1.01);
                inside.map(|value| (value, plain(value))).collect()
            }
            Scale::Percentile => {
                let known = [
                    (0.0, "0"),
                    (0.5, "50"),
                    (0.9, "90"),
                    (0.99, "99"),
                    (0.999, "99.9"),
                    (0.9999, "99.99"),
                    (0.99999, "99.999"),
                ];
                let inside = known.iter().filter(|(value, _)| *value <= self.high);
                inside
                    .map(|(value, name)| (*value, (*name).to_owned()))
                    .collect()
            }
        }
    }

    /// Returns `value` as a reader wants it.
    pub(crate) fn value(&self, value: f64) -> String {
        match self.scale {
            Scale::Percentile => format!("p{:.4}", value * 100.0),
            _ => format!("{}{}", plain(value), self.unit),
        }
    }

    fn warp(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(self.low).ln(),
            Scale::Percentile => -(1.0 - value.min(self.high)).ln(),
        }
    }

    fn even_ticks(&self) -> Vec<(f64, String)> {
        let rough = (self.high - self.low) / 8.0;
        let decade = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .iter()
            .map(|factor| factor * decade)
            .find(|step| *step >= rough)
            .unwrap_or(rough);
        (0u32..)
            .map(|position| self.low + f64::from(position) * step)
            .take_while(|value| *value <= self.high)
            .map(|value| (value, plain(value)))
            .collect()
    }
}

/// Returns a number without digits that say nothing.
fn plain(value: f64) -> String {
    let digits = match value.abs() {
        100.0.. => 0,
        1.0.. => 2,
        0.01.. => 3,
        _ => 5,
    };
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(axis: &Axis) -> Vec<String> {
        axis.ticks().into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(names(&Axis::seconds(10.0)), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(
            names(&Axis::millis(0.8, 950.0)),
            ["0.1", "1", "10", "100", "1000"]
        );
        assert_eq!(
            names(&Axis::percentile(0.9995)),
            ["0", "50", "90", "99", "99.9"]
        );
    }

    #[test]
    fn each_nine_is_equally_far_from_the_next() {
        let axis = Axis::percentile(0.999);
        let places = [0.0, 0.9, 0.99, 0.999].map(|value| axis.place(value));
        for (place, expected) in places.iter().zip([0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0]) {
            assert!((place - expected).abs() < 1e-9, "{places:?}");
        }
    }
}
