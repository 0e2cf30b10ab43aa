// The operators that a backend must have; all others run on the CPU, on copies.

#include "fake.h"

#include <chrono>
#include <thread>

#include <ATen/EmptyTensor.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/view_native.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/InferenceMode.h>
#include <torch/library.h>

namespace fake {
namespace {

constexpr auto kPause = std::chrono::milliseconds(200);

constexpr c10::DispatchKeySet kKeys(c10::DispatchKey::PrivateUse1);

at::Tensor empty(
    at::IntArrayRef size,
    std::optional<at::ScalarType> dtype,
    std::optional<at::Layout>,
    std::optional<at::Device> device,
    std::optional<bool>,
    std::optional<at::MemoryFormat> format) {
  const c10::OptionalDeviceGuard guard(device);
  auto* allocator = c10::getDeviceAllocator(c10::DeviceType::PrivateUse1);
  return at::detail::empty_generic(size, allocator, kKeys, c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(
    at::IntArrayRef size,
    at::IntArrayRef stride,
    std::optional<at::ScalarType> dtype,
    std::optional<at::Layout>,
    std::optional<at::Device> device,
    std::optional<bool>) {
  const c10::OptionalDeviceGuard guard(device);
  auto* allocator = c10::getDeviceAllocator(c10::DeviceType::PrivateUse1);
  return at::detail::empty_strided_generic(
      size, stride, allocator, kKeys, c10::dtype_or_default(dtype));
}

// The tensor's memory as the CPU sees it. It is not owned: as on a device, nothing keeps memory alive
// that an operation on its way will touch.
at::Tensor on_host(const at::Tensor& tensor) {
  return at::from_blob(
      tensor.data_ptr(),
      tensor.sizes(),
      tensor.strides(),
      at::TensorOptions().dtype(tensor.scalar_type()));
}

void check(const at::Tensor& host, c10::DeviceIndex device, bool non_blocking) {
  check_whole(device);
  if (device == kBroken) {
    fail_for_good();
  }
  TORCH_CHECK(
      device == kSlow || !non_blocking || !host.defined() || is_pinned(host.data_ptr()),
      "an asynchronous copy touches memory of the host that is not page-locked");
}

at::Tensor copy_from(const at::Tensor& self, const at::Tensor& target, bool non_blocking) {
  if (self.numel() == 0) {
    return target;
  }
  const bool from_device = self.is_privateuseone();
  const bool to_device = target.is_privateuseone();
  const auto device = (to_device ? target : self).device();
  const auto host = from_device && to_device ? at::Tensor() : to_device ? self : target;
  check(host, device.index(), non_blocking);
  if (device.index() == kBreaks && !to_device) {
    break_it();
    fail_for_good();
  }
  const auto stream = current_stream(device.index());
  const auto from = on_host(self);
  const auto to = on_host(target);
  enqueue(stream, [from, to, device] {
    if (device.index() == kSlow) {
      std::this_thread::sleep_for(kPause);
    }
    const c10::InferenceMode mode;
    to.copy_(from);
  });
  if (!non_blocking && !(from_device && to_device)) {
    synchronize(stream);
  }
  return target;
}

at::Tensor copy_from_and_resize(const at::Tensor& self, const at::Tensor& target) {
  TORCH_CHECK(self.sizes() == target.sizes(), "the fake does not resize");
  return copy_from(self, target, false);
}

at::Scalar local_scalar(const at::Tensor& self) {
  return self.cpu().item();
}

at::Tensor as_strided(
    const at::Tensor& self,
    c10::SymIntArrayRef size,
    c10::SymIntArrayRef stride,
    std::optional<c10::SymInt> offset) {
  return at::native::as_strided_tensorimpl(
      self,
      C10_AS_INTARRAYREF_SLOW(size),
      C10_AS_INTARRAYREF_SLOW(stride),
      offset ? std::make_optional(offset->expect_int()) : std::nullopt);
}

at::Tensor view(const at::Tensor& self, c10::SymIntArrayRef size) {
  return at::native::view(self, C10_AS_INTARRAYREF_SLOW(size));
}

at::Tensor reshape_alias(
    const at::Tensor& self, c10::SymIntArrayRef size, c10::SymIntArrayRef stride) {
  return at::native::_reshape_alias(
      self, C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride));
}

void on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  at::native::cpu_fallback(op, stack);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("_local_scalar_dense", local_scalar);
  m.impl("as_strided", as_strided);
  m.impl("view", view);
  m.impl("_reshape_alias", reshape_alias);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&on_cpu>());
}

} // namespace
} // namespace fake
