//! How a package's inputs and outputs are nested and named: its call spec, two trees of
//! `torch.utils._pytree` as JSON, and where a configuration's tensors are among their leaves.

use serde::Deserialize;

use crate::{
    model::{
        Error,
        schema::{all_places, indexed},
    },
    signature::TensorSpec,
};

/// The leaves of both trees in order, each with its name where it has one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CallSpec {
    inputs: Vec<Option<String>>,
    outputs: Vec<Option<String>>,
}

/// A tree with the version of its notation.
#[derive(Debug, Deserialize)]
struct Tree(u32, Node);

#[derive(Debug, Deserialize)]
struct Node {
    /// The kind of container; none for a leaf.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// For a dictionary its keys, as JSON in a text.
    context: Option<String>,
    children_spec: Vec<Node>,
}

impl CallSpec {
    /// Reads the two lines that the shim gives.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let unreadable = || "its call spec is written in a way that is not known".to_owned();
        let (inputs, outputs) = text.split_once('\n').ok_or_else(unreadable)?;
        let tree = |text| match serde_json::from_str(text) {
            Ok(Tree(1, node)) => Ok(node),
            _ => Err(unreadable()),
        };
        let (called, returned) = (tree(inputs)?, tree(outputs)?);
        let [positional, by_name] = &called.children_spec[..] else {
            return Err(unreadable());
        };
        let mut inputs = Vec::new();
        positional.leaves(None, &mut inputs);
        by_name.named_leaves(&mut inputs);
        let mut outputs = Vec::new();
        returned.named_leaves(&mut outputs);
        Ok(Self { inputs, outputs })
    }

    /// Says for each of the package's inputs which of `specs` fills it.
    pub(super) fn inputs(&self, specs: &[TensorSpec]) -> Result<Vec<usize>, Error> {
        let places = places("input", &self.inputs, specs)?;
        let mut filled = vec![None; self.inputs.len()];
        for (spec, &place) in places.iter().enumerate() {
            filled[place] = Some(spec);
        }
        let empty = filled.iter().position(Option::is_none);
        match (filled.into_iter().collect(), empty) {
            (Some(inputs), _) => Ok(inputs),
            (None, empty) => {
                let empty = empty.unwrap_or_default();
                let name = self.inputs[empty].clone();
                let name = name.unwrap_or_else(|| format!("number {empty}"));
                Err(Error::Mismatch(format!(
                    "the package needs the input '{name}', which config.pbtxt does not list; add it"
                )))
            }
        }
    }

    /// Says for each of `specs` which of the package's outputs it is.
    pub(super) fn outputs(&self, specs: &[TensorSpec]) -> Result<Vec<usize>, Error> {
        places("output", &self.outputs, specs)
    }
}

/// Finds `specs` among leaves: by name where the leaves have names, else by `__<index>`, and where
/// they have none, by order.
fn places(
    side: &str,
    leaves: &[Option<String>],
    specs: &[TensorSpec],
) -> Result<Vec<usize>, Error> {
    let named = !leaves.is_empty() && leaves.iter().all(Option::is_some);
    let by_name = |spec: &TensorSpec| {
        leaves
            .iter()
            .position(|name| name.as_deref() == Some(&spec.name))
    };
    let places = all_places(specs, by_name).or_else(|| all_places(specs, indexed));
    let places = match places {
        Some(places) => places,
        None if named => return Err(unknown(side, leaves, specs, by_name)),
        None => (0..specs.len()).collect(),
    };
    for (index, place) in places.iter().enumerate() {
        let name = &specs[index].name;
        if *place >= leaves.len() {
            return Err(Error::Mismatch(format!(
                "config.pbtxt lists the {side} '{name}' as number {place} from 0, but the package \
                 has {}; remove it, or number the {side}s from 0",
                leaves.len()
            )));
        }
        if places[..index].contains(place) {
            return Err(Error::Mismatch(format!(
                "config.pbtxt lists number {place} of the package's {side}s twice, the second time \
                 as '{name}'; number each once"
            )));
        }
    }
    Ok(places)
}

fn unknown(
    side: &str,
    leaves: &[Option<String>],
    specs: &[TensorSpec],
    by_name: impl Fn(&TensorSpec) -> Option<usize>,
) -> Error {
    let stranger = specs.iter().find(|spec| by_name(spec).is_none());
    let stranger = stranger.map(|spec| spec.name.as_str()).unwrap_or_default();
    let known: Vec<&str> = leaves.iter().flatten().map(String::as_str).collect();
    Error::Mismatch(format!(
        "config.pbtxt lists the {side} '{stranger}', but the package's {side}s are [{}]; name it as \
         the package does, or name all {side}s <name>__<index>",
        known.join(", ")
    ))
}

impl Node {
    /// Returns the keys of a dictionary, as many as it has children.
    fn keys(&self) -> Option<Vec<String>> {
        let kind = self.kind.as_deref()?;
        if !kind.ends_with("dict") && !kind.ends_with("Dict") {
            return None;
        }
        let keys: Vec<String> = serde_json::from_str(self.context.as_deref()?).ok()?;
        (keys.len() == self.children_spec.len()).then_some(keys)
    }

