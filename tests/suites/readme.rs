//! The README's examples are the files that `cargo xtask conformance` runs.

use std::{fs, path::Path};

fn read(file: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::read_to_string(root.join(file)).unwrap()
}

/// Returns the first block of a language.
fn block<'a>(text: &'a str, language: &str) -> &'a str {
    let opening = format!("```{language}\n");
    let start = text.find(&opening).unwrap() + opening.len();
    let length = text[start..].find("```").unwrap();
    &text[start..start + length]
}

#[test]
fn its_examples_are_those_that_are_run() {
    let readme = read("README.md");
    assert_eq!(
        block(&readme, "python"),
        read("tests/conformance/quickstart.py")
    );
    let example = read("client/examples/quickstart.rs");
    let (_module_doc, code) = example.split_once("\n\n").unwrap();
    assert_eq!(block(&readme, "rust"), code);
}

#[test]
fn it_stays_short() {
    assert!(read("README.md").lines().count() <= 150);
}
