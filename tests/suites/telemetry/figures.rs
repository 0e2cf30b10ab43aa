//! Figures of one export, as a test asks for them.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::{
    common::v1::{KeyValue, any_value},
    metrics::v1::{AggregationTemporality, Metric, metric::Data, number_data_point::Value},
};

/// Figures by name and attributes, such as `forebay.spill.io{direction=read}`.
#[derive(Debug, Default)]
pub(super) struct Figures(BTreeMap<String, f64>);

impl Figures {
    /// Reads an export, all of whose figures must be sums since the start.
    pub(super) fn read(metrics: impl Iterator<Item = Metric>) -> Self {
        let mut figures = BTreeMap::new();
        for metric in metrics {
            let name = metric.name;
            let Some(Data::Sum(sum)) = metric.data else {
                panic!("{name} is no sum");
            };
            let cumulative = AggregationTemporality::Cumulative;
            assert_eq!(sum.aggregation_temporality, cumulative as i32, "{name}");
            for point in sum.data_points {
                let value = match point.value.unwrap() {
                    Value::AsDouble(value) => value,
                    Value::AsInt(value) => value as f64,
                };
                let key = format!("{name}{{{}}}", listed(point.attributes));
                assert_eq!(figures.insert(key, value), None, "{name} twice");
            }
        }
        Self(figures)
    }

    /// Returns a figure.
    pub(super) fn get(&self, key: &str) -> f64 {
        let found = self.0.get(key);
        *found.unwrap_or_else(|| panic!("there is no {key} in {self:#?}"))
    }

    /// Returns the figures that begin with `prefix`.
    pub(super) fn starting<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, f64)> + 'a {
        let all = self.0.iter().map(|(key, value)| (key.as_str(), *value));
        all.filter(move |(key, _)| key.starts_with(prefix))
    }
}

fn listed(attributes: Vec<KeyValue>) -> String {
    let text = |attribute: KeyValue| {
        let value = attribute.value.and_then(|value| value.value);
        let Some(any_value::Value::StringValue(value)) = value else {
            panic!("{} is no text", attribute.key);
        };
        format!("{}={value}", attribute.key)
    };
    let mut texts: Vec<_> = attributes.into_iter().map(text).collect();
    texts.sort_unstable();
    texts.join(",")
}
