#include "moekit/kernels/ffn/expert_ffn_ref.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "moekit/core/error.h"

namespace moekit::kernels {
namespace {

struct Activated {
  double value;
  double derivative;
};

Activated activate(Activation activation, double x) {
  switch (activation) {
    case Activation::kRelu:
    case Activation::kReglu:
      return {std::max(x, 0.0), x > 0 ? 1.0 : 0.0};
    case Activation::kSquaredRelu:
      return {std::max(x, 0.0) * std::max(x, 0.0), 2 * std::max(x, 0.0)};
    case Activation::kGelu:
    case Activation::kGeglu: {
      const double phi = 0.5 * std::erfc(-x / std::sqrt(2.0));
      const double density = std::exp(-x * x / 2) / std::sqrt(2 * 3.14159265358979323846);
      return {x * phi, phi + x * density};
    }
    case Activation::kSwiglu: {
      const double sigmoid = 1 / (1 + std::exp(-x));
      return {x * sigmoid, sigmoid * (1 + x * (1 - sigmoid))};
    }
    default:
      throw ArgumentError(
          concat("expert kernels: there is none for activation ", enum_name(activation)));
  }
}

/// A row as a product takes it: values times one scale.
struct Operand {
  std::vector<float> values;
  double scale = 1;
};

/// bf16 and integer formats round their left operands; see expert_ffn_forward().
Operand round_operand(const float* row, std::int64_t size, std::int64_t per_step) {
  Operand operand{{row, row + size}, 1};
  if (per_step == 2) {
    for (float& v : operand.values) v = from_bf16(to_bf16(v));
  } else if (per_step == 4) {
    float largest = 0;
    for (const float v : operand.values) largest = std::max(largest, std::fabs(v));
    const float inverse = largest > 1e-35F ? 127 / largest : 0;
    for (float& v : operand.values) v = std::nearbyintf(v * inverse);
    operand.scale = static_cast<double>(largest / 127);
  }
  return operand;
}

double product(const Operand& left, const char* panel, const FormatInfo& format,
               std::int64_t column) {
  double sum = 0;
  for (std::size_t k = 0; k < left.values.size(); ++k) {
    const auto weight = read_weight(panel, format, static_cast<std::int64_t>(k), column);
    sum += static_cast<double>(left.values[k]) * static_cast<double>(weight.code * weight.scale);
  }
  return sum * left.scale;
}

/// What hidden values are divided by, 1 where they are not normalised.
double hidden_size_of(const std::vector<float>& hidden, float eps) {
  if (eps == 0) return 1;
  double sum = 0;
  for (const float h : hidden) sum += static_cast<double>(h) * static_cast<double>(h);
  return std::sqrt(sum / static_cast<double>(hidden.size()) + static_cast<double>(eps));
}

void add_bank(const FfnBank& bank, const float* tokens, double* output) {
  const PackedExperts& experts = *bank.experts;
  const FfnShape& s = experts.shape();
  const FormatInfo& format = experts.info();
  const RoutingPlan& plan = *bank.plan;
  const bool gated = is_gated(s.activation);
  const std::int64_t width = gated ? kPanelColumns / 2 : kPanelColumns;
  std::vector<float> hidden(static_cast<std::size_t>(s.intermediate_size));
  for (std::int64_t e = 0; e < s.num_experts; ++e) {
    const auto value = [&](const Operand& left, const PanelLayout& layout, const float* scales,
                           const float* biases, std::int64_t panel, std::int64_t column) {
      const auto at = static_cast<std::size_t>(panel * kPanelColumns + column);
      const double scale = scales == nullptr ? 1.0 : static_cast<double>(scales[at]);
      const double bias = biases == nullptr ? 0.0 : static_cast<double>(biases[at]);
      return product(left, experts.panel(e, layout, panel), format, column) * scale + bias;
    };
    for (std::int64_t a = plan.offsets[static_cast<std::size_t>(e)];
         a < plan.offsets[static_cast<std::size_t>(e) + 1]; ++a) {
      const auto n = plan.token[static_cast<std::size_t>(a)];
      const auto x = round_operand(tokens + n * s.hidden_size, s.hidden_size, format.per_step);
      for (std::int64_t j = 0; j < s.intermediate_size; ++j) {
        const auto at = [&](std::int64_t column) {
          return value(x, experts.up_layout(), experts.up_scale(e), experts.up_bias(e), j / width,
                       column);
        };
        const double act = activate(s.activation, at(j % width)).value;
        hidden[static_cast<std::size_t>(j)] =
            static_cast<float>(gated ? act * at(width + j % width) : act);
      }
      auto h = round_operand(hidden.data(), s.intermediate_size, format.per_step);
      h.scale /= hidden_size_of(hidden, s.hidden_norm_eps);
      for (std::int64_t o = 0; o < s.output_size; ++o) {
        output[n * s.output_size + o] +=
            static_cast<double>(plan.weight[static_cast<std::size_t>(a)]) *
            value(h, experts.down_layout(), experts.down_scale(e), experts.down_bias(e),
                  o / kPanelColumns, o % kPanelColumns);
      }
    }
  }
}

/// What a training step's products make of an operand.
class Rounding {
 public:
  explicit Rounding(ComputeType compute) : bf16_(compute == ComputeType::kBf16) {}
  double operator()(double value) const {
    return bf16_ ? static_cast<double>(from_bf16(to_bf16(static_cast<float>(value)))) : value;
  }
  double operator()(float value) const { return (*this)(static_cast<double>(value)); }

