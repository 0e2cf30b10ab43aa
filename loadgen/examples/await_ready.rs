//! `await_ready ENDPOINT MODEL...` ends when the server says that each of the models is ready: one
//! measure of a start for servers that announce theirs in different ways, or not at all.

use std::{env, time::Duration};

use anyhow::{Context as _, ensure};
use forebay_client::Client;
use tokio::time;

/// How often the server is asked: a part of the shortest start there is.
const LOOK: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = env::args().skip(1);
    let endpoint = arguments.next().context("name an endpoint")?;
    let models: Vec<String> = arguments.collect();
    ensure!(!models.is_empty(), "name the models to wait for");
    time::timeout(PATIENCE, ready(&endpoint, &models))
        .await
        .with_context(|| format!("{models:?} are not ready after {PATIENCE:?}"))
}

/// Asks until every model is ready. A server that does not answer yet is one that starts.
async fn ready(endpoint: &str, models: &[String]) {
    let mut looks = time::interval(LOOK);
    let client = loop {
        looks.tick().await;
        if let Ok(client) = Client::connect(endpoint).await {
            break client;
        }
    };
    for model in models {
        while !client.model_ready(model).await.unwrap_or(false) {
            looks.tick().await;
        }
    }
}
