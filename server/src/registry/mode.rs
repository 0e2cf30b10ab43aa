//! How the batches of one model run, where its configuration says so:
//! `parameters { key: "FOREBAY_EXECUTOR_MODE" value { string_value: "inline" } }`.

use crate::{
    executor::{self, Mode},
    repository::ModelSettings,
};

const PARAMETER: &str = "FOREBAY_EXECUTOR_MODE";

/// The configuration names no mode.
#[derive(Debug, thiserror::Error)]
#[error("parameters.{PARAMETER}: there is no mode '{0}'; write auto, inline or stages")]
pub struct Unknown(String);

/// Returns `config` with the mode that the model's own configuration names, if it names one.
pub(super) fn own(
    settings: &ModelSettings,
    config: executor::Config,
) -> Result<executor::Config, Unknown> {
    let mode = match settings.parameters.get(PARAMETER).map(String::as_str) {
        None => config.mode,
        Some("auto") => Mode::Auto,
        Some("inline") => Mode::Inline,
        Some("stages") => Mode::Stages,
        Some(other) => return Err(Unknown(other.to_owned())),
    };
    Ok(executor::Config { mode, ..config })
}
