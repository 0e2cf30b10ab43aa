use super::*;
use crate::ladder::{RowReport, SCHEMA, Spread, judge};

fn measured(label: &str, samples_per_s: &[f64]) -> ColumnReport {
    let cell = Cell {
        samples_per_s: Spread::of(samples_per_s),
        ..Cell::default()
    };
    ColumnReport {
        label: label.to_owned(),
        model: format!("ladder_{label}"),
        platform: "pytorch_libtorch".to_owned(),
        state: State::Measured {
            rows: vec![RowReport { batch: 32, cell }],
        },
    }
}

fn absent(label: &str) -> ColumnReport {
    ColumnReport {
        label: label.to_owned(),
        model: "ladder_aoti".to_owned(),
        platform: String::new(),
        state: State::Absent {
            reason: "no such model".to_owned(),
        },
    }
}

fn report(columns: Vec<ColumnReport>, floor: ColumnReport) -> Report {
    Report {
        schema: SCHEMA.to_owned(),
        tool_version: "0".to_owned(),
        endpoint: "http://here".to_owned(),
        devices: vec!["cuda:0: A Card".to_owned()],
        requests: 100,
        repetitions: 2,
        streams: 8,
        seed: 0,
        took_s: 1.0,
        cut: None,
        usual: true,
        batches: vec![32],
        judgements: vec![judge::judge(0, 32, &columns, &floor)],
        columns,
        floor,
    }
}

#[test]
fn our_figures_stand_above_the_published_ones_of_the_same_column() {
    let columns = vec![
        measured("inline", &[300.0, 310.0]),
        measured("auto", &[400.0, 400.0]),
        absent(".pt2"),
    ];
    let text = Table(&report(columns, absent("transport"))).to_string();
    let lines: Vec<_> = text.lines().collect();
    let ours = lines
        .iter()
        .position(|line| *line == "| 32 | 305.0 ± 7.1 | 400.0 ± 0.0 | n/a |")
        .unwrap_or_else(|| panic!("{text}"));
    assert_eq!(lines[ours + 1], "| elsewhere | 394.2 | - | - |", "{text}");
    assert!(text.contains("on another GPU; not comparable"), "{text}");
    assert!(
        text.contains("no figures for .pt2: model 'ladder_aoti': no such model"),
        "{text}"
    );
    assert!(
        text.contains(
            "batch 32: auto is best with 400.0 samples/s, n = 2; auto reaches 1.000 of it: met"
        ),
        "{text}"
    );
}

#[test]
fn a_package_that_is_faster_is_told_and_not_judged() {
    let mut package = measured(".pt2", &[500.0, 500.0]);
    package.platform = "torch_aoti".to_owned();
    let inline = measured("inline", &[300.0, 310.0]);
    let columns = vec![inline, measured("auto", &[400.0, 400.0]), package];
    let report = report(columns, absent("transport"));
    let text = Table(&report).to_string();
    assert!(
        text.contains(
            "auto reaches 1.000 of it: met; .pt2, of another platform, has 500.0: auto reaches 0.800 of it, \
             which is not judged\n"
        ),
        "{text}"
    );
    assert!(report.passes());
}

#[test]
fn a_ladder_that_was_cut_shows_what_all_its_repetitions_show() {
    let judged = |figures: &[f64]| {
        let columns = vec![measured("inline", figures), measured("auto", figures)];
        let report = Report {
            cut: Some("it was interrupted".to_owned()),
            ..report(columns, absent("transport"))
        };
        (report.passes(), Table(&report).to_string())
    };
    let (passes, text) = judged(&[400.0]);
    let verdict = "n = 1; auto reaches 1.000 of it: not shown, cut before all its repetitions\n";
    assert!(!passes && text.contains(verdict), "{text}");
    let (passes, text) = judged(&[400.0, 400.0]);
    assert!(passes && text.contains("of it: met\n"), "{text}");
}

#[test]
fn a_fault_of_the_run_in_and_slabs_are_told() {
    let mut column = measured("auto", &[400.0, 400.0]);
    if let State::Measured { rows } = &mut column.state {
        rows[0].cell.run_in_failure = Some("out of memory".to_owned());
        rows[0].cell.pinned_allocations = vec![3, 0];
    }
    let text = Table(&report(vec![column], absent("transport"))).to_string();
    assert!(
        text.contains("in the run-in, which does not count: out of memory"),
        "{text}"
    );
    assert!(text.contains("| 3 / 0 |"), "{text}");
}

#[test]
fn other_models_are_not_held_against_published_figures() {
    let mut report = report(vec![measured("inline", &[1.0])], absent("transport"));
    report.usual = false;
    let text = Table(&report).to_string();
    assert!(!text.contains("elsewhere"), "{text}");
    assert!(text.contains("there is no figure for auto"), "{text}");
}

#[test]
fn figures_that_the_network_bounds_are_named() {
    let columns = vec![measured("inline", &[40.0]), measured("auto", &[60.0])];
    let text = Table(&report(columns, measured("transport", &[100.0]))).to_string();
    assert!(
        text.contains("carry 100.0 samples/s; more than half of it, so bounded by it too: auto\n"),
        "{text}"
    );
}

#[test]
fn where_all_figures_are_the_networks_the_requirement_is_not_shown() {
    let columns = vec![measured("inline", &[80.0]), measured("auto", &[90.0])];
    let report = report(columns, measured("transport", &[100.0]));
    let text = Table(&report).to_string();
    assert!(
        text.contains("1.000 of it: not shown, bounded by client and network\n"),
        "{text}"
    );
    assert!(!report.passes());
}
