//! Page-locked memory of libtorch's allocator for the accelerator.

use std::ptr;

use super::*;
use crate::memory::{Pinner, Region};

/// Page-locks memory through libtorch's allocator for the accelerator.
#[derive(Debug)]
pub(in super::super) struct Locker;

impl Pinner for Locker {
    fn pin(&self, size: usize) -> Option<Box<dyn Region>> {
        // SAFETY: `failure` lives during the call.
        let pinned = make(|failure| unsafe { fb_pinned_new(size, failure) });
        let pinned = Pinned(pinned.ok()?, size);
        let data = pinned.data();
        if data.is_null() {
            return None;
        }
        // SAFETY: the allocator gave `size` bytes at `data`; from here on they are initialised.
        unsafe { ptr::write_bytes(data, 0, size) };
        Some(Box::new(pinned))
    }

    fn trim(&self) {
        // SAFETY: `failure` lives during the call.
        let trimmed = check(|failure| unsafe { fb_pinned_trim(failure) });
        if let Err(failure) = trimmed {
            tracing::warn!(?failure, "page-locked memory was not given back");
        }
    }
}

/// Page-locked memory of this many bytes, all initialised.
#[derive(Debug)]
struct Pinned(NonNull<FbPinned>, usize);

// SAFETY: the memory has no tie to a thread, and is reached through the owner's borrows only.
unsafe impl Send for Pinned {}
// SAFETY: as above.
unsafe impl Sync for Pinned {}

impl Pinned {
    fn data(&self) -> *mut u8 {
        // SAFETY: the memory lives as long as `self`.
        unsafe { fb_pinned_data(self.0.as_ptr()) }.cast()
    }
}

impl Region for Pinned {
    fn bytes(&self) -> &[u8] {
        // SAFETY: there are as many initialised bytes, which live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.data(), self.1) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.data(), self.1) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: the memory came from `fb_pinned_new` and is not used after this.
        unsafe { fb_pinned_free(self.0.as_ptr()) };
    }
}
