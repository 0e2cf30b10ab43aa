//! What a TorchScript model's `forward` takes, and how a configuration's inputs map to it.

use super::Error;
use crate::signature::TensorSpec;

/// The arguments of `forward`, without `self`, and what the model can do besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// Arguments in order.
    pub arguments: Vec<Argument>,
    /// Whether the model has a method `reset_states`.
    pub has_reset: bool,
    /// Whether it was saved in training mode.
    pub trains: bool,
}

/// One argument of `forward`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: ArgumentKind,
    /// Whether it may be left out.
    pub has_default: bool,
}

/// Types of arguments that a tensor of the protocol can fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArgumentKind {
    /// A tensor, as it is.
    Tensor,
    /// An `int`, filled by a tensor of one element.
    Int,
    /// A `float`, filled by a tensor of one element.
    Float,
    /// A `bool`, filled by a tensor of one element.
    Bool,
    /// A `List[str]`, filled by a one-dimensional BYTES tensor.
    Strings,
}

impl Schema {
    /// Reads the lines in which `shim/torch.h` describes a module.
    ///
    /// # Errors
    /// `forward` takes what no tensor can fill.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let mut schema = Self {
            arguments: Vec::new(),
            has_reset: false,
            trains: false,
        };
        for line in text.lines() {
            let mut fields = line.split('\t');
            let mut field = || fields.next().unwrap_or_default();
            match (field(), field(), field()) {
                (what @ ("argument" | "default"), name, of) => schema.arguments.push(Argument {
                    name: name.to_owned(),
                    kind: argument_kind(name, of)?,
                    has_default: what == "default",
                }),
                ("method", "reset_states", _) => schema.has_reset = true,
                ("training", ..) => schema.trains = true,
                _ => {}
            }
        }
        Ok(schema)
    }

    /// Says for each argument which of `inputs` fills it, or `None` where its default does.
    ///
    /// Triton's rules, the first that fits all inputs: names equal the arguments' names; names end
    /// in `__<index>`; the order of the configuration.
    ///
    /// # Errors
    /// An argument is left without an input, or there are more inputs than arguments.
    pub fn map(&self, inputs: &[TensorSpec]) -> Result<Vec<Option<usize>>, Error> {
        let named = |spec: &TensorSpec| self.arguments.iter().position(|arg| arg.name == spec.name);
        let places = all_places(inputs, named)
            .or_else(|| all_places(inputs, indexed))
            .unwrap_or_else(|| (0..inputs.len()).collect());
        let mut filled = vec![None; self.arguments.len()];
        for (input, &place) in places.iter().enumerate() {
            match filled.get_mut(place) {
                Some(slot @ None) => *slot = Some(input),
                _ => return Err(self.mismatch(inputs)),
            }
        }
        let complete = self
            .arguments
            .iter()
            .zip(&filled)
            .all(|(argument, input)| input.is_some() || argument.has_default);
        // Defaults fill from the end: one before an input that is given would be passed by.
        let last = filled.iter().rposition(Option::is_some);
        let gap = filled.iter().take(last.unwrap_or(0)).any(Option::is_none);
        if complete && !gap {
            Ok(filled)
        } else {
            Err(self.mismatch(inputs))
        }
    }

    fn mismatch(&self, inputs: &[TensorSpec]) -> Error {
        let arguments: Vec<&str> = self.arguments.iter().map(|arg| arg.name.as_str()).collect();
        let inputs: Vec<&str> = inputs.iter().map(|spec| spec.name.as_str()).collect();
        Error::Mismatch(format!(
            "the model's forward takes ({}), but config.pbtxt lists the inputs [{}]; name each \
             input as its argument, or <name>__<index>, or list them in the arguments' order",
            arguments.join(", "),
            inputs.join(", "),
        ))
    }
}

/// Returns the place of every tensor by one rule, or `None` where the rule does not fit them all.
pub(super) fn all_places(
    specs: &[TensorSpec],
    rule: impl Fn(&TensorSpec) -> Option<usize>,
) -> Option<Vec<usize>> {
    specs.iter().map(rule).collect()
}

/// The rule that a name ends in `__<index>`.
pub(super) fn indexed(spec: &TensorSpec) -> Option<usize> {
    spec.name.rsplit_once("__")?.1.parse().ok()
}

fn argument_kind(name: &str, of: &str) -> Result<ArgumentKind, Error> {
    Ok(match of {
        "Tensor" | "Optional[Tensor]" => ArgumentKind::Tensor,
        "int" | "Optional[int]" => ArgumentKind::Int,
        "float" | "Optional[float]" => ArgumentKind::Float,
        "bool" | "Optional[bool]" => ArgumentKind::Bool,
        "List[str]" => ArgumentKind::Strings,
        other => {
            return Err(Error::Mismatch(format!(
                "argument '{name}' of the model's forward is a {other}; Forebay fills arguments of \
                 type Tensor, int, float, bool and List[str], so wrap the model in one that takes these"
            )));
        }
    })
}

#[cfg(test)]
mod tests {
    use forebay_proto::DataType;

    use super::*;

    fn specs(names: &[&str]) -> Vec<TensorSpec> {
        names
            .iter()
            .map(|name| TensorSpec {
                name: (*name).to_owned(),
                datatype: DataType::Fp32,
                dims: vec![1],
                reshape: None,
                optional: false,
            })
            .collect()
    }

    fn schema() -> Schema {
        Schema::parse("argument\tx\tTensor\nargument\tsr\tint\ndefault\tgain\tfloat\nreturns\t\tTensor\nmethod\treset_states\t\n").unwrap()
    }

    #[test]
    fn inputs_map_by_name_then_index_then_order() {
        let schema = schema();
        assert!(schema.has_reset && !schema.trains);
        let map = |names| schema.map(&specs(names)).ok();
        assert_eq!(map(&["sr", "x"]), Some(vec![Some(1), Some(0), None]));
        assert_eq!(map(&["in__1", "in__0"]), Some(vec![Some(1), Some(0), None]));
        assert_eq!(map(&["a", "b", "c"]), Some(vec![Some(0), Some(1), Some(2)]));
        assert_eq!(map(&["x"]), None);
        assert_eq!(map(&["in__0", "in__0"]), None);
        assert_eq!(map(&["a", "b", "c", "d"]), None);
    }

    #[test]
    fn the_mode_that_it_was_saved_in_is_told() {
        assert!(Schema::parse("training\t\t\n").unwrap().trains);
    }

    #[test]
    fn an_argument_no_tensor_fills_is_named() {
        let error = Schema::parse("argument\tcache\tDict[str, Tensor]\n").unwrap_err();
        assert!(error.to_string().contains("'cache'"));
    }
}
