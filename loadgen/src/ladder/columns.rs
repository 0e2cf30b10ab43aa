//! Finds out which columns are served, and makes what is sent to them before any clock starts.

use anyhow::{Context, Result};
use forebay_client::{Client, ModelMetadata, Request, TensorMetadata};

use crate::{
    cli::{Column, LadderArgs},
    payload::{Options, Pool},
};

/// A column, and what is sent to it or why nothing is.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) column: Column,
    /// What the server calls the kind of the model; empty where it is not there.
    pub(super) platform: String,
    /// A pool for each batch size, or why the model is not there.
    pub(super) pools: Result<Vec<Pool>, String>,
}

impl Prepared {
    /// Returns `count` requests for the `row`th batch size, and one for warm-up before them.
    pub(super) fn requests(&self, row: usize, count: usize) -> Option<(Request, Vec<Request>)> {
        let pool = self.pools.as_ref().ok()?.get(row)?;
        let request = |number: usize| {
            let mut request = pool.request(number as u64, None).with_server_timings();
            request.set_id(number.to_string());
            request
        };
        Some((request(0), (0..count).map(request).collect()))
    }
}

/// Asks for each column's signature and makes its requests. Columns with the same inputs share the
/// tensors.
pub(super) async fn prepare(
    client: &Client,
    columns: &[Column],
    args: &LadderArgs,
) -> Result<Vec<Prepared>> {
    let mut made: Vec<(Vec<TensorMetadata>, Vec<Pool>)> = Vec::new();
    let mut prepared = Vec::new();
    for column in columns {
        let mut platform = String::new();
        let pools = match ready(client, &column.model).await {
            Err(reason) => Err(reason),
            Ok(model) => {
                platform.clone_from(&model.platform);
                if !made.iter().any(|(inputs, _)| *inputs == model.inputs) {
                    let pools = pools(&model, args).with_context(|| {
                        format!("make the payloads for model '{}'", column.model)
                    })?;
                    made.push((model.inputs.clone(), pools));
                }
                let same = made.iter().filter(|(inputs, _)| *inputs == model.inputs);
                let pools = same.flat_map(|(_, pools)| pools);
                Ok(pools.map(|pool| pool.for_model(&model.name)).collect())
            }
        };
        prepared.push(Prepared {
            column: column.clone(),
            platform,
            pools,
        });
    }
    Ok(prepared)
}

fn pools(model: &ModelMetadata, args: &LadderArgs) -> Result<Vec<Pool>> {
    let shapes = args.shapes.iter();
    let mut options = Options {
        shapes: shapes
            .map(|shape| (shape.input.clone(), shape.dims.clone()))
            .collect(),
        variants: args.variants,
        seed: args.seed,
        ..Options::default()
    };
    let pool = |batch: &u32| {
        options.batch = Some(i64::from(*batch));
        Ok(Pool::build(model, &options)?)
    };
    args.batches.iter().map(pool).collect()
}

/// Returns the signature of `model`, or why it cannot be asked.
async fn ready(client: &Client, model: &str) -> Result<ModelMetadata, String> {
    match client.model_ready(model).await {
        Ok(true) => client
            .model_metadata(model)
            .await
            .map_err(|error| error.to_string()),
        Ok(false) => Err(why(client, model).await),
        // Some servers answer so for a model that does not exist.
        Err(error) => Err(error.to_string()),
    }
}

/// Returns what the server's index says of a model that is not ready.
async fn why(client: &Client, model: &str) -> String {
    let index = client.repository_index().await.unwrap_or_default();
    match index.iter().find(|entry| entry.name == model) {
        None => "no such model".to_owned(),
        Some(entry) if entry.reason.is_empty() => format!("it is {}", entry.state),
        Some(entry) => format!("it is {}: {}", entry.state, entry.reason),
    }
}
