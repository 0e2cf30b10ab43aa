//! The list of what is there, for people: `forebay devices`.

use std::thread;

use bytesize::ByteSize;

use super::{Accelerator, Config, Devices, Report};
use crate::memory::Pool;

/// Lists the host and each accelerator, a line for each, or why there is no accelerator.
pub fn inventory(config: &Config) -> String {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let version = Accelerator::libtorch_version();
    let mut lines = vec![format!("cpu: {cores} cores, libtorch {version}")];
    match Devices::open(config, Pool::new(0)) {
        Ok(devices) => {
            let accelerators = devices.accelerators().iter();
            lines.extend(accelerators.map(|device| line(&device.report())));
            let missing = devices.missing();
            lines.extend(missing.map(|why| format!("no accelerator: {why}")));
        }
        Err(unavailable) => lines.push(format!("no accelerator: {}", unavailable.reason)),
    }
    lines.join("\n") + "\n"
}

fn line(report: &Report) -> String {
    let mut facts = Vec::new();
    if !report.model.is_empty() {
        facts.push(report.model.clone());
    }
    facts.push(format!(
        "{} of memory, {} in use",
        ByteSize(report.memory_total_bytes),
        ByteSize(report.memory_used_bytes)
    ));
    let busy = report.utilization_percent;
    facts.extend(busy.map(|percent| format!("{percent} % busy")));
    let driver = report.driver.as_ref();
    facts.extend(driver.map(|version| format!("driver {version}")));
    format!("{}: {}", report.name, facts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_what_is_known_and_nothing_else() {
        let mut report = Report {
            name: "cuda:1".to_owned(),
            memory_total_bytes: 80 << 30,
            memory_used_bytes: 1 << 30,
            ..Report::default()
        };
        assert_eq!(line(&report), "cuda:1: 80.0 GiB of memory, 1.0 GiB in use");
        report.model = "NVIDIA H100".to_owned();
        report.utilization_percent = Some(7);
        report.driver = Some("580.65".to_owned());
        let all =
            "cuda:1: NVIDIA H100, 80.0 GiB of memory, 1.0 GiB in use, 7 % busy, driver 580.65";
        assert_eq!(line(&report), all);
    }
}
