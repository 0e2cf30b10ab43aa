//! The few opcodes of Python's pickle format that TorchScript needs to describe a module.

/// The value of a module's attribute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Attribute {
    Bool(bool),
    Int(i64),
    Float(f64),
}

/// An empty tuple, which is how an archive says that it holds no constants.
pub(super) const EMPTY_TUPLE: &[u8] = b"\x80\x02).";

/// Returns the pickle of a module of class `__torch__.CLASS` with `attributes`, in the order in
/// which the class declares them.
pub(super) fn module(class: &str, attributes: &[(&str, Attribute)]) -> Vec<u8> {
    let mut pickle = b"\x80\x02c__torch__\n".to_vec();
    pickle.extend(class.as_bytes());
    // A new object of the class, without arguments, and the dictionary that is its state.
    pickle.extend(b"\n)\x81}(");
    for (name, value) in attributes {
        let length = u32::try_from(name.len()).expect("a name in a program's text is short");
        pickle.push(b'X');
        pickle.extend(length.to_le_bytes());
        pickle.extend(name.as_bytes());
        match value {
            Attribute::Bool(true) => pickle.push(0x88),
            Attribute::Bool(false) => pickle.push(0x89),
            Attribute::Int(value) => {
                pickle.extend([0x8a, 8]);
                pickle.extend(value.to_le_bytes());
            }
            // The one number of the format that is big-endian.
            Attribute::Float(value) => {
                pickle.push(b'G');
                pickle.extend(value.to_be_bytes());
            }
        }
    }
    pickle.extend(b"ub.");
    pickle
}
