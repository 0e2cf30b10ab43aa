// Streams, events, page-locked memory and copies of libtorch's accelerators, through what libtorch
// offers for all of them. Every function catches what libtorch throws.

#include "accelerator.h"

#include <dlfcn.h>

#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <utility>

#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/Event.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/headeronly/version.h>

struct FbStream {
  c10::Stream stream;
};

struct FbEvent {
  c10::Event event;
};

struct FbGuard {
  c10::StreamGuard guard;
};

struct FbPinned {
  c10::DataPtr data;
};

namespace {

constexpr int32_t kOther = 0;
constexpr int32_t kOutOfMemory = 1;

char* copy(const std::string& text) {
  char* out = new char[text.size() + 1];
  std::memcpy(out, text.c_str(), text.size() + 1);
  return out;
}

void fail(FbFailure* failure, int32_t kind, const std::string& text) {
  failure->kind = kind;
  failure->text = copy(text);
}

// Runs `work` and returns its result, or `failed` and what was thrown.
template <typename T, typename F>
T guarded(FbFailure* failure, T failed, F work) {
  try {
    return work();
  } catch (const c10::OutOfMemoryError& e) {
    fail(failure, kOutOfMemory, e.what_without_backtrace());
  } catch (const c10::Error& e) {
    fail(failure, kOther, e.what_without_backtrace());
  } catch (const std::exception& e) {
    fail(failure, kOther, e.what());
  } catch (...) {
    fail(failure, kOther, "an exception that is no std::exception");
  }
  return failed;
}

template <typename F>
bool done(FbFailure* failure, F work) {
  return guarded<bool>(failure, false, [&] {
    work();
    return true;
  });
}

c10::DeviceType accelerator() {
  return at::accelerator::getAccelerator(/*checked=*/true).value();
}

c10::Device device(int32_t index) {
  return c10::Device(accelerator(), static_cast<c10::DeviceIndex>(index));
}

// Kinds whose library may be there without a device that it could drive.
constexpr c10::DeviceType kKinds[] = {
    c10::DeviceType::CUDA, c10::DeviceType::HIP, c10::DeviceType::XPU, c10::DeviceType::PrivateUse1};

} // namespace

extern "C" {

char* fb_library_load(const char* name) {
  if (dlopen(name, RTLD_NOW | RTLD_GLOBAL) != nullptr) {
    return nullptr;
  }
  const char* why = dlerror();
  return copy(why == nullptr ? "the system does not say why" : why);
}

char* fb_libtorch_file() {
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(&at::globalContext), &info) == 0 ||
      info.dli_fname == nullptr) {
    return nullptr;
  }
  return copy(info.dli_fname);
}

char* fb_libtorch_version() {
  return copy(
      std::to_string(TORCH_VERSION_MAJOR) + "." + std::to_string(TORCH_VERSION_MINOR) + "." +
      std::to_string(TORCH_VERSION_PATCH));
}

bool fb_accelerator_count(char** name, int32_t* count, FbFailure* failure) {
  return done(failure, [&] {
    const auto kind = at::accelerator::getAccelerator(/*checked=*/false);
    *count = -1;
    if (kind.has_value()) {
      *name = copy(c10::DeviceTypeName(*kind, /*lower_case=*/true));
      *count = c10::impl::VirtualGuardImpl(*kind).deviceCount();
      if (*count > 0) {
        at::globalContext().lazyInitDevice(*kind);
      }
      return;
    }
    for (const auto candidate : kKinds) {
      if (c10::impl::hasDeviceGuardImpl(candidate)) {
        *name = copy(c10::DeviceTypeName(candidate, /*lower_case=*/true));
        *count = 0;
        return;
      }
    }
  });
}

bool fb_accelerator_bus_id(int32_t index, char* text, int32_t size) {
  using GetBusId = int (*)(char*, int, int);
  auto* get = reinterpret_cast<GetBusId>(dlsym(RTLD_DEFAULT, "cudaDeviceGetPCIBusId"));
  return get != nullptr && get(text, size, index) == 0;
}

FbStream* fb_stream_new(int32_t index, FbFailure* failure) {
  return guarded<FbStream*>(failure, nullptr, [&] {
    const auto at = device(index);
    return new FbStream{c10::impl::VirtualGuardImpl(at.type()).getNewStream(at)};
  });
}

void fb_stream_free(FbStream* stream) {
  delete stream;
}

bool fb_stream_synchronize(const FbStream* stream, FbFailure* failure) {
  return done(failure, [&] { stream->stream.synchronize(); });
}

FbGuard* fb_stream_enter(const FbStream* stream, FbFailure* failure) {
  return guarded<FbGuard*>(
      failure, nullptr, [&] { return new FbGuard{c10::StreamGuard(stream->stream)}; });
}

