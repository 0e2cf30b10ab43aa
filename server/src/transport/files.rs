//! Open files: each connection takes one, and the limit on them is often lower than what may connect.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files beside connections: models, disks for what overflows, devices, telemetry.
const OTHERS: u64 = 256;

/// Raises the limit on open files for `connections` as far as the system lets this process. Returns how many
/// connections there are files for.
pub fn with_files_for(connections: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let (limit, taken) = divide(current, maximum, connections);
    if limit != current {
        let raised = Rlimit {
            current: limit,
            maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, ?current, "the limit on open files cannot be raised");
            return divide(current, current, connections).1;
        }
    }
    if taken < connections {
        tracing::warn!(
            "transport.max_connections is {connections}, but at most {} files may be open: \
             {taken} connections are taken; raise the limit (`ulimit -Hn`, LimitNOFILE)",
            limit.unwrap_or(u64::MAX)
        );
    }
    taken
}

/// Returns the limit to set and how many of `connections` it has room for. `None` is no limit.
fn divide(current: Option<u64>, maximum: Option<u64>, connections: usize) -> (Option<u64>, usize) {
    let wanted = (connections as u64).saturating_add(OTHERS);
    let limit = match (current, maximum) {
        (Some(current), Some(maximum)) => Some(current.max(wanted.min(maximum))),
        (Some(current), None) => Some(current.max(wanted)),
        (None, _) => None,
    };
    let room = limit.map_or(u64::MAX, |limit| limit.saturating_sub(OTHERS).max(1));
    (
        limit,
        connections.min(usize::try_from(room).unwrap_or(usize::MAX)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_raised_no_further_than_is_needed_and_allowed() {
        for (current, maximum, expected) in [
            (Some(1024), Some(1 << 20), (Some(4352), 4096)),
            (Some(1024), None, (Some(4352), 4096)),
            (Some(1024), Some(4096), (Some(4096), 3840)),
            (Some(8192), Some(8192), (Some(8192), 4096)),
            (Some(100), Some(100), (Some(100), 1)),
            (None, None, (None, 4096)),
        ] {
            assert_eq!(
                divide(current, maximum, 4096),
                expected,
                "{current:?} {maximum:?}"
            );
        }
    }
}
