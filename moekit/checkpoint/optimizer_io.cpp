#include "moekit/checkpoint/optimizer_io.h"

#include <algorithm>
#include <set>

#include "moekit/checkpoint/optimizer_state.h"
#include "moekit/core/error.h"

namespace moekit::checkpoint {
namespace {

constexpr const char* kUnset = "unset";

/// Names of the fields that a source has of one parameter.
using FieldNames = std::set<std::string>;

/// The fields of every parameter. @throws FormatError for an entry of none
std::map<std::string, FieldNames> names_by_parameter(const TensorSource& source,
                                                     const torch::nn::Module& model) {
  const auto parameters = model.named_parameters();
  std::map<std::string, FieldNames> out;
  for (const auto& name : source.names()) {
    const auto dot = name.rfind('.');
    const std::string parameter = dot == std::string::npos ? "" : name.substr(0, dot);
    MOEKIT_CHECK_FORMAT(parameters.find(parameter) != nullptr, source.where(), ": ", name,
                        " belongs to no parameter");
    out[parameter].insert(name.substr(dot + 1));
  }
  return out;
}

/// Reads and checks the state of one parameter.
class StateReader {
 public:
  StateReader(const TensorSource& source, std::string name, torch::Tensor parameter,
              int64_t steps_taken)
      : source_(source),
        name_(std::move(name)),
        parameter_(std::move(parameter)),
        steps_taken_(steps_taken) {}

  torch::Tensor moment(const MomentField& field) const {
    auto tensor = read(field.name, parameter_.sizes(), parameter_.scalar_type());
    const auto sound = field.is_square ? tensor.ge(0) : torch::isfinite(tensor);
    MOEKIT_CHECK_FORMAT(sound.all().item<bool>(), where(field.name), " holds values that ",
                        field.is_square ? "are negative or NaN" : "are not finite");
    return tensor;
  }
  torch::Tensor step() const {
    auto tensor = read("step", {}, torch::kLong);
    const auto step = tensor.item<int64_t>();
    MOEKIT_CHECK_FORMAT(step >= 1 && step <= steps_taken_, where("step"), " must be 1..",
                        steps_taken_, ", the steps of the run; got ", step);
    return tensor;
  }
  torch::Tensor row_steps() const {
    MOEKIT_CHECK_FORMAT(parameter_.dim() >= 1, where(kRowSteps),
                        ": the parameter is a single number and has no rows");
    auto tensor = read(kRowSteps, {parameter_.size(0)}, torch::kLong);
    MOEKIT_CHECK_FORMAT(tensor.ge(0).logical_and(tensor.le(steps_taken_)).all().item<bool>(),
                        where(kRowSteps), " must be 0..", steps_taken_,
                        ", the steps of the run; got ", tensor.min().item<int64_t>(), "..",
                        tensor.max().item<int64_t>());
    return tensor;
  }
  std::string where(const std::string& field) const {
    return concat(source_.where(), ": ", name_, ".", field);
  }

 private:
  torch::Tensor read(const std::string& field, torch::IntArrayRef sizes,
                     torch::ScalarType dtype) const {
    const std::string entry = name_ + "." + field;
    const torch::IntArrayRef got = source_.info(entry).shape;
    MOEKIT_CHECK_FORMAT(got == sizes, where(field), " is ", got, "; wanted ", sizes);
    auto tensor = source_.read(entry);
    MOEKIT_CHECK_FORMAT(tensor.scalar_type() == dtype, where(field), " is ", tensor.scalar_type(),
                        "; wanted ", dtype);
    return tensor;
  }

  const TensorSource& source_;
  std::string name_;
  torch::Tensor parameter_;
  int64_t steps_taken_;
};

/// The state of one parameter, checked; null where it took no step.
std::unique_ptr<torch::optim::OptimizerParamState> read_state(
    const OptimizerKind& kind, const torch::optim::OptimizerOptions& options,
    const StateReader& reader, FieldNames names) {
  const auto moments = kind.moments(options);
  if (names == FieldNames{kUnset} && !moments.empty()) return nullptr;
  const auto take = [&](const std::string& name) {
    MOEKIT_CHECK_FORMAT(names.erase(name) == 1, reader.where(name), " is missing; ", kind.name,
                        " needs it");
  };
  StateFields fields;
  for (const auto& moment : moments) {
    take(moment.name);
    fields[moment.name] = reader.moment(moment);
  }
  if (kind.counts_steps) {
    take("step");
    fields["step"] = reader.step();
  }
  if (!moments.empty() && names.erase(kRowSteps) == 1) fields[kRowSteps] = reader.row_steps();
  MOEKIT_CHECK_FORMAT(names.empty(), reader.where(*names.begin()), " is nothing that ", kind.name,
                      " with these options keeps");
  return fields.empty() ? nullptr : kind.write(fields);
}

}  // namespace

MemoryTensors optimizer_tensors(torch::optim::Optimizer& optimizer,
                                const torch::nn::Module& model) {
  const OptimizerKind& kind = optimizer_kind(optimizer);
  MemoryTensors tensors;
  for (const auto& item : model.named_parameters()) {
    const auto fields = state_fields(kind, optimizer, item.value());
    for (const auto& [name, tensor] : fields) tensors.add(item.key() + "." + name, tensor);
    const auto* group = find_group(optimizer, item.value());
    if (fields.empty() && group != nullptr && !kind.moments(group->options()).empty()) {
      tensors.add(item.key() + "." + kUnset, torch::ones({}, torch::kLong));
    }
  }
  return tensors;
}

void load_optimizer_tensors(torch::optim::Optimizer& optimizer, const torch::nn::Module& model,
                            const TensorSource& source, int64_t steps_taken) {
  const OptimizerKind& kind = optimizer_kind(optimizer);
  auto names = names_by_parameter(source, model);
  std::vector<std::pair<torch::Tensor, std::unique_ptr<torch::optim::OptimizerParamState>>> states;
  for (const auto& item : model.named_parameters()) {
    const auto* group = find_group(optimizer, item.value());
    const auto own = names.extract(item.key());
    if (group == nullptr) {
      MOEKIT_CHECK_FORMAT(own.empty(), source.where(), ": ", item.key(), ".", *own.mapped().begin(),
                          " is of a parameter that the optimizer has not");
      continue;
    }
    const StateReader reader(source, item.key(), item.value(), steps_taken);
    states.emplace_back(item.value(), read_state(kind, group->options(), reader,
                                                 own.empty() ? FieldNames() : own.mapped()));
  }
  auto& all = optimizer.state();
  for (auto& [parameter, state] : states) {
    if (state) {
      all[state_key(all, parameter)] = std::move(state);
    } else {
      all.erase(state_key(all, parameter));
    }
  }
}

}  // namespace moekit::checkpoint
