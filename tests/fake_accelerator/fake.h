// An accelerator for tests, made of threads and host memory, that libtorch takes for a real one: it
// registers as a PrivateUse1 backend, the way libtorch_cuda.so registers CUDA. Only tests load it.
//
// Device 0 is fast and takes asynchronous copies from and to page-locked memory only. Device 1 waits
// for 200 ms before each copy, so that a copy that nobody waits for shows. Device 2 fails every copy
// as CUDA does after an illegal memory access. Each has 64 MiB. Memory that is new or was freed holds
// 0xDD, so that what reads too early or too late reads nonsense.

#pragma once

#include <c10/core/Stream.h>

#include <cstddef>
#include <functional>

namespace fake {

constexpr int kDevices = 3;
constexpr int kSlow = 1;
constexpr int kBroken = 2;
constexpr size_t kMemory = 64u << 20;
constexpr int kPoison = 0xDD;

c10::DeviceIndex current_device();
c10::Stream current_stream(c10::DeviceIndex device);

// Enqueues a job on a stream. Streams run what is enqueued in order, each on a thread of its own.
void enqueue(const c10::Stream& stream, std::function<void()> job);
void synchronize(const c10::Stream& stream);

bool is_pinned(const void* data);

} // namespace fake
