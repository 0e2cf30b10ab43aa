//! The fence around libtorch's C++: with its parts the only place with `unsafe` code.
//!
//! What leaves it are owning, safe types: a module, a `tch::Tensor` that owns its memory, and the
//! bytes of a tensor for as long as the tensor lives.

#![expect(unsafe_code, reason = "the fence to the C++ shim and to tensor memory")]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    path::Path,
    ptr::{self, NonNull},
};

use bytes::Bytes;
use tch::{Kind, Tensor};

use super::module::{Argument, Output};
use crate::model::Weights;

mod aoti;
mod pure;

pub(super) use aoti::RawPackage;
pub(super) use pure::PureModule;

/// `FbModule` of the shim.
#[repr(C)]
struct FbModule {
    _opaque: [u8; 0],
}

/// `FbOutputs` of the shim.
#[repr(C)]
struct FbOutputs {
    _opaque: [u8; 0],
}

/// `FbArgument` of the shim.
#[repr(C)]
struct FbArgument {
    kind: i32,
    tensor: *const c_void,
    integer: i64,
    real: f64,
    texts: *const u8,
    texts_bytes: usize,
}

unsafe extern "C" {
    fn fb_module_load(
        file: *const c_char,
        device: c_int,
        form: c_int,
        error: *mut *mut c_char,
    ) -> *mut FbModule;
    fn fb_module_in_form(
        saved: *const FbModule,
        form: c_int,
        error: *mut *mut c_char,
    ) -> *mut FbModule;
    fn fb_module_free(module: *mut FbModule);
    fn fb_module_is_pure(module: *const FbModule) -> bool;
    fn fb_module_runs_the_same(one: *const FbModule, other: *const FbModule) -> bool;
    fn fb_module_bytes(module: *const FbModule) -> u64;
    fn fb_profiling(on: bool);
    fn fb_trim();
    fn fb_leave(status: c_int) -> !;
    fn fb_module_schema(module: *mut FbModule, error: *mut *mut c_char) -> *mut c_char;
    fn fb_module_forward(
        module: *mut FbModule,
        arguments: *const FbArgument,
        count: usize,
        error: *mut *mut c_char,
    ) -> *mut FbOutputs;
    fn fb_module_reset(module: *mut FbModule, error: *mut *mut c_char) -> bool;
    fn fb_outputs_count(outputs: *const FbOutputs) -> usize;
    fn fb_outputs_tensor(outputs: *mut FbOutputs, index: usize) -> *mut c_void;
    fn fb_outputs_texts(
        outputs: *const FbOutputs,
        index: usize,
        count: *mut usize,
        bytes: *mut usize,
    ) -> *const u8;
    fn fb_outputs_free(outputs: *mut FbOutputs);
    fn fb_tensor_over(
        data: *mut c_void,
        dims: *const i64,
        rank: usize,
        scalar_type: c_int,
        owner: *mut c_void,
        drop_owner: extern "C" fn(*mut c_void),
        error: *mut *mut c_char,
    ) -> *mut c_void;
    fn fb_tensor_is_shared(tensor: *const c_void) -> bool;
    fn fb_tensor_is_dense(tensor: *const c_void, bytes: *mut usize) -> bool;
    fn fb_free_text(text: *mut c_char);
}

/// A loaded module of the shim's. It is freed when it is dropped.
#[derive(Debug)]
pub(super) struct RawModule(NonNull<FbModule>);

// SAFETY: a module has no tie to the thread that loaded it; `&mut self` keeps calls apart.
unsafe impl Send for RawModule {}

impl RawModule {
    /// Loads onto the accelerator of index `device`, or onto the CPU where it is negative.
    pub(super) fn load(file: &Path, device: c_int, form: c_int) -> Result<Self, String> {
        let file = CString::new(file.as_os_str().as_encoded_bytes())
            .map_err(|_| "the path holds a NUL byte".to_owned())?;
        let mut error = ptr::null_mut();
        // SAFETY: `file` is a C string and `error` a place for a pointer, both alive in the call.
        let module = unsafe { fb_module_load(file.as_ptr(), device, form, &raw mut error) };
        NonNull::new(module).map(Self).ok_or_else(|| told(error))
    }

    /// Makes one in another form.
    pub(super) fn in_form(&self, form: c_int) -> Result<Self, String> {
        let mut error = ptr::null_mut();
        // SAFETY: the module lives as long as `self`, and the call changes nothing in it.
        let module = unsafe { fb_module_in_form(self.0.as_ptr(), form, &raw mut error) };
        NonNull::new(module).map(Self).ok_or_else(|| told(error))
    }

