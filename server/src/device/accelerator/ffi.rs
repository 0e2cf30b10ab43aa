//! The fence around libtorch's accelerators: the only module here with `unsafe` code.
//!
//! What leaves it are owning, safe types. Invariant: memory of the host that a copy may touch lies in
//! an [`InFlight`], from which it comes out once the copy is known to be done, and not before.

#![expect(
    unsafe_code,
    reason = "the fence to the C++ shim and to page-locked memory"
)]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    ptr::{self, NonNull},
};

use super::Broken;
use crate::torch;

mod flight;
mod pinned;
mod stream;

pub(super) use flight::InFlight;
pub(super) use pinned::Locker;
pub(super) use stream::{Event, Stream};

/// `FbFailure` of the shim.
#[repr(C)]
struct FbFailure {
    kind: i32,
    text: *mut c_char,
}

/// What a device's memory holds: `FbMemory` of the shim.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// All of it, in bytes as all below.
    pub total: u64,
    /// What the driver has left.
    pub free: u64,
    /// What tensors take.
    pub allocated: u64,
    /// Page-locked memory of the host, by all devices of the kind.
    pub pinned: u64,
}

macro_rules! opaque {
    ($($name:ident),*) => {
        $(
            /// The shim's type of this name.
            #[repr(C)]
            struct $name {
                _opaque: [u8; 0],
            }
        )*
    };
}
opaque!(FbStream, FbEvent, FbGuard, FbPinned);

unsafe extern "C" {
    fn fb_library_load(name: *const c_char) -> *mut c_char;
    fn fb_libtorch_file() -> *mut c_char;
    fn fb_libtorch_version() -> *mut c_char;
    fn fb_accelerator_count(
        name: *mut *mut c_char,
        count: *mut i32,
        failure: *mut FbFailure,
    ) -> bool;
    fn fb_accelerator_bus_id(index: i32, text: *mut c_char, size: i32) -> bool;
    fn fb_stream_new(device: i32, failure: *mut FbFailure) -> *mut FbStream;
    fn fb_stream_free(stream: *mut FbStream);
    fn fb_stream_synchronize(stream: *const FbStream, failure: *mut FbFailure) -> bool;
    fn fb_stream_enter(stream: *const FbStream, failure: *mut FbFailure) -> *mut FbGuard;
    fn fb_stream_leave(guard: *mut FbGuard);
    fn fb_event_record(s: *const FbStream, timed: bool, failure: *mut FbFailure) -> *mut FbEvent;
    fn fb_event_free(event: *mut FbEvent);
    fn fb_event_block(e: *const FbEvent, s: *const FbStream, failure: *mut FbFailure) -> bool;
    fn fb_event_synchronize(event: *const FbEvent, failure: *mut FbFailure) -> bool;
    fn fb_event_elapsed(
        from: *const FbEvent,
        to: *const FbEvent,
        milliseconds: *mut f64,
        failure: *mut FbFailure,
    ) -> bool;
    fn fb_pinned_new(size: usize, failure: *mut FbFailure) -> *mut FbPinned;
    fn fb_pinned_data(pinned: *const FbPinned) -> *mut c_void;
    fn fb_pinned_free(pinned: *mut FbPinned);
    fn fb_pinned_trim(failure: *mut FbFailure) -> bool;
    fn fb_copy_to_device(
        stream: *const FbStream,
        data: *const c_void,
        dims: *const i64,
        rank: usize,
        scalar_type: c_int,
        failure: *mut FbFailure,
    ) -> *mut c_void;
    fn fb_copy_to_host(
        stream: *const FbStream,
        tensor: *const c_void,
        data: *mut c_void,
        size: usize,
        failure: *mut FbFailure,
    ) -> bool;
    fn fb_record_stream(
        tensor: *const c_void,
        stream: *const FbStream,
        failure: *mut FbFailure,
    ) -> bool;
    fn fb_empty_cache(failure: *mut FbFailure) -> bool;
    fn fb_free_text(text: *mut c_char);
    fn fb_memory(device: i32, memory: *mut Memory, failure: *mut FbFailure) -> bool;
}

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// Only this one.
    Operation(String),
    /// There is no memory for it.
    OutOfMemory(String),
    /// And no later one will succeed.
    Final(String),
}