 private:
  bool bf16_;
};

/// <row of matrix, x> + bias.
double dot(const Rounding& round, const float* matrix, std::int64_t row, std::int64_t size,
           const double* x, const float* bias) {
  double sum = bias == nullptr ? 0.0 : static_cast<double>(bias[row]);
  for (std::int64_t k = 0; k < size; ++k) sum += round(matrix[row * size + k]) * round(x[k]);
  return sum;
}

/// One assignment's way through its expert.
struct Pass {
  std::vector<double> x, gate, up, hidden;
};

const float* at(const float* stack, std::int64_t offset) {
  return stack == nullptr ? nullptr : stack + offset;
}

Pass run_expert(const TrainBank& bank, std::int64_t e, const float* token) {
  const FfnShape& s = bank.shape;
  const auto& p = bank.parameters;
  const std::int64_t f = s.intermediate_size;
  const std::int64_t d = s.hidden_size;
  const bool gated = is_gated(s.activation);
  const Rounding round(bank.compute);
  Pass pass;
  pass.x.assign(token, token + d);
  for (std::int64_t j = 0; j < f; ++j) {
    pass.up.push_back(dot(round, p.up + e * f * d, j, d, pass.x.data(), at(p.up_bias, e * f)));
    if (gated) {
      pass.gate.push_back(
          dot(round, p.gate + e * f * d, j, d, pass.x.data(), at(p.gate_bias, e * f)));
      pass.hidden.push_back(activate(s.activation, pass.gate.back()).value * pass.up.back());
    } else {
      pass.hidden.push_back(activate(s.activation, pass.up.back()).value);
    }
  }
  return pass;
}

template <typename Visit>
void for_rows(const RoutingPlan& plan, const Visit& visit) {
  for (std::int64_t e = 0; e < plan.num_experts; ++e) {
    for (std::int64_t a = plan.offsets[static_cast<std::size_t>(e)];
         a < plan.offsets[static_cast<std::size_t>(e) + 1]; ++a) {
      const auto row = static_cast<std::size_t>(a);
      visit(e, std::int64_t{plan.token[row]}, plan.assignment[row],
            static_cast<double>(plan.weight[row]));
    }
  }
}

void store(const std::vector<double>& from, float* to) {
  for (std::size_t i = 0; i < from.size(); ++i) to[i] = static_cast<float>(from[i]);
}

/// The backward pass of a bank. Assignments come expert by expert; an expert's gradients are summed
/// and then written.
class ReferenceBackward {
 public:
  ReferenceBackward(const TrainBank& bank, const float* tokens, const float* grad_output,
                    const MutableExpertMatrices& gradients)
      : grad_tokens(static_cast<std::size_t>(bank.plan->num_tokens * bank.shape.hidden_size), 0.0),
        bank_(bank),
        tokens_(tokens),
        grad_output_(grad_output),
        gradients_(gradients),
        f_(bank.shape.intermediate_size),
        d_(bank.shape.hidden_size),
        o_(bank.shape.output_size),
        gated_(is_gated(bank.shape.activation)),
        round_(bank.compute),
        gate_(static_cast<std::size_t>(f_ * d_)),
        up_(gate_.size()),
        down_(static_cast<std::size_t>(o_ * f_)),
        gate_bias_(static_cast<std::size_t>(f_)),
        up_bias_(gate_bias_.size()),
        down_bias_(static_cast<std::size_t>(o_)) {}

  /// Adds an assignment; the gradient of its combine weight.
  double add(std::int64_t expert, std::int64_t token, double weight) {
    if (expert != expert_) start(expert);
    const auto pass = run_expert(bank_, expert, tokens_ + token * d_);
    double of_weight = 0;
    add_output(pass, grad_output_ + token * o_, weight, of_weight);
    add_hidden(pass, token, weight, of_weight);
    return of_weight;
  }

  /// Writes what was summed for the last expert.
  void flush() const {
    const auto& g = gradients_;
    if (expert_ < 0 || g.up == nullptr) return;
    store(up_, g.up + expert_ * f_ * d_);
    store(down_, g.down + expert_ * o_ * f_);
    if (gated_) store(gate_, g.gate + expert_ * f_ * d_);
    if (g.up_bias != nullptr) store(up_bias_, g.up_bias + expert_ * f_);
    if (g.gate_bias != nullptr) store(gate_bias_, g.gate_bias + expert_ * f_);
    if (g.down_bias != nullptr) store(down_bias_, g.down_bias + expert_ * o_);
  }

  std::vector<double> grad_tokens;  ///< [N, D]

