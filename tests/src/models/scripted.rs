//! Models made of TorchScript text: those with state, several outputs, scalar arguments, strings,
//! or faults, none of which a trace can hold.

use super::{
    archive::Module,
    pickle::Attribute::{self, Bool, Float, Int},
};

const STATELESS: &[(&str, Attribute)] = &[("training", Bool(false))];
const COUNTING: &[(&str, Attribute)] = &[
    ("training", Bool(false)),
    ("count", Int(0)),
    ("total", Float(0.0)),
];

/// Returns both the sum and the difference of two INT32 tensors.
pub(super) const SIMPLE: Module = Module {
    class: "Simple",
    source: include_str!("repository/simple/__torch__.py"),
    attributes: STATELESS,
};

/// Raises where the first element is negative, with a text of about 10 000 characters.
pub(super) const THROWER: Module = Module {
    class: "Thrower",
    source: include_str!("repository/thrower/__torch__.py"),
    attributes: STATELESS,
};

/// Multiplies by a float to the power of an integer, and negates on request.
pub(super) const SCALED: Module = Module {
    class: "Scaled",
    source: include_str!("repository/scaled/__torch__.py"),
    attributes: STATELESS,
};

/// Adds the number of calls so far to its input; returns that and the sum of all inputs.
pub(super) const COUNTER: Module = Module {
    class: "Counter",
    source: include_str!("repository/counter/__torch__.py"),
    attributes: COUNTING,
};

/// As [`COUNTER`], but with no method that makes it forget.
pub(super) const COUNTER_PLAIN: Module = Module {
    class: "CounterPlain",
    source: include_str!("repository/counter_plain/__torch__.py"),
    attributes: COUNTING,
};

/// Returns its strings in upper case.
pub(super) const STRINGS: Module = Module {
    class: "Strings",
    source: include_str!("repository/strings/__torch__.py"),
    attributes: STATELESS,
};

/// Returns one row fewer than it was given.
pub(super) const WRONG_OUTPUT: Module = Module {
    class: "WrongOutput",
    source: include_str!("repository/wrong_output/__torch__.py"),
    attributes: STATELESS,
};

/// The sum of each row's elements, each times its place from 1.
pub(super) const DIGEST: Module = Module {
    class: "Digest",
    source: include_str!("repository/digest/__torch__.py"),
    attributes: STATELESS,
};

/// Four times its input, after as many products of it as `rounds` has elements.
pub(super) const CASE6243: Module = Module {
    class: "Case6243",
    source: include_str!("repository/case6243/__torch__.py"),
    attributes: STATELESS,
};

/// The product of a matrix with itself.
pub(super) const PRODUCT: Module = Module {
    class: "Product",
    source: include_str!("repository/product/__torch__.py"),
    attributes: STATELESS,
};

/// A thousand elements of each image, and no work.
pub(super) const LADDER_TRANSPORT: Module = Module {
    class: "LadderTransport",
    source: include_str!("repository/ladder_transport/__torch__.py"),
    attributes: STATELESS,
};
