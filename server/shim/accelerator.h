// The C interface between server/src/device/accelerator and libtorch's accelerators, whatever their
// kind: only what libtorch offers for all of them is used, so that a build needs no vendor's headers.
// Nothing throws through it: where a call can fail it returns null or false and fills `failure`, whose
// text fb_free_text frees.

#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

// Why a call failed.
struct FbFailure {
  int32_t kind; // 1 where the class of what was thrown tells of no memory, else 0: the text tells
  char* text;
};

// A queue of operations of a device.
struct FbStream;

// A point in a stream.
struct FbEvent;

// Makes a stream the calling thread's current one, until it is left.
struct FbGuard;

// Page-locked memory of the host.
struct FbPinned;

// What a device's memory holds.
struct FbMemory {
  uint64_t total;
  uint64_t free;
  uint64_t allocated; // by tensors
  uint64_t pinned; // of the host, by all devices of the kind
};

// Loads a library with all its symbols global. Returns null, or why not.
char* fb_library_load(const char* name);

// The file that libtorch was loaded from; null where the system does not tell.
char* fb_libtorch_file();

// The version that this was compiled for.
char* fb_libtorch_version();

// Counts the accelerators of libtorch's kind, whose name is put into `name`; -1 where no kind is there.
bool fb_accelerator_count(char** name, int32_t* count, FbFailure* failure);

// Writes the device's address on the PCI bus, where CUDA's runtime is there and tells.
bool fb_accelerator_bus_id(int32_t index, char* text, int32_t size);

FbStream* fb_stream_new(int32_t device, FbFailure* failure);
void fb_stream_free(FbStream* stream);
bool fb_stream_synchronize(const FbStream* stream, FbFailure* failure);

// Sets device and stream of the calling thread; leaving, on the same thread, sets back what was.
FbGuard* fb_stream_enter(const FbStream* stream, FbFailure* failure);
void fb_stream_leave(FbGuard* guard);

// Makes an event and records it on the stream.
FbEvent* fb_event_record(const FbStream* stream, bool timed, FbFailure* failure);
void fb_event_free(FbEvent* event);
// Makes what is enqueued on the stream from here on wait for the event.
bool fb_event_block(const FbEvent* event, const FbStream* stream, FbFailure* failure);
bool fb_event_synchronize(const FbEvent* event, FbFailure* failure);
// Between two timed events that have happened.
bool fb_event_elapsed(
    const FbEvent* from, const FbEvent* to, double* milliseconds, FbFailure* failure);

FbPinned* fb_pinned_new(size_t size, FbFailure* failure);
void* fb_pinned_data(const FbPinned* pinned);
// Where the device is broken the memory may stay locked.
void fb_pinned_free(FbPinned* pinned);
// Gives page-locked memory that is free back to the system.
bool fb_pinned_trim(FbFailure* failure);

// Enqueues a copy to a new tensor of the stream's device, and returns it, an at::Tensor. `data` must
// live until the copy is done.
void* fb_copy_to_device(
    const FbStream* stream,
    const void* data,
    const int64_t* dims,
    size_t rank,
    int scalar_type,
    FbFailure* failure);

// Enqueues a copy of a dense tensor to `size` bytes at `data`; tensor and memory must live until the
// copy is done.
bool fb_copy_to_host(
    const FbStream* stream, const void* tensor, void* data, size_t size, FbFailure* failure);

// Keeps the tensor's memory from being used again before what is enqueued on the stream is done.
bool fb_record_stream(const void* tensor, const FbStream* stream, FbFailure* failure);

// Gives device memory that is kept for reuse back to the driver.
bool fb_empty_cache(FbFailure* failure);

bool fb_memory(int32_t device, FbMemory* memory, FbFailure* failure);
}
