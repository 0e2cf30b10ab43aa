//! What the records of a run say, in numbers that can be defended.

mod backlog;
mod counts;
mod failing;
mod latencies;
mod quantile;
mod series;
mod summary;
mod throughput;

pub use backlog::Backlog;
pub use counts::{Counts, Unaccounted};
pub use failing::Failing;
pub use latencies::{Latencies, Percentile};
pub use quantile::{Bounds, QUANTILES, Quantile};
pub use series::{Window, windows};
pub use summary::{Span, StageLatencies, Summary};
pub use throughput::{Basis, Offering, Throughput};
