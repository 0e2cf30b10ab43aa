//! Element types of tensors.

use std::{fmt, str::FromStr};

use crate::inference;

/// The element type of a tensor, as the protocol names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataType {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned, 8 bits.
    Uint8,
    /// Unsigned, 16 bits.
    Uint16,
    /// Unsigned, 32 bits.
    Uint32,
    /// Unsigned, 64 bits.
    Uint64,
    /// Signed, 8 bits.
    Int8,
    /// Signed, 16 bits.
    Int16,
    /// Signed, 32 bits.
    Int32,
    /// Signed, 64 bits.
    Int64,
    /// IEEE 754 half precision.
    Fp16,
    /// IEEE 754 single precision.
    Fp32,
    /// IEEE 754 double precision.
    Fp64,
    /// Brain floating point, 16 bits.
    Bf16,
    /// Byte strings of any length; each is a little-endian `u32` length and that many bytes.
    Bytes,
}

impl DataType {
    /// Every datatype.
    pub const ALL: [Self; 14] = [
        Self::Bool,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Fp16,
        Self::Fp32,
        Self::Fp64,
        Self::Bf16,
        Self::Bytes,
    ];

    /// The names of [`ALL`](Self::ALL), in the same order.
    pub const NAMES: [&str; 14] = [
        "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16",
        "FP32", "FP64", "BF16", "BYTES",
    ];

    /// Returns the name used on the wire.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// Returns the bytes of one element, or `None` for [`Bytes`](Self::Bytes).
    pub fn size(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => Some(1),
            Self::Uint16 | Self::Int16 | Self::Fp16 | Self::Bf16 => Some(2),
            Self::Uint32 | Self::Int32 | Self::Fp32 => Some(4),
            Self::Uint64 | Self::Int64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }

    /// Returns the datatype that a model's configuration means, or `None` for `TYPE_INVALID`.
    pub fn from_config(datatype: inference::DataType) -> Option<Self> {
        use inference::DataType as Config;
        Some(match datatype {
            Config::TypeInvalid => return None,
            Config::TypeBool => Self::Bool,
            Config::TypeUint8 => Self::Uint8,
            Config::TypeUint16 => Self::Uint16,
            Config::TypeUint32 => Self::Uint32,
            Config::TypeUint64 => Self::Uint64,
            Config::TypeInt8 => Self::Int8,
            Config::TypeInt16 => Self::Int16,
            Config::TypeInt32 => Self::Int32,
            Config::TypeInt64 => Self::Int64,
            Config::TypeFp16 => Self::Fp16,
            Config::TypeFp32 => Self::Fp32,
            Config::TypeFp64 => Self::Fp64,
            Config::TypeString => Self::Bytes,
            Config::TypeBf16 => Self::Bf16,
        })
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The text is no datatype's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown datatype '{0}'; expected one of {names}", names = DataType::NAMES.join(", "))]
pub struct UnknownDataType(String);

impl FromStr for DataType {
    type Err = UnknownDataType;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::NAMES
            .iter()
            .position(|known| *known == name)
            .map(|index| Self::ALL[index])
            .ok_or_else(|| UnknownDataType(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back() {
        for datatype in DataType::ALL {
            assert_eq!(datatype.name().parse(), Ok(datatype));
        }
        assert!("fp32".parse::<DataType>().is_err());
    }
}
