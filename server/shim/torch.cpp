// What libtorch can do and the tch crate does not offer: the schema of a TorchScript method, and
// tensors over memory that Rust owns. Every function catches what libtorch throws.

#include "torch.h"

#include <cstring>
#include <exception>
#include <sstream>
#include <string>
#include <vector>

#include <ATen/ops/from_blob.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

namespace {

char* copy(const std::string& text) {
  char* out = new char[text.size() + 1];
  std::memcpy(out, text.c_str(), text.size() + 1);
  return out;
}

} // namespace

extern "C" {

char* fb_schema(const char* file, char** error) {
  try {
    torch::jit::Module module = torch::jit::load(file);
    const auto& schema = module.get_method("forward").function().getSchema();
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
    if (module.find_method("reset_states")) {
      out << "method\treset_states\t\n";
    }
    return copy(out.str());
  } catch (const std::exception& e) {
    *error = copy(e.what());
    return nullptr;
  }
}

void* fb_tensor_over(
    void* data,
    const int64_t* dims,
    size_t rank,
    int scalar_type,
    void* owner,
    void (*drop_owner)(void*),
    char** error) {
  try {
    auto options = at::TensorOptions().dtype(static_cast<at::ScalarType>(scalar_type));
    at::Tensor tensor = at::from_blob(
        data, at::IntArrayRef(dims, rank), [owner, drop_owner](void*) { drop_owner(owner); }, options);
    return new at::Tensor(std::move(tensor));
  } catch (const std::exception& e) {
    *error = copy(e.what());
    return nullptr;
  }
}

void fb_free_text(char* text) {
  delete[] text;
}
}
