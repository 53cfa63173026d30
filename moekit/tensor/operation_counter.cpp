#include "moekit/tensor/operation_counter.h"

#include <ATen/record_function.h>
#include <torch/types.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "moekit/core/error.h"

namespace moekit::tensor {

struct OperationCounter::State {
  std::vector<std::pair<std::string, double>> parts;
  std::string part;
  int inside = 0;  ///< products that are being computed: what one is made of is not counted again
  at::CallbackHandle callback{};

  void add(double operations) {
    const auto found =
        std::find_if(parts.begin(), parts.end(), [&](const auto& p) { return p.first == part; });
    if (found != parts.end()) {
      found->second += operations;
    } else {
      parts.emplace_back(part, operations);
    }
  }
};

namespace {

thread_local OperationCounter::State* current = nullptr;

/// A product whose operands are the inputs `first` and `first` + 1.
struct Product {
  std::string_view name;
  size_t first;
};
constexpr std::array<Product, 10> kProducts{{{"aten::mm", 0},
                                             {"aten::bmm", 0},
                                             {"aten::mv", 0},
                                             {"aten::dot", 0},
                                             {"aten::addmm", 1},
                                             {"aten::addmm_", 1},
                                             {"aten::baddbmm", 1},
                                             {"aten::baddbmm_", 1},
                                             {"aten::addmv", 1},
                                             {"aten::addmv_", 1}}};

/// Every number of the left operand meets each column of the right one.
double product_operations(const torch::Tensor& left, const torch::Tensor& right) {
  const double columns =
      left.dim() == right.dim() && right.dim() >= 2 ? static_cast<double>(right.size(-1)) : 1;
  return 2 * static_cast<double>(left.numel()) * columns;
}

/// aten::convolution(input, weight, bias, stride, padding, dilation, transposed, ...)
double convolution_operations(c10::ArrayRef<const c10::IValue> in) {
  const auto input = in[0].toTensor();
  const auto weight = in[1].toTensor();
  if (in[6].toBool()) {  // transposed: each number of the input meets the filters of its channel
    return 2 * static_cast<double>(input.numel()) *
           static_cast<double>(weight.numel() / std::max<int64_t>(weight.size(0), 1));
  }
  const auto stride = in[3].toIntVector();
  const auto padding = in[4].toIntVector();
  const auto dilation = in[5].toIntVector();
  // A list of one number holds for every dimension.
  const auto of = [](const std::vector<int64_t>& list, int64_t d) {
    return list[std::min(static_cast<size_t>(d), list.size() - 1)];
  };
  auto places = static_cast<double>(input.size(0));
  for (int64_t d = 0; d + 2 < input.dim(); ++d) {
    const int64_t span = of(dilation, d) * (weight.size(d + 2) - 1) + 1;
    const int64_t padded = input.size(d + 2) + 2 * of(padding, d);
    places *= static_cast<double>((padded - span) / of(stride, d) + 1);
  }
  return 2 * places * static_cast<double>(weight.numel());
}

/// Set where a counted product begins, so that its end is known.
struct Inside : at::ObserverContext {};

std::unique_ptr<at::ObserverContext> on_begin(const at::RecordFunction& function) {
  if (current == nullptr) return nullptr;
  const std::string_view name = function.name();
  const auto inputs = function.inputs();
  double operations = 0;
  const auto found = std::find_if(kProducts.begin(), kProducts.end(),
                                  [&](const auto& product) { return product.name == name; });
  if (found != kProducts.end()) {
    operations =
        product_operations(inputs[found->first].toTensor(), inputs[found->first + 1].toTensor());
  } else if (name == "aten::convolution") {
    operations = convolution_operations(inputs);
  } else {
    return nullptr;
  }
  if (current->inside++ == 0) current->add(operations);
  return std::make_unique<Inside>();
}

void on_end(const at::RecordFunction&, at::ObserverContext* context) {
  if (current != nullptr && context != nullptr) --current->inside;
}

}  // namespace

OperationCounter::OperationCounter() : state_(std::make_unique<State>()) {
  MOEKIT_CHECK(current == nullptr, "OperationCounter: this thread has one already");
  state_->callback = at::addThreadLocalCallback(at::RecordFunctionCallback(on_begin, on_end)
                                                    .needsInputs(true)
                                                    .scopes({at::RecordScope::FUNCTION}));
  current = state_.get();
}

OperationCounter::~OperationCounter() {
  current = nullptr;
  at::removeCallback(state_->callback);
}

const std::vector<std::pair<std::string, double>>& OperationCounter::parts() const {
  return state_->parts;
}

double OperationCounter::total() const {
  double sum = 0;
  for (const auto& [name, operations] : state_->parts) sum += operations;
  return sum;
}

CountedPart::CountedPart(const std::string& name) {
  if (current == nullptr) return;
  length_ = current->part.size();
  current->part += (current->part.empty() ? "" : ".") + name;
}

CountedPart::~CountedPart() {
  if (current != nullptr) current->part.resize(std::min(length_, current->part.size()));
}

void count_operations(double operations) {
  if (current != nullptr && current->inside == 0) current->add(operations);
}

}  // namespace moekit::tensor
