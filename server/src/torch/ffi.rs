//! The fence around libtorch's C++: the only file with `unsafe` code.
//!
//! What leaves it are owning, safe types: a schema's text, a `tch::Tensor` that owns its memory,
//! and the bytes of a tensor for as long as the tensor lives.

#![expect(unsafe_code, reason = "the fence to the C++ shim and to tensor memory")]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    path::Path,
    ptr,
};

use tch::{Kind, Tensor};

unsafe extern "C" {
    fn fb_schema(file: *const c_char, error: *mut *mut c_char) -> *mut c_char;
    fn fb_tensor_over(
        data: *mut c_void,
        dims: *const i64,
        rank: usize,
        scalar_type: c_int,
        owner: *mut c_void,
        drop_owner: extern "C" fn(*mut c_void),
        error: *mut *mut c_char,
    ) -> *mut c_void;
    fn fb_free_text(text: *mut c_char);
}

/// Describes method `forward` of a TorchScript file, in the lines that `shim/torch.h` tells of.
///
/// # Errors
/// libtorch's text where the file does not load.
pub(crate) fn schema(file: &Path) -> Result<String, String> {
    let file = CString::new(file.as_os_str().as_encoded_bytes())
        .map_err(|_| "the path holds a NUL byte".to_owned())?;
    let mut error = ptr::null_mut();
    // SAFETY: `file` is a C string and `error` a place for a pointer, both alive during the call.
    let text = unsafe { fb_schema(file.as_ptr(), &raw mut error) };
    take_text(text).ok_or_else(|| take_text(error).unwrap_or_default())
}

/// Makes a CPU tensor over the memory of `owner`, without copying. The tensor owns it: `owner` is
/// dropped with the last tensor that shares its memory, wherever a model may have kept one.
///
/// A model may write to its input in place, so no one else may read the memory.
///
/// # Errors
/// The memory is too small for `dims` or not aligned for `kind`, or libtorch refuses.
pub(crate) fn tensor_over<T: AsRef<[u8]> + Send + 'static>(
    owner: T,
    dims: &[i64],
    kind: Kind,
) -> Result<Tensor, String> {
    extern "C" fn drop_owner<T>(owner: *mut c_void) {
        // SAFETY: `owner` came from `Box::into_raw` below, and the shim calls this once.
        drop(unsafe { Box::from_raw(owner.cast::<T>()) });
    }
    // Boxed before its memory is asked for: an owner that holds its bytes in itself has them moved.
    let owner = Box::new(owner);
    let memory = (*owner).as_ref();
    let size = kind.elt_size_in_bytes();
    let needed = dims.iter().try_fold(size, |bytes, &dim| {
        bytes.checked_mul(usize::try_from(dim).ok()?)
    });
    if needed != Some(memory.len()) || memory.as_ptr().align_offset(size) != 0 {
        return Err(format!(
            "holds {} bytes, which are not an aligned tensor of shape {dims:?}",
            memory.len()
        ));
    }
    let data = memory.as_ptr().cast_mut().cast::<c_void>();
    let owner = Box::into_raw(owner);
    let mut error = ptr::null_mut();
    // SAFETY: `data` points to memory that `owner` keeps alive until `drop_owner` is called, and
    // holds as many elements as `dims` say, as was checked; `dims` and `error` live during the call.
    let tensor = unsafe {
        fb_tensor_over(
            data,
            dims.as_ptr(),
            dims.len(),
            scalar_type(kind),
            owner.cast(),
            drop_owner::<T>,
            &raw mut error,
        )
    };
    if tensor.is_null() {
        drop_owner::<T>(owner.cast());
        return Err(take_text(error).unwrap_or_default());
    }
    // SAFETY: the shim made a new `at::Tensor`, which from here on is this `Tensor`'s alone.
    Ok(unsafe { Tensor::from_ptr(tensor.cast()) })
}

/// Returns the memory of a contiguous CPU tensor of `len` bytes.
pub(super) fn tensor_bytes(tensor: &Tensor, len: usize) -> &[u8] {
    let data = tensor.data_ptr().cast::<u8>();
    if data.is_null() || len == 0 {
        return &[];
    }
    // SAFETY: a contiguous tensor of `len` bytes begins at `data` and lives as long as the borrow;
    // `TorchBytes` alone holds it, and never hands it out to be written.
    unsafe { std::slice::from_raw_parts(data, len) }
}

/// Copies a text of the shim's and frees it; `None` for null.
fn take_text(text: *mut c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the shim's texts end with NUL.
    let copy = unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned();
    // SAFETY: the text came from the shim and is not used after this.
    unsafe { fb_free_text(text) };
    Some(copy)
}

/// The numbers of `c10::ScalarType`, from libtorch's `c10/core/ScalarType.h`.
fn scalar_type(kind: Kind) -> c_int {
    match kind {
        Kind::Uint8 => 0,
        Kind::Int8 => 1,
        Kind::Int16 => 2,
        Kind::Int => 3,
        Kind::Int64 => 4,
        Kind::Half => 5,
        Kind::Float => 6,
        Kind::Double => 7,
        Kind::Bool => 11,
        Kind::BFloat16 => 15,
        other => unreachable!("no datatype of the protocol maps to {other:?}"),
    }
}
