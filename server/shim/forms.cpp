// The forms of a TorchScript module, and what of them must go with each.

#include "forms.h"

#include <exception>
#include <string>
#include <utility>
#include <vector>

#include <torch/csrc/jit/ir/alias_analysis.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>
#include <torch/csrc/jit/passes/freeze_module.h>
#include <torch/csrc/jit/passes/frozen_graph_optimizations.h>
#include <torch/csrc/jit/passes/inliner.h>

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
bool frozen_is_pure(const torch::jit::Module& frozen) {
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
  frozen->pure = frozen_is_pure(frozen->module);
  return frozen;
}

} // namespace

// Only pure modules are made into other forms.
FbModule::~FbModule() {
  try {
    if (pure) {
      forget(module);
    }
  } catch (const std::exception&) {
    // What is left goes with the last form.
  }
}

std::unique_ptr<FbModule> forms::make(const torch::jit::Module& saved, int form) {
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

bool forms::is_pure(const torch::jit::Module& saved) {
  try {
    return freeze(saved, kept_methods(saved))->pure;
  } catch (const std::exception&) {
    // What cannot be frozen is taken to keep state.
    return false;
  }
}

bool forms::run_the_same(const torch::jit::Module& one, const torch::jit::Module& other) {
  return operations(one) == operations(other);
}
