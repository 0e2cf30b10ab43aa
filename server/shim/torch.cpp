// What libtorch can do and the tch crate does not offer: TorchScript modules in several forms, their
// schema, and tensors over memory that Rust owns. Every function catches what libtorch throws.

#include "torch.h"

#include "forms.h"

#include <cstring>
#include <exception>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <unordered_set>
#include <utility>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <ATen/DeviceAccelerator.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/SmallVector.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/serialization/import.h>
#include <unistd.h>

struct FbOutput {
  std::optional<at::Tensor> tensor;
  std::string texts;
  size_t count = 0;
  bool is_texts = false;
};

struct FbOutputs {
  c10::SmallVector<FbOutput, 2> outputs;
};

namespace {

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

void flatten(const c10::IValue& value, c10::SmallVectorImpl<FbOutput>& out) {
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
    // A frozen module has no mode any more, and would be said to train.
    const bool trains = loaded->module.hasattr("training") && loaded->module.is_training();
    loaded->module.eval();
    if (form > 0) {
      auto made = forms::make(loaded->module, form);
      loaded->pure = made->pure;
      loaded = std::move(made);
    } else {
      loaded->pure = forms::is_pure(loaded->module);
    }
    loaded->trains = trains;
    if (device >= 0) {
      // Weights were copied and folded on this thread's stream, which passes do not wait for.
      at::accelerator::synchronizeDevice(static_cast<c10::DeviceIndex>(device));
    }
    return loaded.release();
  });
}

FbModule* fb_module_in_form(const FbModule* saved, int form, char** error) {
  return guarded<FbModule*>(error, nullptr, [&] { return forms::make(saved->module, form).release(); });
}

bool fb_module_is_pure(const FbModule* module) {
  return module->pure;
}

bool fb_module_runs_the_same(const FbModule* one, const FbModule* other) {
  try {
    return forms::run_the_same(one->module, other->module);
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
    if (module->trains) {
      out << "training\t\t\n";
    }
    return copy(out.str());
  });
}

FbOutputs* fb_module_forward(
    FbModule* module, const FbArgument* arguments, size_t count, char** error) {
  return guarded<FbOutputs*>(error, nullptr, [&] {
    c10::InferenceMode mode;
    // What Module::forward does, which makes a Module of the object anew for each call.
    const auto object = module->module._ivalue();
    torch::jit::Stack values;
    values.reserve(count + 1);
    values.emplace_back(object);
    for (size_t i = 0; i < count; ++i) {
      values.push_back(value(arguments[i]));
    }
    auto outputs = std::make_unique<FbOutputs>();
    flatten(object->type()->getMethod("forward")(std::move(values)), outputs->outputs);
    return outputs.release();
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
  FbOutput& output = outputs->outputs[index];
  return output.tensor ? new at::Tensor(*std::move(output.tensor)) : nullptr;
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
  // A TensorMaker without context frees nothing, so until it has one the owner is this one's to free.
  std::unique_ptr<void, void (*)(void*)> held(owner, drop_owner);
  return guarded<void*>(error, nullptr, [&]() -> void* {
    auto maker = at::for_blob(data, at::IntArrayRef(dims, rank));
    maker.options(at::TensorOptions().dtype(static_cast<at::ScalarType>(scalar_type)));
    maker.context(held.release(), drop_owner);
    return new at::Tensor(maker.make_tensor());
  });
}

bool fb_tensor_is_dense(const void* tensor, size_t* bytes) {
  const auto& at = *static_cast<const at::Tensor*>(tensor);
  // A view may be negative or conjugate by a mark only, which bytes do not keep.
  const bool dense = at.layout() == at::kStrided && at.device().is_cpu() && at.is_contiguous() &&
      !at.is_neg() && !at.is_conj();
  if (dense) {
    *bytes = at.nbytes();
  }
  return dense;
}

bool fb_tensor_is_shared(const void* tensor) {
  const auto& at = *static_cast<const at::Tensor*>(tensor);
  if (at.use_count() > 1) {
    return true;
  }
  return at.has_storage() && (at.storage().use_count() > 1 || at.storage().nbytes() / 2 > at.nbytes());
}

void fb_free_text(char* text) {
  delete[] text;
}

void fb_leave(int status) {
  _exit(status);
}
}