void fb_stream_leave(FbGuard* guard) {
  delete guard;
}

FbEvent* fb_event_record(const FbStream* stream, bool timed, FbFailure* failure) {
  return guarded<FbEvent*>(failure, nullptr, [&] {
    const auto flag = timed ? c10::EventFlag::BACKEND_DEFAULT : c10::EventFlag::PYTORCH_DEFAULT;
    auto event =
        std::make_unique<FbEvent>(FbEvent{c10::Event(stream->stream.device_type(), flag)});
    event->event.record(stream->stream);
    return event.release();
  });
}

void fb_event_free(FbEvent* event) {
  delete event;
}

bool fb_event_block(const FbEvent* event, const FbStream* stream, FbFailure* failure) {
  return done(failure, [&] { event->event.block(stream->stream); });
}

bool fb_event_synchronize(const FbEvent* event, FbFailure* failure) {
  return done(failure, [&] { event->event.synchronize(); });
}

bool fb_event_elapsed(
    const FbEvent* from, const FbEvent* to, double* milliseconds, FbFailure* failure) {
  return done(failure, [&] { *milliseconds = from->event.elapsedTime(to->event); });
}

FbPinned* fb_pinned_new(size_t size, FbFailure* failure) {
  return guarded<FbPinned*>(failure, nullptr, [&] {
    return new FbPinned{at::getHostAllocator(accelerator())->allocate(size)};
  });
}

void* fb_pinned_data(const FbPinned* pinned) {
  return pinned->data.get();
}

void fb_pinned_free(FbPinned* pinned) {
  // Not by the destructor, which may not throw: the allocator does once its device is broken.
  const auto release = pinned->data.get_deleter();
  void* context = pinned->data.release_context();
  delete pinned;
  try {
    if (release != nullptr && context != nullptr) {
      release(context);
    }
  } catch (...) {
    // The memory stays locked until the process ends.
  }
}

bool fb_pinned_trim(FbFailure* failure) {
  return done(failure, [&] { at::getHostAllocator(accelerator())->empty_cache(); });
}

void* fb_copy_to_device(
    const FbStream* stream,
    const void* data,
    const int64_t* dims,
    size_t rank,
    int scalar_type,
    FbFailure* failure) {
  return guarded<void*>(failure, nullptr, [&]() -> void* {
    c10::InferenceMode mode;
    c10::StreamGuard guard(stream->stream);
    const at::IntArrayRef shape(dims, rank);
    const auto options = at::TensorOptions().dtype(static_cast<at::ScalarType>(scalar_type));
    const auto host = at::from_blob(const_cast<void*>(data), shape, options);
    auto target = std::make_unique<at::Tensor>(
        at::empty(shape, options.device(stream->stream.device())));
    target->copy_(host, /*non_blocking=*/true);
    return target.release();
  });
}

bool fb_copy_to_host(
    const FbStream* stream, const void* tensor, void* data, size_t size, FbFailure* failure) {
  return done(failure, [&] {
    c10::InferenceMode mode;
    c10::StreamGuard guard(stream->stream);
    const auto& source = *static_cast<const at::Tensor*>(tensor);
    TORCH_CHECK(source.is_contiguous() && source.nbytes() == size, "the tensor is not dense");
    TORCH_CHECK(source.device() == stream->stream.device(), "the tensor is on another device");
    const auto options = at::TensorOptions().dtype(source.scalar_type());
    at::from_blob(data, source.sizes(), options).copy_(source, /*non_blocking=*/true);
  });
}

bool fb_record_stream(const void* tensor, const FbStream* stream, FbFailure* failure) {
  return done(failure, [&] {
    const auto& at = *static_cast<const at::Tensor*>(tensor);
    c10::impl::VirtualGuardImpl(stream->stream.device_type())
        .recordDataPtrOnStream(at.storage().data_ptr(), stream->stream);
  });
}

bool fb_empty_cache(FbFailure* failure) {
  return done(failure, [&] { at::accelerator::emptyCache(); });
}

bool fb_memory(int32_t index, FbMemory* memory, FbFailure* failure) {
  return done(failure, [&] {
    const auto at = static_cast<c10::DeviceIndex>(index);
    const auto [free, total] = at::accelerator::getMemoryInfo(at);
    constexpr auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    const auto held = at::accelerator::getDeviceStats(at).allocated_bytes[kAll].current;
    const auto host = at::getHostAllocator(accelerator())->get_stats();
    memory->total = total;
    memory->free = free;
    memory->allocated = static_cast<uint64_t>(held);
    memory->pinned = static_cast<uint64_t>(host.allocated_bytes.current);
  });
}
}
