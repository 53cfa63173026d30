#include "moekit/checkpoint/optimizer_io.h"

#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>
#include <torch/optim/sgd.h>

#include <algorithm>
#include <sstream>

#include "moekit/core/error.h"

namespace moekit::checkpoint {
namespace {

/// What one kind of optimizer remembers of a parameter: read it as tensors, write it back.
using Fields = std::map<std::string, torch::Tensor>;
struct Kind {
  bool (*is)(torch::optim::Optimizer&);
  Fields (*read)(torch::optim::OptimizerParamState&);
  std::unique_ptr<torch::optim::OptimizerParamState> (*write)(const Fields&);
};

torch::Tensor field(const Fields& fields, const std::string& name) {
  const auto found = fields.find(name);
  return found == fields.end() ? torch::Tensor() : found->second.clone();
}

void keep(Fields& fields, const std::string& name, const torch::Tensor& tensor) {
  if (tensor.defined()) fields[name] = tensor;
}

template <typename State>
Fields read_adam(torch::optim::OptimizerParamState& base) {
  auto& state = static_cast<State&>(base);
  Fields fields{{"step", torch::tensor(state.step(), torch::kLong)}};
  keep(fields, "exp_avg", state.exp_avg());
  keep(fields, "exp_avg_sq", state.exp_avg_sq());
  keep(fields, "max_exp_avg_sq", state.max_exp_avg_sq());
  return fields;
}

template <typename State>
std::unique_ptr<torch::optim::OptimizerParamState> write_adam(const Fields& fields) {
  auto state = std::make_unique<State>();
  state->step(fields.at("step").item<int64_t>());
  state->exp_avg(field(fields, "exp_avg"));
  state->exp_avg_sq(field(fields, "exp_avg_sq"));
  state->max_exp_avg_sq(field(fields, "max_exp_avg_sq"));
  return state;
}

Fields read_sgd(torch::optim::OptimizerParamState& base) {
  Fields fields;
  keep(fields, "momentum_buffer",
       static_cast<torch::optim::SGDParamState&>(base).momentum_buffer());
  return fields;
}

std::unique_ptr<torch::optim::OptimizerParamState> write_sgd(const Fields& fields) {
  auto state = std::make_unique<torch::optim::SGDParamState>();
  state->momentum_buffer(field(fields, "momentum_buffer"));
  return state;
}

template <typename Optimizer>
bool is_a(torch::optim::Optimizer& optimizer) {
  return dynamic_cast<Optimizer*>(&optimizer) != nullptr;
}

const Kind& kind_of(torch::optim::Optimizer& optimizer) {
  static const Kind kKinds[] = {
      {&is_a<torch::optim::AdamW>, &read_adam<torch::optim::AdamWParamState>,
       &write_adam<torch::optim::AdamWParamState>},
      {&is_a<torch::optim::Adam>, &read_adam<torch::optim::AdamParamState>,
       &write_adam<torch::optim::AdamParamState>},
      {&is_a<torch::optim::SGD>, &read_sgd, &write_sgd},
  };
  for (const Kind& kind : kKinds) {
    if (kind.is(optimizer)) return kind;
  }
  throw ArgumentError("optimizer state: only SGD, Adam and AdamW can be saved");
}

/// libtorch 1.13 keys the state by the tensor's address as a string, 2.x by the address itself.
template <typename Map>
auto state_key(const Map& /*state*/, const torch::Tensor& parameter) {
  if constexpr (std::is_same_v<typename Map::key_type, std::string>) {
    std::ostringstream address;
    address << parameter.unsafeGetTensorImpl();
    return address.str();
  } else {
    return static_cast<void*>(parameter.unsafeGetTensorImpl());
  }
}

}  // namespace

MemoryTensors optimizer_tensors(torch::optim::Optimizer& optimizer,
                                const torch::nn::Module& model) {
  const Kind& kind = kind_of(optimizer);
  MemoryTensors tensors;
  for (const auto& item : model.named_parameters()) {
    const auto found = optimizer.state().find(state_key(optimizer.state(), item.value()));
    if (found == optimizer.state().end()) continue;
    for (const auto& [name, tensor] : kind.read(*found->second)) {
      tensors.add(item.key() + "." + name, tensor);
    }
  }
  return tensors;
}

void load_optimizer_tensors(torch::optim::Optimizer& optimizer, const torch::nn::Module& model,
                            const TensorSource& source) {
  const Kind& kind = kind_of(optimizer);
  const std::string& where = source.where();
  const auto parameters = model.named_parameters();
  std::map<std::string, Fields> by_parameter;
  for (const auto& name : source.names()) {
    const auto dot = name.rfind('.');
    const std::string parameter = dot == std::string::npos ? "" : name.substr(0, dot);
    const auto* target = parameters.find(parameter);
    MOEKIT_CHECK_FORMAT(target != nullptr, where, ": ", name, " belongs to no parameter");
    const torch::IntArrayRef sizes = source.info(name).shape;
    MOEKIT_CHECK_FORMAT(sizes.empty() || sizes == target->sizes(), where, ": ", name, " is ", sizes,
                        ", the parameter is ", target->sizes());
    by_parameter[parameter][name.substr(dot + 1)] = source.read(name);
  }
  for (const auto& [name, fields] : by_parameter) {
    const auto step = fields.find("step");
    MOEKIT_CHECK_FORMAT(
        kind.write == &write_sgd || (step != fields.end() && step->second.dim() == 0), where, ": ",
        name, " has no step that is a single number");
  }
  for (const auto& [name, fields] : by_parameter) {
    optimizer.state()[state_key(optimizer.state(), parameters[name])] = kind.write(fields);
  }
}

void take_optimizer_rows(torch::optim::Optimizer& optimizer, const torch::Tensor& parameter,
                         const torch::Tensor& index) {
  const Kind& kind = kind_of(optimizer);
  const auto found = optimizer.state().find(state_key(optimizer.state(), parameter));
  if (found == optimizer.state().end()) return;
  Fields fields = kind.read(*found->second);
  for (auto& [name, tensor] : fields) {
    if (tensor.dim() > 0) tensor = tensor.index_select(0, index);
  }
  found->second = kind.write(fields);
}

void copy_optimizer_parameter(torch::optim::Optimizer& optimizer, const torch::Tensor& source,
                              const torch::Tensor& parameter) {
  const Kind& kind = kind_of(optimizer);
  for (auto& group : optimizer.param_groups()) {
    auto& members = group.params();
    if (std::none_of(members.begin(), members.end(),
                     [&](const auto& member) { return member.is_same(source); })) {
      continue;
    }
    members.push_back(parameter);
    const auto found = optimizer.state().find(state_key(optimizer.state(), source));
    if (found != optimizer.state().end()) {
      auto copy = kind.write(kind.read(*found->second));
      optimizer.state()[state_key(optimizer.state(), parameter)] = std::move(copy);
    }
    return;
  }
  throw ArgumentError("copy_optimizer_parameter: the optimizer does not hold the source");
}

void remove_optimizer_parameter(torch::optim::Optimizer& optimizer,
                                const torch::Tensor& parameter) {
  for (auto& group : optimizer.param_groups()) {
    auto& members = group.params();
    members.erase(std::remove_if(members.begin(), members.end(),
                                 [&](const auto& member) { return member.is_same(parameter); }),
                  members.end());
  }
  optimizer.state().erase(state_key(optimizer.state(), parameter));
}

}  // namespace moekit::checkpoint
