//! `loadgen parity`: the answers of two servers to the same requests.
//!
//! Invariant: an answer that is not a number, or is missing, or has another shape or datatype,
//! differs, whatever the tolerance.

mod difference;

use std::io::Write;

use anyhow::{Context, Result};
use forebay_client::{Client, Request};
use serde::{Deserialize, Serialize};

pub use self::difference::Difference;
use crate::{
    cli::ParityArgs,
    output::ReportFile,
    payload::{Options, Pool},
};

/// The schema's name and number.
pub const SCHEMA: &str = "forebay-parity/1";

/// How far the answers differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// The server in question.
    pub endpoint: String,
    /// The one that counts as right.
    pub reference: String,
    /// Largest difference allowed, as a part of an output's largest magnitude.
    pub tolerance: f64,
    /// One for each model and batch size.
    pub rows: Vec<Row>,
}

/// One model at one batch size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The model.
    pub model: String,
    /// The batch size.
    pub batch: u32,
    /// Largest difference of any output, as a part of its largest magnitude; null where the
    /// answers cannot be compared.
    pub difference: Option<f64>,
    /// Why they cannot, or which output differs most.
    pub note: String,
    /// Whether the difference is within the tolerance.
    pub passes: bool,
}

impl Report {
    /// Returns whether all answers agree.
    pub fn passes(&self) -> bool {
        self.rows.iter().all(|row| row.passes)
    }
}

/// Asks both servers the same and compares.
///
/// # Errors
/// A server cannot be reached. A model that cannot be asked is a row that does not pass.
pub async fn run(args: &ParityArgs) -> Result<Report> {
    let connect = async |endpoint: &str| {
        let client = Client::connect(endpoint).await;
        client.with_context(|| format!("connect to {endpoint}"))
    };
    let tested = connect(&args.endpoint).await?;
    let reference = connect(&args.reference).await?;
    let mut rows = Vec::new();
    for model in &args.models {
        let right = args.reference_model.as_ref().unwrap_or(model);
        for &batch in &args.batches {
            let pool = pool(&tested, model, batch, args).await;
            let compared = match pool {
                Ok(pool) => compare([&tested, &reference], &pool, [model, right], args).await,
                Err(error) => Err(error),
            };
            rows.push(row(model, batch, compared, args.tolerance));
        }
    }
    Ok(Report {
        schema: SCHEMA.to_owned(),
        endpoint: args.endpoint.clone(),
        reference: args.reference.clone(),
        tolerance: args.tolerance,
        rows,
    })
}

/// Writes the report to the file `json`, if there is one, and as a table to `terminal`.
///
/// # Errors
/// The file or the terminal cannot be written; the other is.
pub fn write(report: &Report, json: Option<ReportFile>, terminal: &mut impl Write) -> Result<()> {
    let printed = write!(terminal, "{}", text(report)).context("print the report");
    printed.and(ReportFile::write_json(json, report))
}

fn text(report: &Report) -> String {
    let mut text = format!(
        "Largest difference as a part of the output's largest finite magnitude; at most {:e} passes:\n\n\
         | model | batch | difference | | |\n|---|---:|---:|---|---|\n",
        report.tolerance
    );
    for row in &report.rows {
        let difference = row
            .difference
            .map_or("n/a".to_owned(), |difference| format!("{difference:.2e}"));
        let verdict = if row.passes { "same" } else { "DIFFERS" };
        let Row {
            model, batch, note, ..
        } = row;
        text += &format!("| {model} | {batch} | {difference} | {verdict} | {note} |\n");
    }
    text
}

async fn pool(client: &Client, model: &str, batch: u32, args: &ParityArgs) -> Result<Pool> {
    let model = client.model_metadata(model).await?;
    let shapes = args.shapes.iter();
    let options = Options {
        shapes: shapes
            .map(|shape| (shape.input.clone(), shape.dims.clone()))
            .collect(),
        batch: Some(i64::from(batch)),
        variants: args.variants,
        timeout: Some(args.timeout),
        seed: args.seed,
        ..Options::default()
    };
    Ok(Pool::build(&model, &options)?)
}

async fn compare(
    clients: [&Client; 2],
    pool: &Pool,
    models: [&str; 2],
    args: &ParityArgs,
) -> Result<Difference> {
    let mut most = Difference::default();
    for number in 0..args.variants as u64 {
        let request = |model: &str| -> Request {
            let mut request = pool.request(number, None);
            request.set_model(model);
            request
        };
        let [tested, right] = [0, 1].map(|one| clients[one].infer(request(models[one])));
        let (tested, right) = tokio::join!(tested, right);
        let right = right.context("ask the reference")?;
        most = most.or(Difference::between(tested?.outputs(), right.outputs())?);
    }
    Ok(most)
}

fn row(model: &str, batch: u32, compared: Result<Difference>, tolerance: f64) -> Row {
    let (difference, note, passes) = match compared {
        Ok(found) => (Some(found.part), found.output, found.part <= tolerance),
        Err(error) => (None, format!("{error:#}"), false),
    };
    Row {
        model: model.to_owned(),
        batch,
        difference,
        note,
        passes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_passes_up_to_its_tolerance_and_never_without_a_figure() {
        let row = |part| {
            let found = Difference {
                part,
                output: "y".to_owned(),
            };
            row("m", 1, Ok(found), 1e-3)
        };
        assert!(row(1e-3).passes && !row(1.1e-3).passes && !row(f64::INFINITY).passes);
        let failed = super::row("m", 1, Err(anyhow::anyhow!("gone")), 1.0);
        assert_eq!((failed.passes, &*failed.note), (false, "gone"));
        assert_eq!(failed.difference, None);
    }
}
