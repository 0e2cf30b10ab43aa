//! Which versions of a model are served: folders named by positive numbers, and the policy that
//! picks among them.

use std::path::PathBuf;

use forebay_proto::inference::{
    ModelVersionPolicy,
    model_version_policy::{Latest, PolicyChoice},
};

use super::faults::Faults;

/// One version of a model that is to be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The version, from 1.
    pub number: u64,
    /// The model's file, readable and inside the repository; for a backend that needs no file,
    /// the folder it would be in.
    pub file: PathBuf,
}

/// Which of a model's versions are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionPolicy {
    /// This many of the highest, at least 1.
    Latest(usize),
    /// All there are.
    All,
    /// These, ascending and distinct, at least one.
    Specific(Vec<u64>),
}

impl VersionPolicy {
    /// Reads the policy; absent means the latest one.
    pub(super) fn read(policy: Option<&ModelVersionPolicy>, faults: &mut Faults) -> Self {
        const FIELD: &str = "version_policy.specific.versions";
        match policy.and_then(|policy| policy.policy_choice.as_ref()) {
            None => Self::Latest(1),
            Some(PolicyChoice::Latest(Latest { num_versions })) => {
                Self::Latest(usize::try_from(*num_versions).unwrap_or(usize::MAX).max(1))
            }
            Some(PolicyChoice::All(_)) => Self::All,
            Some(PolicyChoice::Specific(specific)) => {
                if specific.versions.is_empty() {
                    faults.wrong(FIELD, "empty", "list the versions to serve");
                }
                let mut versions = Vec::with_capacity(specific.versions.len());
                for (index, &version) in specific.versions.iter().enumerate() {
                    match u64::try_from(version) {
                        Ok(version) if version > 0 => versions.push(version),
                        _ => faults.wrong(
                            format_args!("{FIELD}[{index}]"),
                            format_args!("{version} is no version"),
                            "use numbers from 1",
                        ),
                    }
                }
                versions.sort_unstable();
                versions.dedup();
                Self::Specific(versions)
            }
        }
    }

    /// Picks from `available`, which is ascending, the versions to serve, ascending.
    pub(super) fn pick(&self, available: &[u64]) -> Vec<u64> {
        match self {
            Self::Latest(count) => available[available.len().saturating_sub(*count)..].to_vec(),
            Self::All => available.to_vec(),
            Self::Specific(versions) => versions
                .iter()
                .copied()
                .filter(|version| available.contains(version))
                .collect(),
        }
    }

    /// Returns the versions that the policy names and `available` lacks.
    pub(super) fn absent(&self, available: &[u64]) -> Vec<u64> {
        match self {
            Self::Latest(_) | Self::All => Vec::new(),
            Self::Specific(versions) => versions
                .iter()
                .copied()
                .filter(|version| !available.contains(version))
                .collect(),
        }
    }
}

/// Reads the name of a version's folder: a number from 1, in digits, without leading zeros, that
/// fits the 63 bits a version policy can name.
pub(super) fn parse_number(name: &str) -> Option<u64> {
    let digits = name.bytes().all(|byte| byte.is_ascii_digit()) && !name.starts_with('0');
    let number: i64 = name.parse().ok().filter(|_| digits)?;
    u64::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_positive_decimal_numbers_are_versions() {
        for (name, number) in [
            ("1", Some(1)),
            ("20260131", Some(20_260_131)),
            ("9223372036854775807", Some(i64::MAX.unsigned_abs())),
            ("9223372036854775808", None),
            ("0", None),
            ("01", None),
            ("+1", None),
            ("-1", None),
            ("1a", None),
            ("", None),
        ] {
            assert_eq!(parse_number(name), number, "{name}");
        }
    }

    #[test]
    fn a_policy_picks_among_what_is_there() {
        let available = [1, 2, 7, 9];
        for (policy, picked, absent) in [
            (VersionPolicy::Latest(1), vec![9], vec![]),
            (VersionPolicy::Latest(2), vec![7, 9], vec![]),
            (VersionPolicy::Latest(99), vec![1, 2, 7, 9], vec![]),
            (VersionPolicy::All, vec![1, 2, 7, 9], vec![]),
            (VersionPolicy::Specific(vec![2, 3, 9]), vec![2, 9], vec![3]),
        ] {
            assert_eq!(policy.pick(&available), picked, "{policy:?}");
            assert_eq!(policy.absent(&available), absent, "{policy:?}");
        }
        assert_eq!(VersionPolicy::Latest(1).pick(&[]), [0; 0]);
    }
}
