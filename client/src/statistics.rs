//! What a server counts of its models and devices.
//!
//! Invariant: what a server does not send is absent here, never a zero that could pass for a
//! measurement.

use std::time::Duration;

use forebay_proto::inference::{
    ForebayDeviceStatistics, ForebayPipelineStatistics, InferBatchStatistics, InferStatistics,
    ModelStatisticsResponse, StatisticDuration,
};

/// What a server has done, and on what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Each version of each model asked for.
    pub models: Vec<ModelStatistics>,
    /// The devices that models run on. Empty where the server does not tell: only Forebay does.
    pub devices: Vec<DeviceStatistics>,
}

/// What a version of a model has done since it was loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelStatistics {
    /// The model.
    pub name: String,
    /// The version, in decimal.
    pub version: String,
    /// Inferences, where a batch of eight counts as eight.
    pub inference_count: u64,
    /// Executions, where a batch of eight counts as one.
    pub execution_count: u64,
    /// Requests that were answered.
    pub success: DurationTotal,
    /// Requests that failed.
    pub fail: DurationTotal,
    /// Time in the queue.
    pub queue: DurationTotal,
    /// Time to bring inputs to the device.
    pub compute_input: DurationTotal,
    /// Time in the model.
    pub compute_infer: DurationTotal,
    /// Time to bring outputs back.
    pub compute_output: DurationTotal,
    /// The batches that were executed, by size.
    pub batches: Vec<BatchStatistics>,
    /// What the pipelines did, where the server tells: only Forebay does.
    pub pipeline: Option<PipelineStatistics>,
}

/// What the batches of one size took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BatchStatistics {
    /// Rows.
    pub batch_size: u64,
    /// Time to bring inputs to the device.
    pub compute_input: DurationTotal,
    /// Time in the model.
    pub compute_infer: DurationTotal,
    /// Time to bring outputs back.
    pub compute_output: DurationTotal,
    /// How they were executed, where the server tells: only Forebay does.
    pub paths: Option<BatchPaths>,
}

/// How many batches went which way through the executor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BatchPaths {
    /// One thread ran them from start to end.
    pub inline: u64,
    /// They ran through the stages.
    pub staged: u64,
    /// They were cut, so that their copies overlap their own pass.
    pub cut: u64,
}

/// What the pipelines of a model's instances did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PipelineStatistics {
    /// Time in which at least one batch was between the scheduler and its replies.
    pub busy: Duration,
    /// Time of copies to the device, added up over batches.
    pub h2d: Duration,
    /// Time of passes, added up over batches.
    pub compute: Duration,
    /// Time of copies from the device, added up over batches.
    pub d2h: Duration,
    /// The part of [`busy`](Self::busy) in which at least one pass ran.
    pub computing: Duration,
}

/// A device that models run on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceStatistics {
    /// Its name, such as `cpu` or `cuda:0`.
    pub name: String,
    /// What it is, as its driver tells it.
    pub model: String,
    /// Percent of the driver's last sampling period in which a kernel ran, where it tells.
    pub utilization_percent: Option<u32>,
    /// Its memory.
    pub memory_total_bytes: u64,
    /// What of it is in use, by anyone.
    pub memory_used_bytes: u64,
    /// Page-locked memory of the host that the server holds for copies.
    pub pinned_bytes: u64,
    /// How often such memory was ever allocated.
    pub pinned_allocations: u64,
}

/// How often something happened and how long it took in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DurationTotal {
    /// How often.
    pub count: u64,
    /// How long in all.
    pub total: Duration,
}

impl PipelineStatistics {
    /// Returns what came since `before`, or `None` where the counts went back, as they do when the
    /// model is loaded anew.
    pub fn since(self, before: Self) -> Option<Self> {
        Some(Self {
            busy: self.busy.checked_sub(before.busy)?,
            h2d: self.h2d.checked_sub(before.h2d)?,
            compute: self.compute.checked_sub(before.compute)?,
            d2h: self.d2h.checked_sub(before.d2h)?,
            computing: self.computing.checked_sub(before.computing)?,
        })
    }

    /// Returns the times of all stages over the time that the pipelines were busy: 1 does one thing
    /// at a time. `None` where they were never busy.
    pub fn overlap(&self) -> Option<f64> {
        self.of_busy(self.h2d + self.compute + self.d2h)
    }

    /// Returns the part of the busy time in which a pass ran. `None` where they were never busy.
    pub fn computing_fraction(&self) -> Option<f64> {
        self.of_busy(self.computing)
    }

    fn of_busy(&self, part: Duration) -> Option<f64> {
        (!self.busy.is_zero()).then(|| part.as_secs_f64() / self.busy.as_secs_f64())
    }
}

