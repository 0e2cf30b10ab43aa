//! Collects everything that is wrong with one configuration, so that one look mends it all.

use std::fmt::Display;

/// The faults and notes of one model's configuration.
#[derive(Debug, Default)]
pub(super) struct Faults {
    faults: Vec<String>,
    notes: Vec<String>,
}

impl Faults {
    /// Adds a fault: the path of the field, what is wrong with it and what to do.
    pub(super) fn wrong(&mut self, field: impl Display, problem: impl Display, mend: impl Display) {
        self.faults.push(format!("{field}: {problem}; {mend}"));
    }

    /// Adds a fault for a field that would change what a model does and is not served.
    pub(super) fn unsupported(&mut self, set: bool, field: impl Display, mend: impl Display) {
        if set {
            self.wrong(field, "not supported yet", mend);
        }
    }

    /// Adds a note for a field that changes no result.
    pub(super) fn ignored(&mut self, set: bool, field: impl Display) {
        if set {
            self.note(field, "ignored");
        }
    }

    /// Adds a note for a field that does other than one may think.
    pub(super) fn note(&mut self, field: impl Display, text: impl Display) {
        self.notes.push(format!("{field}: {text}"));
    }

    /// Returns the notes where there is no fault.
    ///
    /// # Errors
    /// All faults.
    pub(super) fn into_notes(self) -> Result<Vec<String>, Vec<String>> {
        if self.faults.is_empty() {
            Ok(self.notes)
        } else {
            Err(self.faults)
        }
    }
}