    /// Collects the leaves; those right below a dictionary have its keys for names.
    fn named_leaves(&self, into: &mut Vec<Option<String>>) {
        match self.keys() {
            Some(keys) => {
                for (child, key) in self.children_spec.iter().zip(keys) {
                    child.leaves(Some(key), into);
                }
            }
            None => self.leaves(None, into),
        }
    }

    /// Collects the leaves. `name` is the node's own.
    fn leaves(&self, name: Option<String>, into: &mut Vec<Option<String>>) {
        if self.kind.is_none() {
            into.push(name);
        }
        for child in &self.children_spec {
            child.leaves(None, into);
        }
    }
}

#[cfg(test)]
mod tests {
    use forebay_proto::DataType;

    use super::*;

    const LEAF: &str = r#"{"type": null, "context": null, "children_spec": []}"#;

    fn node(kind: &str, context: &str, leaves: usize) -> String {
        let children = vec![LEAF; leaves].join(", ");
        format!(
            r#"{{"type": "builtins.{kind}", "context": {context}, "children_spec": [{children}]}}"#
        )
    }

    /// A call with positional arguments and such by name, as `torch.export` writes it.
    fn call(positional: usize, names: &str, by_name: usize, outputs: &str) -> CallSpec {
        let inputs = format!(
            r#"[1, {{"type": "builtins.tuple", "context": "null", "children_spec": [{}, {}]}}]"#,
            node("tuple", "\"null\"", positional),
            node("dict", names, by_name)
        );
        CallSpec::parse(&format!("{inputs}\n[1, {outputs}]")).unwrap()
    }

    fn named() -> CallSpec {
        let outputs = node("dict", r#""[\"scores\", \"best\"]""#, 2);
        call(0, r#""[\"bias\", \"image\"]""#, 2, &outputs)
    }

    fn unnamed() -> CallSpec {
        call(2, r#""[]""#, 0, &node("tuple", "\"null\"", 2))
    }

    fn specs(names: &[&str]) -> Vec<TensorSpec> {
        let spec = |name: &&str| TensorSpec {
            name: (*name).to_owned(),
            datatype: DataType::Fp32,
            dims: vec![1],
            optional: false,
        };
        names.iter().map(spec).collect()
    }

    fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn names_of_the_call_are_found_whatever_the_order_and_numbers_too() {
        let (inputs, outputs) = (specs(&["image", "bias"]), specs(&["best"]));
        assert_eq!(named().inputs(&inputs).unwrap(), [1, 0]);
        assert_eq!(named().outputs(&outputs).unwrap(), [1]);
        assert_eq!(named().inputs(&specs(&["x__1", "x__0"])).unwrap(), [1, 0]);
        assert_eq!(named().outputs(&specs(&["y__1", "y__0"])).unwrap(), [1, 0]);
    }

    #[test]
    fn each_input_of_the_package_gets_the_one_of_the_configuration_with_its_name() {
        // Three, because with two a mapping is its own inverse.
        let spec = call(0, r#""[\"a\", \"b\", \"c\"]""#, 3, LEAF);
        assert_eq!(spec.inputs(&specs(&["c", "a", "b"])).unwrap(), [1, 2, 0]);
    }

    #[test]
    fn without_names_the_order_counts_unless_there_are_numbers() {
        assert_eq!(unnamed().inputs(&specs(&["a", "b"])).unwrap(), [0, 1]);
        assert_eq!(unnamed().inputs(&specs(&["a__1", "b__0"])).unwrap(), [1, 0]);
        assert_eq!(unnamed().outputs(&specs(&["y"])).unwrap(), [0]);
        let single = call(1, r#""[]""#, 0, LEAF);
        assert_eq!(single.outputs(&specs(&["y"])).unwrap(), [0]);
    }

    #[test]
    fn a_tensor_that_the_package_has_not_is_named_with_those_that_it_has() {
        let text = refusal(named().inputs(&specs(&["image", "bais"])));
        assert!(
            text.contains("'bais'") && text.contains("[bias, image]"),
            "{text}"
        );
        let text = refusal(named().outputs(&specs(&["scores", "worst"])));
        assert!(
            text.contains("'worst'") && text.contains("[scores, best]"),
            "{text}"
        );
        let text = refusal(named().outputs(&specs(&["y__2"])));
        assert!(text.contains("'y__2'") && text.contains("has 2"), "{text}");
        let text = refusal(unnamed().inputs(&specs(&["a", "b", "c"])));
        assert!(text.contains("'c'"), "{text}");
    }

    #[test]
    fn an_input_that_the_configuration_lacks_or_lists_twice_is_named() {
        let text = refusal(named().inputs(&specs(&["image"])));
        assert!(text.contains("'bias'"), "{text}");
        let text = refusal(unnamed().inputs(&specs(&["a"])));
        assert!(text.contains("'number 1'"), "{text}");
        let text = refusal(unnamed().inputs(&specs(&["a__0", "b__0"])));
        assert!(text.contains("'b__0'") && text.contains("twice"), "{text}");
    }

    #[test]
    fn another_notation_is_refused() {
        for text in ["", "[1, 2]\n[1, 2]", "[2, {}]\n[2, {}]"] {
            assert!(CallSpec::parse(text).is_err(), "{text}");
        }
    }
}
