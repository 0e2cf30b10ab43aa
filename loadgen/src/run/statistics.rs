//! What a model's own statistics gained during a run.

use std::{
    io::{self, Write},
    time::Duration,
};

use forebay_client::{Client, DurationTotal, ModelStatistics};
use tokio::{task::JoinHandle, time};

use crate::report::{MeanReport, StatisticsReport};

/// Time that the server may take to tell them. One that hangs must not take the report with it.
const ANSWER: Duration = Duration::from_secs(2);

/// The statistics at the end of the warm-up, from which on they are of interest.
#[derive(Debug)]
pub(super) enum Snapshot {
    /// There was no warm-up.
    Taken(Option<Statistics>),
    /// The warm-up goes on.
    Pending(JoinHandle<Option<Statistics>>),
}

impl Snapshot {
    /// Asks now, or when a warm-up that begins now is over.
    pub(super) async fn after(warmup: Duration, client: &Client, model: &str) -> Self {
        if warmup.is_zero() {
            return Self::Taken(Statistics::ask(client, model, ANSWER).await);
        }
        let (client, model) = (client.clone(), model.to_owned());
        Self::Pending(tokio::spawn(async move {
            time::sleep(warmup).await;
            Statistics::ask(&client, &model, ANSWER).await
        }))
    }

    /// Returns what came since, or `None` if the server keeps no statistics, does not tell them in
    /// time, or the run was stopped in its warm-up.
    pub(super) async fn gained(self, client: &Client, model: &str) -> Option<StatisticsReport> {
        let before = match self {
            Self::Taken(statistics) => statistics?,
            Self::Pending(task) if task.is_finished() => task.await.ok()??,
            Self::Pending(task) => {
                task.abort();
                return None;
            }
        };
        let after = Statistics::ask(client, model, ANSWER).await?;
        after.since(before)
    }
}

/// The sums over all versions of a model. Another client's requests are in them too.
#[derive(Debug, Clone, Default)]
pub(super) struct Statistics(Box<ModelStatistics>);

impl Statistics {
    /// Asks the server, which may not keep statistics. That it does not answer `within` some time is
    /// told at once.
    async fn ask(client: &Client, model: &str, within: Duration) -> Option<Self> {
        let Ok(asked) = time::timeout(within, client.model_statistics(model)).await else {
            // With stderr gone, nobody reads it.
            let _ = writeln!(
                io::stderr(),
                "the server did not tell its statistics within {within:?}; the report is without them"
            );
            return None;
        };
        Some(Self::sum(&asked.ok()?))
    }

    fn sum(versions: &[ModelStatistics]) -> Self {
        let mut sum = ModelStatistics::default();
        for version in versions {
            sum.inference_count += version.inference_count;
            sum.execution_count += version.execution_count;
            for (total, part) in totals(&mut sum)
                .into_iter()
                .zip(totals(&mut version.clone()))
            {
                total.count += part.count;
                total.total += part.total;
            }
        }
        Self(Box::new(sum))
    }

    /// Returns what came since `before`, or `None` if the model was loaded anew meanwhile, which
    /// starts its counts from 0.
    pub(super) fn since(mut self, mut before: Self) -> Option<StatisticsReport> {
        let inferences = self
            .0
            .inference_count
            .checked_sub(before.0.inference_count)?;
        let executions = self
            .0
            .execution_count
            .checked_sub(before.0.execution_count)?;
        for (total, earlier) in totals(&mut self.0).into_iter().zip(totals(&mut before.0)) {
            total.count = total.count.checked_sub(earlier.count)?;
            total.total = total.total.checked_sub(earlier.total)?;
        }
        let gained = self.0;
        let stages = [
            ("queue", gained.queue),
            ("compute input", gained.compute_input),
            ("compute infer", gained.compute_infer),
            ("compute output", gained.compute_output),
        ];
        Some(StatisticsReport {
            success: gained.success.count,
            fail: gained.fail.count,
            inferences,
            executions,
            mean_batch: (executions > 0).then(|| inferences as f64 / executions as f64),
            stages: stages
                .into_iter()
                .map(|(stage, total)| MeanReport {
                    stage: stage.to_owned(),
                    mean_ms: mean_ms(total),
                })
                .collect(),
        })
    }
}

fn totals(statistics: &mut ModelStatistics) -> [&mut DurationTotal; 6] {
    [
        &mut statistics.success,
        &mut statistics.fail,
        &mut statistics.queue,
        &mut statistics.compute_input,
        &mut statistics.compute_infer,
        &mut statistics.compute_output,
    ]
}

fn mean_ms(total: DurationTotal) -> f64 {
    let DurationTotal { count, total } = total;
    match count {
        0 => 0.0,
        count => total.as_secs_f64() * 1e3 / count as f64,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn version(count: u64) -> ModelStatistics {
        ModelStatistics {
            inference_count: 4 * count,
            execution_count: count,
            queue: DurationTotal {
                count,
                total: Duration::from_millis(3 * count),
            },
            ..ModelStatistics::default()
        }
    }

    #[test]
    fn means_are_of_what_was_gained_over_all_versions() {
        let before = Statistics::sum(&[version(10), version(5)]);
        let after = Statistics::sum(&[version(30), version(5)]);
        let gained = after.clone().since(before.clone()).unwrap();
        assert_eq!(
            (gained.inferences, gained.executions, gained.mean_batch),
            (80, 20, Some(4.0))
        );
        assert_eq!(
            gained.stages[0],
            MeanReport {
                stage: "queue".to_owned(),
                mean_ms: 3.0
            }
        );
        assert_eq!(gained.stages[1].mean_ms, 0.0);
        assert_eq!(before.since(after), None);
    }

    #[tokio::test]
    async fn a_server_that_answers_nothing_has_no_statistics() {
        // The kernel takes the connection, and nobody reads from it.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let client = Client::connect(endpoint).await.unwrap();
        let told = Statistics::ask(&client, "m", Duration::from_millis(20)).await;
        assert!(told.is_none(), "{told:?}");
    }
}
