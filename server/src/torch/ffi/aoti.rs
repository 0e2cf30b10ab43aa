//! The fence around AOTInductor's packages.
//!
//! Invariant: a package is freed once, when nothing runs it any more; the tensors that it gave own
//! their memory, or share it with the package, which `is_shared` tells.

#![expect(unsafe_code, reason = "the fence to the C++ shim")]

use std::{
    ffi::{CString, c_char, c_int, c_void},
    path::Path,
    ptr::{self, NonNull},
};

use tch::Tensor;

use super::{take_text, told};
use crate::torch::RunError;

/// `FbPackage` of the shim.
#[repr(C)]
struct FbPackage {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn fb_package_describe(file: *const c_char, error: *mut *mut c_char) -> *mut c_char;
    fn fb_package_load(
        file: *const c_char,
        runners: usize,
        device: c_int,
        error: *mut *mut c_char,
    ) -> *mut FbPackage;
    fn fb_package_free(package: *mut FbPackage);
    fn fb_package_call_spec(package: *mut FbPackage, error: *mut *mut c_char) -> *mut c_char;
    fn fb_package_run(
        package: *mut FbPackage,
        inputs: *const *const c_void,
        count: usize,
        sink: *mut c_void,
        take: extern "C" fn(*mut c_void, *mut c_void),
        no_memory: *mut bool,
        error: *mut *mut c_char,
    ) -> bool;
    fn fb_package_probe(
        file: *const c_char,
        inputs: *const *const c_void,
        count: usize,
        error: *mut *mut c_char,
    ) -> bool;
}

/// A loaded package of the shim's. It is freed when it is dropped.
#[derive(Debug)]
pub(in crate::torch) struct RawPackage(NonNull<FbPackage>);

// SAFETY: a package has no tie to the thread that loaded it.
unsafe impl Send for RawPackage {}
// SAFETY: AOTInductor gives each run a runner of its own, under a lock; all else is only read.
unsafe impl Sync for RawPackage {}

impl RawPackage {
    pub(in crate::torch) fn describe(file: &Path) -> Result<String, String> {
        let file = c_path(file)?;
        let mut error = ptr::null_mut();
        // SAFETY: `file` is a C string and `error` a place for a pointer, both alive in the call.
        let text = unsafe { fb_package_describe(file.as_ptr(), &raw mut error) };
        take_text(text).ok_or_else(|| told(error))
    }

    /// Loads onto the accelerator of index `device`, or onto the CPU where it is negative.
    pub(in crate::torch) fn load(
        file: &Path,
        runners: usize,
        device: c_int,
    ) -> Result<Self, String> {
        let file = c_path(file)?;
        let mut error = ptr::null_mut();
        // SAFETY: `file` is a C string and `error` a place for a pointer, both alive in the call.
        let package = unsafe { fb_package_load(file.as_ptr(), runners, device, &raw mut error) };
        NonNull::new(package).map(Self).ok_or_else(|| told(error))
    }

    pub(in crate::torch) fn call_spec(&self) -> Result<String, String> {
        let mut error = ptr::null_mut();
        // SAFETY: the package lives as long as `self`.
        let text = unsafe { fb_package_call_spec(self.0.as_ptr(), &raw mut error) };
        take_text(text).ok_or_else(|| told(error))
    }

    pub(in crate::torch) fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        extern "C" fn take(sink: *mut c_void, tensor: *mut c_void) {
            // SAFETY: `sink` is the vector below, which nothing else touches during the call.
            let sink = unsafe { &mut *sink.cast::<Vec<Tensor>>() };
            // SAFETY: the shim made a new `at::Tensor`, which from here on is this `Tensor`'s alone.
            sink.push(unsafe { Tensor::from_ptr(tensor.cast()) });
        }
        let raw = pointers(inputs);
        let mut outputs: Vec<Tensor> = Vec::new();
        let (mut no_memory, mut error) = (false, ptr::null_mut());
        // SAFETY: the package lives as long as `self`, the tensors as long as `inputs`, and the
        // places for outputs and errors during the call.
        let done = unsafe {
            fb_package_run(
                self.0.as_ptr(),
                raw.as_ptr(),
                raw.len(),
                (&raw mut outputs).cast(),
                take,
                &raw mut no_memory,
                &raw mut error,
            )
        };
        match (done, no_memory) {
            (true, _) => Ok(outputs),
            (false, true) => Err(RunError::OutOfMemory(told(error))),
            (false, false) => Err(RunError::Failed(told(error))),
        }
    }

    pub(in crate::torch) fn probe(file: &Path, inputs: &[Tensor]) -> Result<(), String> {
        let file = c_path(file)?;
        let raw = pointers(inputs);
        let mut error = ptr::null_mut();
        // SAFETY: `file` is a C string, the tensors live as long as `inputs`, and `error` is a place
        // for a pointer that lives during the call.
        let done =
            unsafe { fb_package_probe(file.as_ptr(), raw.as_ptr(), raw.len(), &raw mut error) };
        if done { Ok(()) } else { Err(told(error)) }
    }
}

impl Drop for RawPackage {
    fn drop(&mut self) {
        // SAFETY: the package came from `fb_package_load` and is not used after this.
        unsafe { fb_package_free(self.0.as_ptr()) };
    }
}

fn c_path(file: &Path) -> Result<CString, String> {
    CString::new(file.as_os_str().as_encoded_bytes())
        .map_err(|_| "the path holds a NUL byte".to_owned())
}

/// Borrows the tensors: the result must not outlive them.
fn pointers(tensors: &[Tensor]) -> Vec<*const c_void> {
    tensors
        .iter()
        .map(|tensor| tensor.as_ptr().cast())
        .collect()
}
