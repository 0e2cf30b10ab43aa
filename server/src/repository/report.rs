//! What `forebay check` prints: for each model, whether it can be served, and if not, why.

use std::fmt;

use super::{ModelEntry, ModelSettings, ScannedModel, Scheduling};

/// The result of checking a repository, shown as one block for each model and a summary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    models: Vec<Block>,
}

/// What became of loading a model that the scan found sound.
#[derive(Debug, Clone, Default)]
pub struct Tried {
    /// What is wrong with it, each fault with its mend.
    pub faults: Vec<String>,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Block {
    name: String,
    summary: Option<String>,
    faults: Vec<String>,
    notes: Vec<String>,
}

impl Report {
    /// Makes the report of a scan. `load` tries a model that the scan found sound.
    pub fn new(scanned: &[ScannedModel], mut load: impl FnMut(&ModelEntry) -> Tried) -> Self {
        let models = scanned
            .iter()
            .map(|scanned| match scanned {
                Ok(entry) => {
                    let Tried { faults, mut notes } = load(entry);
                    notes.splice(0..0, entry.settings.notes.iter().cloned());
                    Block {
                        name: entry.settings.name.clone(),
                        summary: Some(summary(entry)),
                        faults,
                        notes,
                    }
                }
                Err(fault) => Block {
                    name: fault.name.clone(),
                    summary: None,
                    faults: fault.faults.clone(),
                    notes: Vec::new(),
                },
            })
            .collect();
        Self { models }
    }

    /// Returns the number of models that cannot be served.
    pub fn wrong(&self) -> usize {
        let wrong = |block: &&Block| !block.faults.is_empty();
        self.models.iter().filter(wrong).count()
    }

    /// Returns whether there is a model, and every one can be served.
    pub fn is_ok(&self) -> bool {
        !self.models.is_empty() && self.wrong() == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.models.is_empty() {
            return writeln!(
                f,
                "no models; add a folder for each, with config.pbtxt and 1/model.pt in it"
            );
        }
        for model in &self.models {
            writeln!(f, "{model}")?;
        }
        let wrong = self.wrong();
        write!(f, "{}: ", counted(self.models.len(), "model"))?;
        writeln!(f, "{} ok, {wrong} wrong", self.models.len() - wrong)
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.faults.is_empty() {
            "ok"
        } else {
            "wrong"
        };
        writeln!(f, "{}: {verdict}", self.name.escape_debug())?;
        if let Some(summary) = &self.summary {
            writeln!(f, "  {summary}")?;
        }
        for fault in &self.faults {
            writeln!(f, "  - {}", fault.replace('\n', "\n    "))?;
        }
        for note in &self.notes {
            writeln!(f, "  note: {note}")?;
        }
        Ok(())
    }
}

fn summary(entry: &ModelEntry) -> String {
    let numbers: Vec<String> = entry
        .versions
        .iter()
        .map(|version| version.number.to_string())
        .collect();
    let word = if numbers.len() == 1 {
        "version"
    } else {
        "versions"
    };
    let settings = &entry.settings;
    format!(
        "{} {word} {}, {}, {}",
        settings.backend.name(),
        numbers.join(", "),
        batching(settings),
        counted(
            settings.instances.iter().map(|group| group.count).sum(),
            "instance"
        ),
    )
}

fn batching(settings: &ModelSettings) -> String {
    let max = settings.max_batch_size;
    match &settings.scheduling {
        Scheduling::Each if max == 0 => "no batch dimension".to_owned(),
        Scheduling::Each => format!("requests of up to {max}, each run alone"),
        Scheduling::Dynamic(dynamic) if dynamic.max_queue_delay.is_zero() => {
            format!("batches of up to {max}, without waiting")
        }
        Scheduling::Dynamic(dynamic) => format!(
            "batches of up to {max}, waiting at most {:?}",
            dynamic.max_queue_delay
        ),
        Scheduling::Sequence(sequence) => {
            let idle = sequence.max_idle;
            format!("a sequence on each instance at a time, over after {idle:?} idle")
        }
    }
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
