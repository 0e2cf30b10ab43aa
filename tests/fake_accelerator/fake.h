// An accelerator for tests, made of threads and host memory, that libtorch takes for a real one: it
// registers as a PrivateUse1 backend, the way libtorch_cuda.so registers CUDA. Only tests load it.
//
// Device 0 is fast and takes asynchronous copies from and to page-locked memory only. Device 1 waits
// for 200 ms before each copy, so that a copy that nobody waits for shows. Device 2 fails every copy
// as CUDA does after an illegal memory access. Device 3 breaks at the first copy to the host: from then
// on waiting, recording, and freeing what several streams used fail too, and to free page-locked memory,
// by exceptions that come out of destructors, as with CUDA. Each has 64 MiB. Memory that is new or was freed holds
// 0xDD, so that what reads too early or too late reads nonsense.

#pragma once

#include <c10/core/Stream.h>

#include <cstddef>
#include <functional>

namespace fake {

constexpr int kDevices = 4;
constexpr int kSlow = 1;
constexpr int kBroken = 2;
constexpr int kBreaks = 3;
constexpr size_t kMemory = 64u << 20;
constexpr int kPoison = 0xDD;

c10::DeviceIndex current_device();
c10::Stream current_stream(c10::DeviceIndex device);

// Enqueues a job on a stream. Streams run what is enqueued in order, each on a thread of its own.
void enqueue(const c10::Stream& stream, std::function<void()> job);
void synchronize(const c10::Stream& stream);

bool is_pinned(const void* data);

// Fails as CUDA does after an illegal memory access.
[[noreturn]] void fail_for_good();
// Breaks device 3.
void break_it();
// Fails where the device, or any one, is device 3 and broken.
void check_whole(c10::DeviceIndex device = kBreaks);

} // namespace fake
