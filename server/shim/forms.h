// The forms of a TorchScript module: as it was saved, frozen, or optimized for inference as well. What
// is here throws.

#pragma once

#include <memory>

#include <torch/csrc/jit/api/module.h>

// The method that a module with state may have.
constexpr const char* kReset = "reset_states";

struct FbModule {
  torch::jit::Module module;
  bool pure = false;
  // It was saved in training mode.
  bool trains = false;

  // Another form of it may live on, whose passes call no method of this one.
  ~FbModule();
};

namespace forms {

// Makes a module in another form of one as it was saved. Weights that stay as they are are shared
// with it.
std::unique_ptr<FbModule> make(const torch::jit::Module& saved, int form);

// Whether passes of a module as it was saved are known to leave nothing behind.
bool is_pure(const torch::jit::Module& saved);

// Whether `forward` of both runs the same operations on weights of the same shapes.
bool run_the_same(const torch::jit::Module& one, const torch::jit::Module& other);

} // namespace forms
