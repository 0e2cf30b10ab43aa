//! A fault in a text, shown at its place.

use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

/// Characters of a long line that are shown before the fault.
const BEFORE: usize = 60;
/// Characters of a line that are shown from the fault on.
const AFTER: usize = 60;
/// Characters of the problem; it may quote a string of any length.
const MAX_PROBLEM: usize = 600;

/// What is wrong with a configuration's text, and where.
///
/// Shown as `file:line:column: problem`, then the line with carets under the fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}:{column}: {problem}\n{excerpt}", file.display())]
pub struct Error {
    file: PathBuf,
    line: usize,
    column: usize,
    problem: String,
    excerpt: Excerpt,
}

impl Error {
    /// Places `problem` at the bytes `span` of `text`.
    pub(super) fn new(file: &Path, text: &str, span: Range<usize>, problem: String) -> Self {
        let start = text.floor_char_boundary(span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line = text[line_start..].lines().next().unwrap_or_default();
        let before = line.get(..start - line_start).unwrap_or(line);
        let fault = text.get(start..span.end).unwrap_or_default();
        let number = text[..start].matches('\n').count() + 1;
        Self {
            file: file.to_owned(),
            line: number,
            column: before.chars().count() + 1,
            problem: shortened(problem),
            excerpt: Excerpt::new(
                number,
                before,
                &line[before.len()..],
                fault.lines().next().unwrap_or_default().chars().count(),
            ),
        }
    }

    /// Returns the line of the fault, counted from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// Returns the column of the fault in characters, counted from 1.
    pub fn column(&self) -> usize {
        self.column
    }

    /// Returns what is wrong, without the place.
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

/// The line of the fault, ready to print.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Excerpt {
    number: usize,
    line: String,
    carets: String,
}

impl Excerpt {
    fn new(number: usize, before: &str, after: &str, width: usize) -> Self {
        let hidden = before.chars().count().saturating_sub(BEFORE);
        let shown_before: String = before.chars().skip(hidden).map(printable).collect();
        let mut line = String::from(if hidden > 0 { "…" } else { "" });
        line.push_str(&shown_before);
        // A tab stays a tab, so that the carets stand right at any tab width.
        let mut carets: String = line
            .chars()
            .map(|char| if char == '\t' { '\t' } else { ' ' })
            .collect();
        carets.push_str(&"^".repeat(width.clamp(1, AFTER)));
        line.extend(after.chars().take(AFTER).map(printable));
        if after.chars().nth(AFTER).is_some() {
            line.push('…');
        }
        Self {
            number,
            line,
            carets,
        }
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            number,
            line,
            carets,
        } = self;
        let width = number.to_string().len();
        writeln!(f, "  {number} | {line}")?;
        write!(f, "  {:width$} | {carets}", "")
    }
}

/// Control characters would act on the terminal that shows the line.
pub(super) fn printable(char: char) -> char {
    if char.is_control() && char != '\t' {
        char::REPLACEMENT_CHARACTER
    } else {
        char
    }
}

fn shortened(problem: String) -> String {
    match problem.char_indices().nth(MAX_PROBLEM) {
        Some((end, _)) => format!("{}…", &problem[..end]),
        None => problem,
    }
}
