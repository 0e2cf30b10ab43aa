//! Writes a TorchScript module without libtorch: its class as source text, its attributes as a
//! pickle, in a zip file laid out as libtorch's own `save` does it.
//!
//! Invariant: the same module gives the same bytes, so that a stored archive can be compared.

use std::io::{Cursor, Write as _};

use anyhow::{Context as _, Result};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::pickle::{self, Attribute};

/// The version of the file format that libtorch 2.11 writes.
const VERSION: &str = "3\n";
/// libtorch maps records into memory and expects them on this border.
const ALIGNMENT: u16 = 64;

/// A module whose class is given as TorchScript's own serialized text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Module {
    /// The name of the class that `source` defines.
    pub(super) class: &'static str,
    /// One class, with every attribute declared and every argument's type given.
    pub(super) source: &'static str,
    /// The first value of each attribute, in the order of their declarations.
    pub(super) attributes: &'static [(&'static str, Attribute)],
}

impl Module {
    /// Returns the archive, which `torch::jit::load` reads.
    ///
    /// # Errors
    /// The zip writer's, none of which an archive this small can meet.
    pub(super) fn archive(&self) -> Result<Vec<u8>> {
        let data = pickle::module(self.class, self.attributes);
        let records: [(&str, &[u8]); 5] = [
            ("data.pkl", &data),
            ("code/__torch__.py", self.source.as_bytes()),
            ("constants.pkl", pickle::EMPTY_TUPLE),
            ("version", VERSION.as_bytes()),
            ("byteorder", b"little"),
        ];
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .with_alignment(ALIGNMENT);
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in records {
            zip.start_file(format!("{}/{name}", self.class), options)
                .with_context(|| format!("start the record {name}"))?;
            zip.write_all(bytes)
                .with_context(|| format!("write the record {name}"))?;
        }
        Ok(zip.finish().context("finish the archive")?.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use tch::{CModule, IValue};

    use super::{
        Attribute::{Bool, Float, Int},
        *,
    };

    const MODULE: Module = Module {
        class: "Attributes",
        source: "\
class Attributes(Module):
  __parameters__ = []
  __buffers__ = []
  yes : bool
  no : bool
  large : int
  negative : int
  real : float
  def forward(self: __torch__.Attributes) -> Tuple[bool, bool, int, int, float]:
    return (self.yes, self.no, self.large, self.negative, self.real)
",
        attributes: &[
            ("yes", Bool(true)),
            ("no", Bool(false)),
            ("large", Int(i64::MAX)),
            ("negative", Int(-2)),
            ("real", Float(-0.1)),
        ],
    };

    #[test]
    fn attributes_of_each_kind_reach_libtorch_unchanged() {
        let module = CModule::load_data(&mut Cursor::new(MODULE.archive().unwrap())).unwrap();
        let nothing: [IValue; 0] = [];
        let expected = vec![
            IValue::Bool(true),
            IValue::Bool(false),
            IValue::Int(i64::MAX),
            IValue::Int(-2),
            IValue::Double(-0.1),
        ];
        assert_eq!(
            module.forward_is(&nothing).unwrap(),
            IValue::Tuple(expected)
        );
    }

    #[test]
    fn one_module_gives_one_sequence_of_bytes() {
        assert_eq!(MODULE.archive().unwrap(), MODULE.archive().unwrap());
    }
}
