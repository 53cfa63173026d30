#pragma once

#include <torch/optim/optimizer.h>

#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

/// What the kinds of optimizers that moekit knows remember of a parameter: `torch::optim`'s SGD,
/// Adam and AdamW, and what derives from them.
namespace moekit::checkpoint {

/// The state of one parameter as tensors: moments have the parameter's shape, "step" is a number.
using StateFields = std::map<std::string, torch::Tensor>;

/// [E] int64, beside the others where rows of a stacked parameter were left out of steps: the steps
/// that each row took. See optimizer_rows.h.
inline constexpr const char* kRowSteps = "row_steps";

/// A field that has the parameter's shape and dtype.
struct MomentField {
  std::string name;
  bool is_square;  ///< not negative; may overflow to infinity in a sound run
};

struct OptimizerKind {
  const char* name;
  bool (*is)(torch::optim::Optimizer&);
  bool counts_steps;  ///< has a field "step"
  /// What it keeps of a parameter that took a step, by the options of its group.
  std::vector<MomentField> (*moments)(const torch::optim::OptimizerOptions&);
  StateFields (*read)(torch::optim::OptimizerParamState&);
  /// Copies of the fields.
  std::unique_ptr<torch::optim::OptimizerParamState> (*write)(const StateFields&);
  /// An optimizer of this kind over one group.
  std::unique_ptr<torch::optim::Optimizer> (*make)(const torch::optim::OptimizerParamGroup&);
};

/// @throws ArgumentError for an optimizer of another kind.
const OptimizerKind& optimizer_kind(torch::optim::Optimizer& optimizer);

/// The group that holds a parameter, or null.
torch::optim::OptimizerParamGroup* find_group(torch::optim::Optimizer& optimizer,
                                              const torch::Tensor& parameter);

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

/// What the optimizer remembers of a parameter; no fields where it took no step.
StateFields state_fields(const OptimizerKind& kind, torch::optim::Optimizer& optimizer,
                         const torch::Tensor& parameter);

}  // namespace moekit::checkpoint