/// Calls the shim; `null` or false tells that `FbFailure` was filled.
fn call<T>(run: impl FnOnce(*mut FbFailure) -> T, failed: fn(&T) -> bool) -> Result<T, Failure> {
    let mut failure = FbFailure {
        kind: 0,
        text: ptr::null_mut(),
    };
    let result = run(&raw mut failure);
    if !failed(&result) {
        return Ok(result);
    }
    let text = take_text(failure.text).unwrap_or_default();
    // Told by the text, as within a pass, save where the exception's class already tells.
    Err(match (failure.kind, torch::classify(&text)) {
        (1, _) | (_, torch::Failure::OutOfMemory) => Failure::OutOfMemory(text),
        (_, torch::Failure::Final) => Failure::Final(text),
        (_, torch::Failure::Other) => Failure::Operation(text),
    })
}

fn check(run: impl FnOnce(*mut FbFailure) -> bool) -> Result<(), Failure> {
    call(run, |done| !done).map(drop)
}

fn make<T>(run: impl FnOnce(*mut FbFailure) -> *mut T) -> Result<NonNull<T>, Failure> {
    let made = call(run, |made| made.is_null())?;
    Ok(NonNull::new(made).expect("null was an error"))
}

/// Loads a library that brings an accelerator. Returns the system's text where it does not load.
pub(super) fn load_library(name: &str) -> Result<(), String> {
    let name = CString::new(name).map_err(|_| "the name holds a NUL byte".to_owned())?;
    // SAFETY: `name` is a C string. What the library's initialisers do is trusted: it is libtorch's,
    // or the one that the operator named.
    let why = unsafe { fb_library_load(name.as_ptr()) };
    take_text(why).map_or(Ok(()), Err)
}

/// Returns the file that libtorch was loaded from.
pub(super) fn libtorch_file() -> Option<String> {
    // SAFETY: the call has no requirements.
    take_text(unsafe { fb_libtorch_file() })
}

/// Returns the version of libtorch that this was built for.
pub(super) fn libtorch_version() -> String {
    // SAFETY: the call has no requirements.
    take_text(unsafe { fb_libtorch_version() }).unwrap_or_default()
}

/// Returns the kind of accelerator and how many there are, or `None` where no kind is registered.
pub(super) fn count() -> Result<Option<(String, u32)>, Failure> {
    let (mut name, mut count) = (ptr::null_mut(), -1);
    let (to_name, to_count) = (&raw mut name, &raw mut count);
    // SAFETY: the three places live during the call.
    check(|failure| unsafe { fb_accelerator_count(to_name, to_count, failure) })?;
    let name = take_text(name).unwrap_or_default();
    Ok(u32::try_from(count).ok().map(|count| (name, count)))
}

/// Returns the address of a device on the PCI bus.
pub(super) fn bus_id(index: u32) -> Option<String> {
    let mut text = [0u8; 32];
    let size = i32::try_from(text.len()).ok()?;
    let index = i32::try_from(index).ok()?;
    // SAFETY: `text` has `size` bytes and lives during the call.
    let told = unsafe { fb_accelerator_bus_id(index, text.as_mut_ptr().cast(), size) };
    let text = CStr::from_bytes_until_nul(&text).ok()?;
    told.then(|| text.to_string_lossy().into_owned())
}

/// Returns what the memory of device `index` holds.
pub(super) fn memory(index: u32) -> Result<Memory, Failure> {
    let mut memory = Memory::default();
    let index = i32::try_from(index).unwrap_or(i32::MAX);
    // SAFETY: both places live during the call.
    check(|failure| unsafe { fb_memory(index, &raw mut memory, failure) })?;
    Ok(memory)
}

/// Gives memory of the devices that is kept for reuse back.
pub(super) fn empty_cache() -> Result<(), Failure> {
    // SAFETY: `failure` lives during the call.
    check(|failure| unsafe { fb_empty_cache(failure) })
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