    /// Returns whether passes are known to change nothing in it.
    pub(super) fn is_pure(&self) -> bool {
        // SAFETY: the module lives as long as `self`.
        unsafe { fb_module_is_pure(self.0.as_ptr()) }
    }

    /// Returns whether `forward` of both runs the same operations on the same numbers and shapes.
    pub(super) fn runs_the_same(&self, other: &Self) -> bool {
        // SAFETY: both live as long as their borrows, and the call changes nothing in them.
        unsafe { fb_module_runs_the_same(self.0.as_ptr(), other.0.as_ptr()) }
    }

    pub(super) fn schema(&mut self) -> Result<String, String> {
        let mut error = ptr::null_mut();
        // SAFETY: the module lives as long as `self`.
        let text = unsafe { fb_module_schema(self.0.as_ptr(), &raw mut error) };
        take_text(text).ok_or_else(|| told(error))
    }

    pub(super) fn forward(&mut self, arguments: &[Argument]) -> Result<Vec<Output>, String> {
        self.pass(arguments)
    }

    /// Runs a pass. Passes of a module that is not pure must not overlap.
    fn pass(&self, arguments: &[Argument]) -> Result<Vec<Output>, String> {
        let raw: Vec<FbArgument> = arguments.iter().map(FbArgument::from).collect();
        let mut error = ptr::null_mut();
        let (module, first, count) = (self.0.as_ptr(), raw.as_ptr(), raw.len());
        // SAFETY: the module lives as long as `self`, and what the arguments point to as long as
        // `arguments`; the shim copies texts and shares tensors.
        let outputs = unsafe { fb_module_forward(module, first, count, &raw mut error) };
        let outputs = NonNull::new(outputs)
            .map(RawOutputs)
            .ok_or_else(|| told(error))?;
        // SAFETY: the outputs live until `outputs` is dropped.
        let count = unsafe { fb_outputs_count(outputs.0.as_ptr()) };
        Ok((0..count).map(|index| outputs.take(index)).collect())
    }

    /// Returns the memory that the module's tensors take.
    pub(super) fn weights(&self) -> Weights {
        // SAFETY: the module lives as long as `self`, and the call changes nothing in it.
        let bytes = unsafe { fb_module_bytes(self.0.as_ptr()) };
        Weights {
            at: self.0.as_ptr().addr(),
            bytes,
        }
    }

    pub(super) fn reset(&mut self) -> Result<(), String> {
        let mut error = ptr::null_mut();
        // SAFETY: the module lives as long as `self`.
        let done = unsafe { fb_module_reset(self.0.as_ptr(), &raw mut error) };
        if done { Ok(()) } else { Err(told(error)) }
    }
}

/// Ends the process with `status` at once. Unlike [`std::process::exit`] this runs no destructor of a
/// library, which would take from threads that are within libtorch what they use.
pub(crate) fn leave(status: u8) -> ! {
    // SAFETY: ending the process has no requirements.
    unsafe { fb_leave(status.into()) }
}

/// Sets whether the graphs of all modules are specialised for what their first passes saw.
pub(crate) fn specialise_graphs(on: bool) {
    // SAFETY: sets an atomic.
    unsafe { fb_profiling(on) };
}

/// Gives memory that libtorch has freed, and its allocator keeps, back to the system.
pub(crate) fn trim() {
    // SAFETY: the allocator locks what it looks at.
    unsafe { fb_trim() };
}

impl Drop for RawModule {
    fn drop(&mut self) {
        // SAFETY: the module came from the shim and is not used after this.
        unsafe { fb_module_free(self.0.as_ptr()) };
    }
}

impl From<&Argument> for FbArgument {
    /// Borrows from the argument: the result must not outlive it.
    fn from(argument: &Argument) -> Self {
        let mut raw = Self {
            kind: 0,
            tensor: ptr::null(),
            integer: 0,
            real: 0.0,
            texts: ptr::null(),
            texts_bytes: 0,
        };
        match argument {
            Argument::None => {}
            Argument::Tensor(tensor) => (raw.kind, raw.tensor) = (1, tensor.as_ptr().cast()),
            Argument::Int(value) => (raw.kind, raw.integer) = (2, *value),
            Argument::Float(value) => (raw.kind, raw.real) = (3, *value),
            Argument::Bool(value) => (raw.kind, raw.integer) = (4, i64::from(*value)),
            Argument::Texts { count, elements } => {
                (raw.kind, raw.integer) = (5, i64::try_from(*count).unwrap_or(i64::MAX));
                (raw.texts, raw.texts_bytes) = (elements.as_ptr(), elements.len());
            }
        }
        raw
    }
}

