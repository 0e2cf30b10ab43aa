// What libtorch can do and the tch crate does not offer: freezing a TorchScript module, its schema,
// and tensors over memory that Rust owns. Every function catches what libtorch throws.

#include "torch.h"

#include <cstring>
#include <exception>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <ATen/DeviceAccelerator.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/ir/alias_analysis.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>
#include <torch/csrc/jit/passes/freeze_module.h>
#include <torch/csrc/jit/passes/frozen_graph_optimizations.h>
#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/serialization/import.h>
#include <unistd.h>

namespace {

// Destroys a module's methods, and with them the constants of their graphs, which freezing makes of
// weights. Else they live as long as any form of the module: all share what keeps methods.
void forget(const torch::jit::Module& module) {
  const auto unit = module._ivalue()->compilation_unit();
  for (const auto& part : module.modules()) {
    const auto type = part.type();
    std::vector<c10::QualifiedName> names;
    for (const torch::jit::Function* method : type->methods()) {
      names.push_back(method->qualname());
    }
    for (const c10::QualifiedName& name : names) {
      type->unsafeRemoveMethod(name.name());
      unit->unsafeRemoveMethod(name);
    }
  }
}

} // namespace

struct FbModule {
  torch::jit::Module module;
  bool pure = false;

  // Another form of it may live on, whose passes call no method of this one. Only pure modules are
  // made into other forms.
  ~FbModule() {
    try {
      if (pure) {
        forget(module);
      }
    } catch (const std::exception&) {
      // What is left goes with the last form.
    }
  }
};

struct FbOutput {
  std::optional<at::Tensor> tensor;
  std::string texts;
  size_t count = 0;
  bool is_texts = false;
};

struct FbOutputs {
  std::vector<FbOutput> outputs;
};

namespace {

constexpr const char* kReset = "reset_states";

char* copy(const std::string& text) {
  char* out = new char[text.size() + 1];
  std::memcpy(out, text.c_str(), text.size() + 1);
  return out;
}

// Runs `work` and returns its result, or `failed` and what was thrown.
template <typename T, typename F>
T guarded(char** error, T failed, F work) {
  try {
    return work();
  } catch (const std::exception& e) {
    *error = copy(e.what());
  } catch (...) {
    *error = copy("an exception that is no std::exception");
  }
  return failed;
}

c10::IValue texts(const FbArgument& argument) {
  c10::List<std::string> list;
  const uint8_t* at = argument.texts;
  for (int64_t i = 0; i < argument.integer; ++i) {
    uint32_t length = 0;
    std::memcpy(&length, at, sizeof(length));
    at += sizeof(length);
    list.push_back(std::string(reinterpret_cast<const char*>(at), length));
    at += length;
  }
  return list;
}

c10::IValue value(const FbArgument& argument) {
  switch (argument.kind) {
    case 1:
      return *static_cast<at::Tensor*>(argument.tensor);
    case 2:
      return argument.integer;
    case 3:
      return argument.real;
    case 4:
      return argument.integer != 0;
    case 5:
      return texts(argument);
    default:
      return c10::IValue();
  }
}

bool writes_to_constants(const torch::jit::AliasDb& aliases, const torch::jit::Block& block) {
  for (const torch::jit::Node* node : block.nodes()) {
    if (node->kind() == c10::prim::Constant && aliases.hasWriters(node)) {
      return true;
    }
    for (const torch::jit::Block* inner : node->blocks()) {
      if (writes_to_constants(aliases, *inner)) {
        return true;
      }
    }
  }
  return false;
}

// Whether passes of the module that `frozen` was made of leave nothing behind. Freezing keeps as
// attributes what a method writes to, and a graph could write to a constant in place.
bool is_pure(const torch::jit::Module& frozen) {
  if (frozen.type()->numAttributes() > 0) {
    return false;
  }
  const auto graph = frozen.get_method("forward").graph();
  const torch::jit::AliasDb aliases(graph, /*isFrozen=*/true);
  return !writes_to_constants(aliases, *graph->block());
}

void add_operations(const torch::jit::Block& block, std::vector<c10::Symbol>& kinds) {
  for (const torch::jit::Node* node : block.nodes()) {
    if (node->kind() != c10::prim::Constant && node->kind() != c10::prim::GetAttr) {
      kinds.push_back(node->kind());
    }
    for (const torch::jit::Block* inner : node->blocks()) {
      add_operations(*inner, kinds);
    }
  }
}

// The kinds of operations of `forward`, in order.
std::vector<c10::Symbol> operations(const torch::jit::Module& module) {
  const auto graph = module.get_method("forward").graph()->copy();
  torch::jit::Inline(*graph);
  std::vector<c10::Symbol> kinds;
  add_operations(*graph->block(), kinds);
  return kinds;
}

std::vector<std::string> kept_methods(const torch::jit::Module& saved) {
  std::vector<std::string> kept;
  if (saved.find_method(kReset)) {
    kept.emplace_back(kReset);
  }
  return kept;
}

// Makes a module frozen, of one as it was saved.
std::unique_ptr<FbModule> freeze(
    const torch::jit::Module& saved, const std::vector<std::string>& kept) {
  std::unique_ptr<FbModule> frozen(new FbModule{torch::jit::freeze_module(saved, kept)});
  frozen->pure = is_pure(frozen->module);
  return frozen;
}

// Makes a module in another form of one as it was saved. Weights that stay as they are are shared
// with it.
std::unique_ptr<FbModule> in_form(const torch::jit::Module& saved, int form) {
  const auto kept = kept_methods(saved);
  auto made = freeze(saved, kept);
  // The rest of what torch::jit::freeze does.
  auto graph = made->module.get_method("forward").graph();
  torch::jit::OptimizeFrozenGraph(graph);
  if (form > 1) {
    made->module = torch::jit::optimize_for_inference(made->module, kept);
    // It leaves the constants that it made others of.
    torch::jit::EliminateDeadCode(made->module.get_method("forward").graph());
  }
  return made;
}

// Whether passes of the module are known to leave nothing behind.
bool saved_is_pure(const torch::jit::Module& saved) {
  try {
    return freeze(saved, kept_methods(saved))->pure;
  } catch (const std::exception&) {
    // What cannot be frozen is taken to keep state.
    return false;
  }
}

// Adds up tensors, each piece of memory once.
class Weights {
 public:
  void add(const c10::IValue& value) {
    c10::IValue::HashAliasedIValues parts;
    value.getSubValues(parts);
    for (const c10::IValue& part : parts) {
      if (part.isTensor() && part.toTensor().defined()) {
        add(part.toTensor());
      }
    }
  }

