// The forms of a TorchScript module, and what of them must go with each.

#include "forms.h"

#include <exception>
#include <memory>
#include <sstream>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include <torch/csrc/jit/ir/alias_analysis.h>
#include <torch/csrc/jit/ir/constants.h>
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

// Writes down what a module's `forward` does: its operations, what each takes, and what it gives.
// Weights are told by their shapes, and what is fixed by what it is, not by where it comes from: freezing
// makes constants of attributes, and of lists of constants.
class Account {
 public:
  explicit Account(const torch::jit::Module& module)
      : graph_(module.get_method("forward").graph()->copy()) {
    torch::jit::Inline(*graph_);
    parts_.emplace(graph_->inputs().at(0), module._ivalue());
    add(*graph_->block());
  }

  std::string text() const {
    return text_.str();
  }

 private:
  using Values = at::ArrayRef<const torch::jit::Value*>;

  void add(const torch::jit::Block& block) {
    name(block.inputs());
    for (const torch::jit::Node* node : block.nodes()) {
      if (!is_fixed(*node)) {
        text_ << node->kind().toQualString() << joined(node->inputs()) << '\n';
        for (const torch::jit::Block* inner : node->blocks()) {
          add(*inner);
        }
        name(node->outputs());
      }
    }
    text_ << "gives" << joined(block.outputs()) << '\n';
  }

  // Takes over what gives the same for every request, and takes no time.
  bool is_fixed(const torch::jit::Node& node) {
    if (node.kind() == c10::prim::Constant) {
      const auto value = torch::jit::toIValue(node.output());
      return value && fix(node, *value);
    }
    if (node.kind() == c10::prim::GetAttr) {
      const auto part = parts_.find(node.input());
      return part != parts_.end() && fix(node, part->second->getAttr(node.s(c10::attr::name)));
    }
    if (node.kind() != c10::prim::ListConstruct) {
      return false;
    }
    for (const torch::jit::Value* element : node.inputs()) {
      if (numbers_.count(element) == 0) {
        return false;
      }
    }
    words_[node.output()] = joined(node.inputs());
    return true;
  }

  bool fix(const torch::jit::Node& node, const c10::IValue& value) {
    const torch::jit::Value* output = node.output();
    if (value.isObject()) {
      parts_.emplace(output, value.toObject());
    }
    if (!value.isTensor() && !value.isList()) {
      numbers_.insert(output);
    }
    words_[output] = told(value);
    return true;
  }

  static std::string told(const c10::IValue& value) {
    std::ostringstream out;
    if (value.isTensor() && value.toTensor().defined()) {
      const at::Tensor& tensor = value.toTensor();
      out << tensor.scalar_type() << tensor.sizes() << tensor.layout();
      if (tensor.layout() == at::kStrided) {
        out << tensor.strides();
      }
    } else if (value.isList()) {
      for (const c10::IValue& element : value.toListRef()) {
        out << ' ' << told(element);
      }
      return '(' + out.str() + ')';
    } else if (value.isTuple()) {
      for (const c10::IValue& element : value.toTupleRef().elements()) {
        out << ' ' << told(element);
      }
      return '<' + out.str() + '>';
    } else if (value.isGenericDict()) {
      for (const auto& entry : value.toGenericDict()) {
        out << ' ' << told(entry.key()) << ':' << told(entry.value());
      }
      return '{' + out.str() + '}';
    } else if (value.isObject()) {
      out << "part";
    } else {
      out << value;
    }
    return out.str();
  }

  void name(Values values) {
    for (const torch::jit::Value* value : values) {
      words_[value] = '%' + std::to_string(named_++);
    }
  }

  std::string joined(Values values) const {
    std::string all;
    for (const torch::jit::Value* value : values) {
      all += ' ' + words_.at(value);
    }
    return '(' + all + ')';
  }

  std::shared_ptr<torch::jit::Graph> graph_;
  // The module and its parts, what is fixed and is no tensor or list, and a word for each value.
  std::unordered_map<const torch::jit::Value*, c10::intrusive_ptr<c10::ivalue::Object>> parts_;
  std::unordered_set<const torch::jit::Value*> numbers_;
  std::unordered_map<const torch::jit::Value*, std::string> words_;
  size_t named_ = 0;
  std::ostringstream text_;
};

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
  return Account(one).text() == Account(other).text();
}