 private:
  void start(std::int64_t expert) {
    flush();
    expert_ = expert;
    for (auto* sums : {&gate_, &up_, &down_, &gate_bias_, &up_bias_, &down_bias_}) {
      std::fill(sums->begin(), sums->end(), 0.0);
    }
  }

  void add_output(const Pass& pass, const float* dy, double weight, double& of_weight) {
    const float* bias = at(bank_.parameters.down_bias, expert_ * o_);
    for (std::int64_t i = 0; i < o_; ++i) {
      const auto grad = static_cast<double>(dy[i]);
      if (bias != nullptr) of_weight += grad * static_cast<double>(bias[i]);
      down_bias_[static_cast<std::size_t>(i)] += weight * grad;
      for (std::int64_t j = 0; j < f_; ++j) {
        down_[static_cast<std::size_t>(i * f_ + j)] +=
            round_(grad) * round_(weight * pass.hidden[static_cast<std::size_t>(j)]);
      }
    }
  }

  void add_hidden(const Pass& pass, std::int64_t token, double weight, double& of_weight) {
    const float* dy = grad_output_ + token * o_;
    const float* down_matrix = bank_.parameters.down + expert_ * o_ * f_;
    for (std::int64_t j = 0; j < f_; ++j) {
      const auto row = static_cast<std::size_t>(j);
      double grad = 0;
      for (std::int64_t i = 0; i < o_; ++i) {
        grad += round_(dy[i]) * round_(down_matrix[i * f_ + j]);
      }
      of_weight += grad * pass.hidden[row];
      grad *= weight;
      const auto act = activate(bank_.shape.activation, gated_ ? pass.gate[row] : pass.up[row]);
      const double of_gate = gated_ ? grad * pass.up[row] * act.derivative : 0;
      const double of_up = grad * (gated_ ? act.value : act.derivative);
      up_bias_[row] += of_up;
      gate_bias_[row] += of_gate;
      add_inputs(pass, token, j, of_gate, of_up);
    }
  }

  /// What hidden value j adds to the gradients of its weights and of the token.
  void add_inputs(const Pass& pass, std::int64_t token, std::int64_t j, double of_gate,
                  double of_up) {
    const auto& p = bank_.parameters;
    for (std::int64_t k = 0; k < d_; ++k) {
      const std::int64_t at_weight = (expert_ * f_ + j) * d_ + k;
      const auto cell = static_cast<std::size_t>(j * d_ + k);
      const double x = round_(pass.x[static_cast<std::size_t>(k)]);
      up_[cell] += round_(of_up) * x;
      if (gated_) gate_[cell] += round_(of_gate) * x;
      grad_tokens[static_cast<std::size_t>(token * d_ + k)] +=
          round_(of_up) * round_(p.up[at_weight]) +
          (gated_ ? round_(of_gate) * round_(p.gate[at_weight]) : 0);
    }
  }

  const TrainBank& bank_;
  const float* tokens_;
  const float* grad_output_;
  const MutableExpertMatrices& gradients_;
  std::int64_t f_, d_, o_;
  bool gated_;
  Rounding round_;
  std::int64_t expert_ = -1;
  std::vector<double> gate_, up_, down_, gate_bias_, up_bias_, down_bias_;
};

}  // namespace

void reference_forward(const std::vector<FfnBank>& banks, const float* tokens, float* output) {
  const std::int64_t size =
      banks.front().plan->num_tokens * banks.front().experts->shape().output_size;
  std::vector<double> sums(static_cast<std::size_t>(size), 0.0);
  for (const auto& bank : banks) add_bank(bank, tokens, sums.data());
  store(sums, output);
}

void reference_train_forward(const TrainBank& bank, const float* tokens, float* output) {
  const FfnShape& s = bank.shape;
  std::vector<double> sums(static_cast<std::size_t>(bank.plan->num_tokens * s.output_size), 0.0);
  for_rows(*bank.plan, [&](std::int64_t e, std::int64_t n, std::int64_t, double weight) {
    const auto pass = run_expert(bank, e, tokens + n * s.hidden_size);
    for (std::int64_t o = 0; o < s.output_size; ++o) {
      sums[static_cast<std::size_t>(n * s.output_size + o)] +=
          weight * dot(Rounding(bank.compute),
                       bank.parameters.down + e * s.output_size * s.intermediate_size, o,
                       s.intermediate_size, pass.hidden.data(),
                       at(bank.parameters.down_bias, e * s.output_size));
    }
  });
  store(sums, output);
}

void reference_backward(const TrainBank& bank, const float* tokens, const float* grad_output,
                        const FfnGradients& gradients) {
  ReferenceBackward backward(bank, tokens, grad_output, gradients.parameters);
  for_rows(*bank.plan, [&](std::int64_t e, std::int64_t n, std::int64_t assignment, double weight) {
    const double of_weight = backward.add(e, n, weight);
    if (gradients.combine_weight != nullptr) {
      gradients.combine_weight[assignment] = static_cast<float>(of_weight);
    }
  });
  backward.flush();
  if (gradients.tokens != nullptr) store(backward.grad_tokens, gradients.tokens);
}

}  // namespace moekit::kernels