  void add(const torch::jit::Block& block) {
    for (const torch::jit::Node* node : block.nodes()) {
      if (node->kind() == c10::prim::Constant) {
        if (const auto value = torch::jit::toIValue(node->output())) {
          add(*value);
        }
      }
      for (const torch::jit::Block* inner : node->blocks()) {
        add(*inner);
      }
    }
  }

  uint64_t bytes() const {
    return bytes_;
  }

 private:
  void add(const at::Tensor& tensor) {
    // oneDNN's tensors have no storage.
    const bool stored = tensor.has_storage();
    const void* at = stored ? static_cast<const void*>(tensor.storage().unsafeGetStorageImpl())
                            : static_cast<const void*>(tensor.unsafeGetTensorImpl());
    if (seen_.insert(at).second) {
      bytes_ += stored ? tensor.storage().nbytes()
                       : static_cast<uint64_t>(tensor.numel()) * tensor.element_size();
    }
  }

  std::unordered_set<const void*> seen_;
  uint64_t bytes_ = 0;
};

bool is_texts(const c10::IValue& value) {
  return value.isList() &&
      value.toListRef().size() > 0 && value.toListRef()[0].isString();
}

void flatten(const c10::IValue& value, std::vector<FbOutput>& out) {
  FbOutput output;
  if (value.isTensor()) {
    output.tensor = value.toTensor();
  } else if (is_texts(value)) {
    output.is_texts = true;
    for (const auto& element : value.toListRef()) {
      const std::string& text = element.toStringRef();
      const auto length = static_cast<uint32_t>(text.size());
      output.texts.append(reinterpret_cast<const char*>(&length), sizeof(length));
      output.texts.append(text);
      output.count++;
    }
  } else if (value.isTuple()) {
    for (const auto& element : value.toTupleRef().elements()) {
      flatten(element, out);
    }
    return;
  } else if (value.isList() && value.toListRef().size() > 0) {
    for (const auto& element : value.toListRef()) {
      flatten(element, out);
    }
    return;
  } else if (value.isList()) {
    output.is_texts = true;
  }
  out.push_back(std::move(output));
}

} // namespace