impl From<ModelStatisticsResponse> for Statistics {
    fn from(response: ModelStatisticsResponse) -> Self {
        Self {
            models: response.model_stats.into_iter().map(Into::into).collect(),
            devices: response
                .forebay_devices
                .into_iter()
                .map(Into::into)
                .collect(),
        }
    }
}

impl From<forebay_proto::inference::ModelStatistics> for ModelStatistics {
    fn from(statistics: forebay_proto::inference::ModelStatistics) -> Self {
        let InferStatistics {
            success,
            fail,
            queue,
            compute_input,
            compute_infer,
            compute_output,
            ..
        } = statistics.inference_stats.unwrap_or_default();
        Self {
            name: statistics.name,
            version: statistics.version,
            inference_count: statistics.inference_count,
            execution_count: statistics.execution_count,
            success: success.into(),
            fail: fail.into(),
            queue: queue.into(),
            compute_input: compute_input.into(),
            compute_infer: compute_infer.into(),
            compute_output: compute_output.into(),
            batches: statistics.batch_stats.into_iter().map(Into::into).collect(),
            pipeline: statistics.forebay_pipeline.map(Into::into),
        }
    }
}

impl From<InferBatchStatistics> for BatchStatistics {
    fn from(batch: InferBatchStatistics) -> Self {
        let paths = BatchPaths {
            inline: batch.forebay_inline_count,
            staged: batch.forebay_staged_count,
            cut: batch.forebay_cut_count,
        };
        Self {
            batch_size: batch.batch_size,
            compute_input: batch.compute_input.into(),
            compute_infer: batch.compute_infer.into(),
            compute_output: batch.compute_output.into(),
            // A batch that is listed was executed, and so went one of the ways.
            paths: (paths != BatchPaths::default()).then_some(paths),
        }
    }
}

impl From<ForebayPipelineStatistics> for PipelineStatistics {
    fn from(pipeline: ForebayPipelineStatistics) -> Self {
        Self {
            busy: Duration::from_nanos(pipeline.busy_ns),
            h2d: Duration::from_nanos(pipeline.h2d_ns),
            compute: Duration::from_nanos(pipeline.compute_ns),
            d2h: Duration::from_nanos(pipeline.d2h_ns),
            computing: Duration::from_nanos(pipeline.computing_ns),
        }
    }
}

impl From<ForebayDeviceStatistics> for DeviceStatistics {
    fn from(device: ForebayDeviceStatistics) -> Self {
        Self {
            name: device.name,
            model: device.model,
            utilization_percent: device.utilization_percent,
            memory_total_bytes: device.memory_total_bytes,
            memory_used_bytes: device.memory_used_bytes,
            pinned_bytes: device.pinned_bytes,
            pinned_allocations: device.pinned_allocations,
        }
    }
}

impl From<Option<StatisticDuration>> for DurationTotal {
    fn from(duration: Option<StatisticDuration>) -> Self {
        let StatisticDuration { count, ns } = duration.unwrap_or_default();
        Self {
            count,
            total: Duration::from_nanos(ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_does_not_tell_is_absent() {
        let batch = InferBatchStatistics {
            batch_size: 4,
            ..InferBatchStatistics::default()
        };
        let other = Statistics::from(ModelStatisticsResponse {
            model_stats: vec![forebay_proto::inference::ModelStatistics {
                batch_stats: vec![batch],
                ..Default::default()
            }],
            ..Default::default()
        });
        assert_eq!(other.models[0].pipeline, None);
        assert_eq!(other.models[0].batches[0].paths, None);
        assert_eq!(other.devices, []);
        let ours = BatchStatistics::from(InferBatchStatistics {
            forebay_cut_count: 2,
            ..batch
        });
        let cut = BatchPaths {
            cut: 2,
            ..BatchPaths::default()
        };
        assert_eq!((ours.batch_size, ours.paths), (4, Some(cut)));
    }

    #[test]
    fn overlap_and_computing_are_of_the_busy_time_gained() {
        let at = |ms: u64| PipelineStatistics {
            busy: Duration::from_millis(20 * ms),
            h2d: Duration::from_millis(6 * ms),
            compute: Duration::from_millis(15 * ms),
            d2h: Duration::from_millis(9 * ms),
            computing: Duration::from_millis(12 * ms),
        };
        let gained = at(5).since(at(3)).unwrap();
        assert_eq!(gained, at(2));
        assert_eq!(gained.overlap(), Some(1.5));
        assert_eq!(gained.computing_fraction(), Some(0.6));
        assert_eq!(at(3).since(at(5)), None);
        assert_eq!(PipelineStatistics::default().overlap(), None);
    }
}
