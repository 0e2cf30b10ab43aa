//! How the batches of one model run, from its `parameters`: what the configuration of the server says
//! holds where these do not.

use forebay_proto::inference::ModelConfig;

use crate::{
    executor::{Config, MicroBatches, Mode},
    repository::faults::Faults,
};

/// What a model says of the executor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExecutorSettings {
    /// Whether batches run through the stages.
    pub mode: Option<Mode>,
    /// Whether batches are cut.
    pub micro_batches: Option<MicroBatches>,
}

impl ExecutorSettings {
    /// Returns `config` with what the model says.
    pub fn over(&self, config: Config) -> Config {
        Config {
            mode: self.mode.unwrap_or(config.mode),
            micro_batches: self.micro_batches.unwrap_or(config.micro_batches),
            ..config
        }
    }
}

pub(super) fn read(config: &ModelConfig, faults: &mut Faults) -> ExecutorSettings {
    let text = |name: &str| {
        let parameter = config.parameters.get(name);
        parameter.map(|parameter| parameter.string_value.as_str())
    };
    const MODE: &str = "FOREBAY_EXECUTOR_MODE";
    let mode = match text(MODE) {
        None => None,
        Some("auto") => Some(Mode::Auto),
        Some("inline") => Some(Mode::Inline),
        Some("stages") => Some(Mode::Stages),
        Some(other) => {
            faults.wrong(
                format_args!("parameters.{MODE}"),
                format_args!("'{other}' is not a mode"),
                "write inline, stages or auto, or remove it",
            );
            None
        }
    };
    const MICRO_BATCHES: &str = "FOREBAY_MICRO_BATCHES";
    let micro_batches = text(MICRO_BATCHES).and_then(|text| {
        let read = text.parse::<MicroBatches>().map_err(|error| {
            faults.wrong(
                format_args!("parameters.{MICRO_BATCHES}"),
                error,
                "write auto, off or how many pieces, or remove it",
            );
        });
        read.ok()
    });
    ExecutorSettings {
        mode,
        micro_batches,
    }
}