extern "C" {

FbModule* fb_module_load(const char* file, int device, int form, char** error) {
  return guarded<FbModule*>(error, nullptr, [&] {
    at::Device place(at::kCPU);
    if (device >= 0) {
      place = at::Device(
          at::accelerator::getAccelerator(/*checked=*/true).value(),
          static_cast<c10::DeviceIndex>(device));
    }
    std::unique_ptr<FbModule> loaded(new FbModule{torch::jit::load(file, place)});
    loaded->module.eval();
    if (form > 0) {
      auto made = in_form(loaded->module, form);
      loaded->pure = made->pure;
      loaded = std::move(made);
    } else {
      loaded->pure = saved_is_pure(loaded->module);
    }
    if (device >= 0) {
      // Weights were copied and folded on this thread's stream, which passes do not wait for.
      at::accelerator::synchronizeDevice(static_cast<c10::DeviceIndex>(device));
    }
    return loaded.release();
  });
}

FbModule* fb_module_in_form(const FbModule* saved, int form, char** error) {
  return guarded<FbModule*>(error, nullptr, [&] { return in_form(saved->module, form).release(); });
}

bool fb_module_is_pure(const FbModule* module) {
  return module->pure;
}

bool fb_module_runs_the_same(const FbModule* one, const FbModule* other) {
  try {
    return operations(one->module) == operations(other->module);
  } catch (const std::exception&) {
    return false;
  }
}

uint64_t fb_module_bytes(const FbModule* module) {
  Weights weights;
  try {
    weights.add(c10::IValue(module->module._ivalue()));
    for (const auto& part : module->module.modules()) {
      for (const auto& method : part.get_methods()) {
        if (auto* function = torch::jit::tryToGraphFunction(method.function())) {
          weights.add(*function->graph()->block());
        }
      }
    }
  } catch (const std::exception&) {
    // What was counted so far is the best that is known.
  }
  return weights.bytes();
}

void fb_trim() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

void fb_profiling(bool on) {
  torch::jit::getProfilingMode() = on;
}

void fb_module_free(FbModule* module) {
  delete module;
}

char* fb_module_schema(FbModule* module, char** error) {
  return guarded<char*>(error, nullptr, [&] {
    const auto& schema = module->module.get_method("forward").function().getSchema();
    std::ostringstream out;
    for (const auto& argument : schema.arguments()) {
      if (argument.name() == "self") {
        continue;
      }
      out << (argument.default_value() ? "default" : "argument") << '\t' << argument.name() << '\t'
          << argument.type()->annotation_str() << '\n';
    }
    for (const auto& result : schema.returns()) {
      out << "returns\t\t" << result.type()->annotation_str() << '\n';
    }
    if (module->module.find_method(kReset)) {
      out << "method\t" << kReset << "\t\n";
    }
    return copy(out.str());
  });
}

FbOutputs* fb_module_forward(
    FbModule* module, const FbArgument* arguments, size_t count, char** error) {
  return guarded<FbOutputs*>(error, nullptr, [&] {
    c10::InferenceMode mode;
    std::vector<c10::IValue> values;
    values.reserve(count);
    for (size_t i = 0; i < count; ++i) {
      values.push_back(value(arguments[i]));
    }
    std::vector<FbOutput> outputs;
    flatten(module->module.forward(std::move(values)), outputs);
    return new FbOutputs{std::move(outputs)};
  });
}

bool fb_module_reset(FbModule* module, char** error) {
  return guarded<bool>(error, false, [&] {
    c10::InferenceMode mode;
    module->module.get_method(kReset)({});
    return true;
  });
}

size_t fb_outputs_count(const FbOutputs* outputs) {
  return outputs->outputs.size();
}

void* fb_outputs_tensor(FbOutputs* outputs, size_t index) {
  const FbOutput& output = outputs->outputs[index];
  return output.tensor ? new at::Tensor(*output.tensor) : nullptr;
}

const uint8_t* fb_outputs_texts(
    const FbOutputs* outputs, size_t index, size_t* count, size_t* bytes) {
  const FbOutput& output = outputs->outputs[index];
  if (!output.is_texts) {
    return nullptr;
  }
  *count = output.count;
  *bytes = output.texts.size();
  return reinterpret_cast<const uint8_t*>(output.texts.data());
}

void fb_outputs_free(FbOutputs* outputs) {
  delete outputs;
}

void* fb_tensor_over(
    void* data,
    const int64_t* dims,
    size_t rank,
    int scalar_type,
    void* owner,
    void (*drop_owner)(void*),
    char** error) {
  return guarded<void*>(error, nullptr, [&]() -> void* {
    auto options = at::TensorOptions().dtype(static_cast<at::ScalarType>(scalar_type));
    auto tensor = std::make_unique<at::Tensor>();
    // Whatever fails below, the owner stays the caller's: the deleter is armed at the end.
    auto armed = std::make_shared<bool>(false);
    auto drop = [owner, drop_owner, armed](void*) {
      if (*armed) {
        drop_owner(owner);
      }
    };
    *tensor = at::from_blob(data, at::IntArrayRef(dims, rank), drop, options);
    *armed = true;
    return tensor.release();
  });
}

bool fb_tensor_is_shared(const void* tensor) {
  const auto& at = *static_cast<const at::Tensor*>(tensor);
  return at.use_count() > 1 || (at.has_storage() && at.storage().use_count() > 1);
}

void fb_free_text(char* text) {
  delete[] text;
}

void fb_leave(int status) {
  _exit(status);
}
}
