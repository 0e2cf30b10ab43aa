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

/// The leaves of both trees in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CallSpec {
    inputs: Vec<Leaf>,
    outputs: Vec<Leaf>,
}

/// A tensor that goes into the package or comes out of it.
#[derive(Debug, PartialEq, Eq)]
struct Leaf {
    /// The argument's name, or the key in the dictionary that is returned, if there is one.
    name: Option<String>,
    /// The way to it in Triton's notation, as `ARGS[0]`, `KWARGS[key]` or `RESULT[key][1]`.
    path: String,
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
        positional.leaves(None, "ARGS".to_owned(), &mut inputs);
        by_name.named_leaves("KWARGS", &mut inputs);
        let mut outputs = Vec::new();
        returned.named_leaves("RESULT", &mut outputs);
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
            (None, empty) => Err(Error::Mismatch(format!(
                "the package needs the input '{}', which config.pbtxt does not list; add it",
                self.inputs[empty.unwrap_or_default()].shown()
            ))),
        }
    }

    /// Says for each of `specs` which of the package's outputs it is.
    pub(super) fn outputs(&self, specs: &[TensorSpec]) -> Result<Vec<usize>, Error> {
        places("output", &self.outputs, specs)
    }
}

impl Leaf {
    /// Returns what a configuration may call it.
    fn shown(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.path)
    }
}

/// Finds `specs` among leaves: by name or path, else by `__<index>`, and where the leaves have no names
/// and no spec is a path, by order.
fn places(side: &str, leaves: &[Leaf], specs: &[TensorSpec]) -> Result<Vec<usize>, Error> {
    let named = !leaves.is_empty() && leaves.iter().all(|leaf| leaf.name.is_some());
    let told = |spec: &TensorSpec| {
        let name = |leaf: &Leaf| leaf.name.as_deref() == Some(&spec.name);
        let path = |leaf: &Leaf| leaf.path == spec.name;
        let by_name = leaves.iter().position(name);
        by_name.or_else(|| leaves.iter().position(path))
    };
    let places = all_places(specs, told).or_else(|| all_places(specs, indexed));
    let places = match places {
        Some(places) => places,
        // By order, a path could get another's tensor.
        None if named || specs.iter().any(is_path) => {
            return Err(unknown(side, leaves, specs, told));
        }
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

/// Returns whether a spec's name is written as a path.
fn is_path(spec: &TensorSpec) -> bool {
    let roots = ["ARGS[", "KWARGS[", "RESULT["];
    roots.iter().any(|root| spec.name.starts_with(root))
}

fn unknown(
    side: &str,
    leaves: &[Leaf],
    specs: &[TensorSpec],
    told: impl Fn(&TensorSpec) -> Option<usize>,
) -> Error {
    let stranger = specs.iter().find(|spec| told(spec).is_none());
    let stranger = stranger.map(|spec| spec.name.as_str()).unwrap_or_default();
    let known: Vec<&str> = leaves.iter().map(Leaf::shown).collect();
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
    fn named_leaves(&self, path: &str, into: &mut Vec<Leaf>) {
        match self.keys() {
            Some(keys) => {
                for (child, key) in self.children_spec.iter().zip(keys) {
                    let path = format!("{path}[{key}]");
                    child.leaves(Some(key), path, into);
                }
            }
            None => self.leaves(None, path.to_owned(), into),
        }
    }

    /// Collects the leaves. `name` is the node's own, `path` the way to it.
    fn leaves(&self, name: Option<String>, path: String, into: &mut Vec<Leaf>) {
        let indices = (0..self.children_spec.len()).map(|index| index.to_string());
        let steps = self.keys().unwrap_or_else(|| indices.collect());
        for (child, step) in self.children_spec.iter().zip(steps) {
            child.leaves(None, format!("{path}[{step}]"), into);
        }
        if self.kind.is_none() {
            into.push(Leaf { name, path });
        }
    }
}

#[cfg(test)]
mod tests {
    use forebay_proto::DataType;

    use super::*;

    const LEAF: &str = r#"{"type": null, "context": null, "children_spec": []}"#;

    fn node(kind: &str, context: &str, leaves: usize) -> String {
        parent(kind, context, &vec![LEAF; leaves])
    }

    fn parent(kind: &str, context: &str, children: &[&str]) -> String {
        let children = children.join(", ");
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
            reshape: None,
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
        assert!(text.contains("'ARGS[1]'"), "{text}");
        let text = refusal(unnamed().inputs(&specs(&["a__0", "b__0"])));
        assert!(text.contains("'b__0'") && text.contains("twice"), "{text}");
    }

    /// Returns a tensor, a pair of them, and one in a dictionary of its own.
    fn nested() -> CallSpec {
        let pair = node("tuple", "\"null\"", 2);
        let inner = node("dict", r#""[\"k\"]""#, 1);
        let keys = r#""[\"one\", \"pair\", \"inner\"]""#;
        let outputs = parent("dict", keys, &[LEAF, &pair, &inner]);
        call(3, r#""[\"by\"]""#, 1, &outputs)
    }

    #[test]
    fn a_path_leads_to_its_leaf_whatever_the_order() {
        let names = ["RESULT[inner][k]", "RESULT[pair][1]", "one"];
        assert_eq!(nested().outputs(&specs(&names)).unwrap(), [3, 2, 0]);
        let names = ["RESULT[pair][0]", "RESULT[one]"];
        assert_eq!(nested().outputs(&specs(&names)).unwrap(), [1, 0]);
        let names = ["KWARGS[by]", "ARGS[2]", "ARGS[0]", "ARGS[1]"];
        assert_eq!(nested().inputs(&specs(&names)).unwrap(), [2, 3, 1, 0]);
        let single = call(1, r#""[]""#, 0, LEAF);
        assert_eq!(single.outputs(&specs(&["RESULT"])).unwrap(), [0]);
    }

    #[test]
    fn a_path_that_leads_nowhere_is_told_those_that_do_and_never_goes_by_order() {
        let text = refusal(nested().outputs(&specs(&["RESULT[pair]", "RESULT[one]"])));
        assert!(
            text.contains("'RESULT[pair]'")
                && text.contains("[one, RESULT[pair][0], RESULT[pair][1], RESULT[inner][k]]"),
            "{text}"
        );
        let text = refusal(unnamed().inputs(&specs(&["ARGS[1]", "ARGS[2]"])));
        assert!(
            text.contains("'ARGS[2]'") && text.contains("[ARGS[0], ARGS[1]]"),
            "{text}"
        );
        let text = refusal(unnamed().outputs(&specs(&["RESULT[1]", "y"])));
        assert!(text.contains("the output 'y'"), "{text}");
        let single = call(1, r#""[]""#, 0, LEAF);
        let text = refusal(single.outputs(&specs(&["RESULT[0]"])));
        assert!(text.contains("are [RESULT]"), "{text}");
    }

    #[test]
    fn another_notation_is_refused() {
        for text in ["", "[1, 2]\n[1, 2]", "[2, {}]\n[2, {}]"] {
            assert!(CallSpec::parse(text).is_err(), "{text}");
        }
    }
}
