//! Streams, the events in them, and the copies that are enqueued on them.

use std::{marker::PhantomData, ptr::NonNull, sync::Arc, time::Duration};

use tch::Tensor;

use super::*;
use crate::{memory::HostBuf, tensor::HostTensor, torch::DeviceTensor};

/// A queue of operations of a device.
#[derive(Debug)]
pub(in super::super) struct Stream(NonNull<FbStream>, Broken);

// SAFETY: a stream of the shim is a plain value, which no call changes.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

impl Stream {
    /// Opens a stream, which notes in `broken` what waits in vain tell.
    pub(in super::super) fn open(device: u32, broken: Broken) -> Result<Arc<Self>, Failure> {
        let device = i32::try_from(device).unwrap_or(i32::MAX);
        // SAFETY: `failure` lives during the call.
        let stream = make(|failure| unsafe { fb_stream_new(device, failure) })?;
        Ok(Arc::new(Self(stream, broken)))
    }

    pub(super) fn broken(&self) -> &Broken {
        &self.1
    }

    pub(in super::super) fn synchronize(&self) -> Result<(), Failure> {
        // SAFETY: the stream lives as long as `self`, here and below.
        check(|failure| unsafe { fb_stream_synchronize(self.0.as_ptr(), failure) })
    }

    /// Makes this the calling thread's current stream until the guard is dropped.
    pub(in super::super) fn enter(&self) -> Result<Entered, Failure> {
        // SAFETY: as above.
        let guard = make(|failure| unsafe { fb_stream_enter(self.0.as_ptr(), failure) })?;
        Ok(Entered(guard, PhantomData))
    }

    /// Marks the point that the stream has been filled up to.
    pub(in super::super) fn record(&self, timed: bool) -> Result<Event, Failure> {
        // SAFETY: as above.
        make(|failure| unsafe { fb_event_record(self.0.as_ptr(), timed, failure) }).map(Event)
    }

    /// Makes what is enqueued from here on wait for `event`.
    pub(in super::super) fn wait(&self, event: &Event) -> Result<(), Failure> {
        let (event, stream) = (event.0.as_ptr(), self.0.as_ptr());
        // SAFETY: both live during the call.
        check(|failure| unsafe { fb_event_block(event, stream, failure) })
    }

    /// Keeps the tensor's memory, once freed, from being used again before what is enqueued here.
    pub(in super::super) fn keep(&self, tensor: &DeviceTensor) -> Result<(), Failure> {
        let (tensor, stream) = (tensor.tensor().as_ptr().cast(), self.0.as_ptr());
        // SAFETY: both live during the call.
        check(|failure| unsafe { fb_record_stream(tensor, stream, failure) })
    }

    /// Enqueues the copies of `sources` to the device; each has a datatype of libtorch's.
    pub(in super::super) fn upload(
        self: &Arc<Self>,
        sources: Vec<HostTensor>,
    ) -> Result<(Vec<Tensor>, InFlight<Vec<HostTensor>>), Failure> {
        let mut tensors = Vec::with_capacity(sources.len());
        let flight = InFlight::launch(self, sources, |sources| {
            for source in sources {
                let kind = torch::kind(source.datatype).ok_or_else(|| {
                    Failure::Operation(format!("no copies of {}", source.datatype))
                })?;
                let (data, dims) = (source.data.as_ref(), source.shape.dims());
                let (data, scalar_type) = (data.as_ptr().cast(), torch::scalar_type(kind));
                let (stream, first, rank) = (self.0.as_ptr(), dims.as_ptr(), dims.len());
                // SAFETY: a host tensor has the bytes that its datatype and shape call for, and the
                // flight keeps them until the copy is done; the rest lives during the call.
                let tensor = make(|failure| unsafe {
                    fb_copy_to_device(stream, data, first, rank, scalar_type, failure)
                })?;
                // SAFETY: the shim made a new `at::Tensor`, from here on this `Tensor`'s alone.
                tensors.push(unsafe { Tensor::from_ptr(tensor.as_ptr().cast()) });
            }
            Ok(())
        })?;
        Ok((tensors, flight))
    }

    /// Enqueues the copies of tensors to buffers of the same size.
    pub(in super::super) fn download(
        self: &Arc<Self>,
        pairs: Vec<(DeviceTensor, HostBuf)>,
    ) -> Result<InFlight<Vec<(DeviceTensor, HostBuf)>>, Failure> {
        InFlight::launch(self, pairs, |pairs| {
            for (source, target) in pairs {
                let (stream, tensor) = (self.0.as_ptr(), source.tensor().as_ptr().cast());
                let (data, size) = (target.as_mut_ptr().cast(), target.len());
                // SAFETY: the shim checks that the tensor has `size` bytes; the flight keeps it and
                // the target until the copy is done.
                check(|failure| unsafe { fb_copy_to_host(stream, tensor, data, size, failure) })?;
            }
            Ok(())
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: the stream came from `fb_stream_new` and is not used after this.
        unsafe { fb_stream_free(self.0.as_ptr()) };
    }
}

/// Sets the thread's stream back when it is dropped, on the thread that entered.
#[derive(Debug)]
pub(in super::super) struct Entered(NonNull<FbGuard>, PhantomData<*mut ()>);

impl Drop for Entered {
    fn drop(&mut self) {
        // SAFETY: the guard came from `fb_stream_enter`, on this thread since it is not `Send`.
        unsafe { fb_stream_leave(self.0.as_ptr()) };
    }
}

/// A point in a stream.
#[derive(Debug)]
pub(in super::super) struct Event(NonNull<FbEvent>);

// SAFETY: an event has no tie to a thread, and is changed only when it is made and freed.
unsafe impl Send for Event {}

impl Event {
    pub(in super::super) fn synchronize(&self) -> Result<(), Failure> {
        // SAFETY: the event lives as long as `self`.
        check(|failure| unsafe { fb_event_synchronize(self.0.as_ptr(), failure) })
    }

    /// Returns the time to `later`, where both are timed and have happened.
    pub(in super::super) fn elapsed(&self, later: &Self) -> Option<Duration> {
        let mut ms = 0.0;
        let (from, to) = (self.0.as_ptr(), later.0.as_ptr());
        // SAFETY: both events and the place live during the call.
        check(|failure| unsafe { fb_event_elapsed(from, to, &raw mut ms, failure) }).ok()?;
        Duration::try_from_secs_f64(ms / 1000.0).ok()
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the event came from `fb_event_record` and is not used after this.
        unsafe { fb_event_free(self.0.as_ptr()) };
    }
}
