//! Whether a model's weights may leave memory, from its `parameters`: what the configuration of the
//! server says holds where these do not.

use forebay_proto::inference::ModelConfig;

use crate::{
    repository::{Scheduling, faults::Faults},
    residency::Mode,
};

/// The parameter, and its longer name in the manner of Forebay's others.
const NAMES: [&str; 2] = ["model_residency", "FOREBAY_MODEL_RESIDENCY"];

/// Reads what a model says, if it does. With sequences it is pinned: state would be lost.
pub(super) fn read(
    config: &ModelConfig,
    scheduling: &Scheduling,
    faults: &mut Faults,
) -> Option<Mode> {
    let mut said: Option<Mode> = None;
    for name in NAMES {
        let field = format_args!("parameters.{name}");
        let Some(parameter) = config.parameters.get(name) else {
            continue;
        };
        let mode = match parameter.string_value.as_str() {
            "pinned" => Mode::Pinned,
            "lru" => Mode::Lru,
            other => {
                let problem = format_args!("'{other}' is not a residency");
                faults.wrong(field, problem, "write pinned or lru, or remove it");
                continue;
            }
        };
        if said.is_some_and(|before| before != mode) {
            let problem = format_args!("says otherwise than {}", NAMES[0]);
            faults.wrong(field, problem, "remove one of them");
        }
        said = Some(mode);
    }
    match scheduling {
        Scheduling::Sequence(_) if said == Some(Mode::Lru) => {
            faults.wrong(
                "parameters.model_residency",
                "lru would lose the state of open sequences",
                "write pinned, or remove it or sequence_batching",
            );
            None
        }
        Scheduling::Sequence(_) => Some(Mode::Pinned),
        Scheduling::Each | Scheduling::Dynamic(_) => said,
    }
}
