//! What must hold of the spans of one request.

use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::Span;

/// A device on which each stage takes a time that can be told from nothing.
pub(super) const DEVICE: &str = "
[device]
kind = \"simulated\"
h2d = \"2ms\"
compute = \"5ms\"
d2h = \"3ms\"
[executor]
mode = \"stages\"
";

/// The stages in their order, and what each takes at least on [`DEVICE`].
const STAGES: [(&str, Duration); 5] = [
    ("admit", Duration::ZERO),
    ("queue", Duration::ZERO),
    ("h2d", Duration::from_millis(2)),
    ("compute", Duration::from_millis(5)),
    ("d2h", Duration::from_millis(3)),
];

/// Checks that the children of `infer` are its stages, each after the one before and all within it.
pub(super) fn assert_stages(spans: &[Span], infer: &Span) {
    let children = || {
        spans
            .iter()
            .filter(|span| span.parent_span_id == infer.span_id)
    };
    assert_eq!(children().count(), STAGES.len());
    let mut now = infer.start_time_unix_nano;
    for (name, least) in STAGES {
        let stage = children()
            .find(|span| span.name == name)
            .unwrap_or_else(|| panic!("there is no stage {name}"));
        assert_eq!(stage.trace_id, infer.trace_id, "{name}");
        let (start, end) = (stage.start_time_unix_nano, stage.end_time_unix_nano);
        assert!(now <= start, "{name} begins {} ns too early", now - start);
        assert!(start <= end, "{name} ends before it begins");
        let took = Duration::from_nanos(end - start);
        assert!(took >= least, "{name} took {took:?}");
        now = end;
    }
    assert!(
        now <= infer.end_time_unix_nano,
        "a stage outlasts its request"
    );
}
