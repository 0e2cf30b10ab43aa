//! Values of the command line that need more than a number.

use std::time::Duration;

use forebay_client::Parameter;
use humantime_serde::re::humantime;

/// `INPUT:DIMS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputShape {
    /// The input.
    pub input: String,
    /// Its dimensions.
    pub dims: Vec<i64>,
}

/// `KEY=VALUE`.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedParameter {
    /// The name.
    pub name: String,
    /// The value.
    pub value: Parameter,
    /// The value as it was given.
    pub text: String,
}

/// Reads a time with its unit, such as `10s` or `250ms`.
pub(super) fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    humantime::parse_duration(text)
}

/// Reads a count of at least one.
pub(super) fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1 is needed".to_owned()),
        Ok(count) => Ok(count),
        Err(error) => Err(format!("{error}")),
    }
}

/// Reads `INPUT:DIMS`. The input's name may hold colons.
pub(super) fn input_shape(text: &str) -> Result<InputShape, String> {
    let (input, dims) = text
        .rsplit_once(':')
        .ok_or("expected INPUT:DIMS, such as IMAGE:3,224,224")?;
    let dims = dims
        .split(',')
        .map(|dim| match dim.trim().parse() {
            Ok(dim) if dim >= 0 => Ok(dim),
            _ => Err(format!(
                "'{dim}' is no dimension; expected whole numbers of 0 and more"
            )),
        })
        .collect::<Result<_, _>>()?;
    Ok(InputShape {
        input: input.to_owned(),
        dims,
    })
}

/// Reads `KEY=VALUE`: a truth value, a whole number, a number, or else a text.
pub(super) fn parameter(text: &str) -> Result<NamedParameter, String> {
    let (name, value) = text
        .split_once('=')
        .ok_or("expected KEY=VALUE, such as forebay_timings=true")?;
    let parsed = if let Ok(value) = value.parse() {
        Parameter::Bool(value)
    } else if let Ok(value) = value.parse() {
        Parameter::Int64(value)
    } else if let Ok(value) = value.parse() {
        Parameter::Double(value)
    } else {
        Parameter::String(value.to_owned())
    };
    Ok(NamedParameter {
        name: name.to_owned(),
        value: parsed,
        text: value.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_have_the_type_that_their_value_looks_like() {
        let value = |text| parameter(text).unwrap().value;
        assert_eq!(value("a=true"), Parameter::Bool(true));
        assert_eq!(value("a=-3"), Parameter::Int64(-3));
        assert_eq!(value("a=0.5"), Parameter::Double(0.5));
        assert_eq!(value("a=b=c"), Parameter::String("b=c".to_owned()));
        assert!(parameter("a").is_err());
    }

    #[test]
    fn shapes_name_their_input() {
        let shape = input_shape("scope:x:3, 224").unwrap();
        assert_eq!((&*shape.input, &*shape.dims), ("scope:x", &[3, 224][..]));
        assert!(input_shape("3,224").is_err());
        assert!(input_shape("x:3,-1").is_err());
    }
}