/// What a forward pass gave. It is freed when it is dropped.
struct RawOutputs(NonNull<FbOutputs>);

impl RawOutputs {
    /// Takes out an output; `index` is below the count.
    fn take(&self, index: usize) -> Output {
        // SAFETY: the outputs live as long as `self`, and `index` is below their count.
        let tensor = unsafe { fb_outputs_tensor(self.0.as_ptr(), index) };
        if !tensor.is_null() {
            // SAFETY: the shim made a new `at::Tensor`, which from here on is this `Tensor`'s alone.
            return Output::Tensor(unsafe { Tensor::from_ptr(tensor.cast()) });
        }
        let (mut count, mut length) = (0, 0);
        let (to_count, to_length) = (&raw mut count, &raw mut length);
        // SAFETY: as above; the two places live during the call.
        let texts = unsafe { fb_outputs_texts(self.0.as_ptr(), index, to_count, to_length) };
        if texts.is_null() {
            return Output::Other;
        }
        // SAFETY: the shim lends `length` bytes, which live as long as `self`.
        let elements = unsafe { std::slice::from_raw_parts(texts, length) };
        Output::Texts {
            count,
            elements: Bytes::copy_from_slice(elements),
        }
    }
}

impl Drop for RawOutputs {
    fn drop(&mut self) {
        // SAFETY: the outputs came from `fb_module_forward` and are not used after this.
        unsafe { fb_outputs_free(self.0.as_ptr()) };
    }
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
    // holds as many elements as `dims` say, as was checked; `dims` and `error` live during the call. The
    // owner is the shim's from here on.
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
        return Err(told(error));
    }
    // SAFETY: the shim made a new `at::Tensor`, which from here on is this `Tensor`'s alone.
    Ok(unsafe { Tensor::from_ptr(tensor.cast()) })
}

/// Returns whether anything but `tensor` refers to its memory: the model that made it, or a view; or
/// whether it is itself a view, of less than half of that.
pub(crate) fn is_shared(tensor: &Tensor) -> bool {
    // SAFETY: the tensor lives during the call, which only reads its counts.
    unsafe { fb_tensor_is_shared(tensor.as_ptr().cast()) }
}

/// Returns how many bytes the elements of `tensor` take, where they lie in the memory of the CPU as its shape
/// says, with nothing between them.
pub(super) fn dense_bytes(tensor: &Tensor) -> Option<usize> {
    let mut bytes = 0;
    // SAFETY: the tensor lives during the call, which only reads, as does the place for the number.
    unsafe { fb_tensor_is_dense(tensor.as_ptr().cast(), &raw mut bytes) }.then_some(bytes)
}

/// Returns the memory of a contiguous CPU tensor of `len` bytes.
pub(super) fn tensor_bytes(tensor: &Tensor, len: usize) -> &[u8] {
    let data = tensor.data_ptr().cast::<u8>();
    if data.is_null() || len == 0 {
        return &[];
    }
    // SAFETY: a contiguous tensor of `len` bytes begins at `data` and lives as long as the borrow;
    // `TorchBytes` is made of tensors that no model holds any more, and that nobody writes to or resizes
    // through another handle; it never hands them out.
    unsafe { std::slice::from_raw_parts(data, len) }
}

/// Takes the text of a failed call.
fn told(error: *mut c_char) -> String {
    take_text(error).unwrap_or_default()
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
pub(crate) fn scalar_type(kind: Kind) -> c_int {
    match kind {
        Kind::Uint8 => 0,
        Kind::Int8 => 1,
        Kind::Int16 => 2,
        Kind::Int => 3,
        Kind::Int64 => 4,
        Kind::Half => 5,
        Kind::Float => 6,
        Kind::Double => 7,
        Kind::ComplexHalf => 8,
        Kind::ComplexFloat => 9,
        Kind::ComplexDouble => 10,
        Kind::Bool => 11,
        Kind::BFloat16 => 15,
        Kind::Float8e5m2 => 23,
        Kind::Float8e4m3fn => 24,
        Kind::Float8e5m2fnuz => 25,
        Kind::Float8e4m3fnuz => 26,
        Kind::QInt8 | Kind::QUInt8 | Kind::QInt32 => {
            unreachable!("a quantised tensor is never made of its bytes")
        }
    }
}
