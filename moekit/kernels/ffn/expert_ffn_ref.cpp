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
      const auto h = round_operand(hidden.data(), s.intermediate_size, format.per_step);
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
  const FfnShape& s = bank.shape;
  const auto& p = bank.parameters;
  const auto& g = gradients.parameters;
  const RoutingPlan& plan = *bank.plan;
  const std::int64_t f = s.intermediate_size;
  const std::int64_t d = s.hidden_size;
  const std::int64_t o = s.output_size;
  const bool gated = is_gated(s.activation);
  const Rounding round(bank.compute);
  std::vector<double> grad_tokens(static_cast<std::size_t>(plan.num_tokens * d), 0.0);
  std::vector<double> gate(static_cast<std::size_t>(f * d)), up(gate.size()),
      down(static_cast<std::size_t>(o * f)), gate_bias(static_cast<std::size_t>(f)),
      up_bias(gate_bias.size()), down_bias(static_cast<std::size_t>(o));
  std::int64_t current = -1;
  const auto flush = [&] {
    if (current < 0 || g.up == nullptr) return;
    store(up, g.up + current * f * d);
    store(down, g.down + current * o * f);
    if (gated) store(gate, g.gate + current * f * d);
    if (g.up_bias != nullptr) store(up_bias, g.up_bias + current * f);
    if (g.gate_bias != nullptr) store(gate_bias, g.gate_bias + current * f);
    if (g.down_bias != nullptr) store(down_bias, g.down_bias + current * o);
  };
  for_rows(plan, [&](std::int64_t e, std::int64_t n, std::int64_t assignment, double weight) {
    if (e != current) {
      flush();
      current = e;
      for (auto* sums : {&gate, &up, &down, &gate_bias, &up_bias, &down_bias}) {
        std::fill(sums->begin(), sums->end(), 0.0);
      }
    }
    const auto pass = run_expert(bank, e, tokens + n * d);
    const float* dy = grad_output + n * o;
    const float* down_matrix = p.down + e * o * f;
    double of_weight = 0;
    for (std::int64_t i = 0; i < o; ++i) {
      const auto grad = static_cast<double>(dy[i]);
      if (p.down_bias != nullptr) of_weight += grad * static_cast<double>(p.down_bias[e * o + i]);
      down_bias[static_cast<std::size_t>(i)] += weight * grad;
      for (std::int64_t j = 0; j < f; ++j) {
        down[static_cast<std::size_t>(i * f + j)] +=
            round(grad) * round(weight * pass.hidden[static_cast<std::size_t>(j)]);
      }
    }
    for (std::int64_t j = 0; j < f; ++j) {
      const auto row = static_cast<std::size_t>(j);
      double grad = 0;
      for (std::int64_t i = 0; i < o; ++i) grad += round(dy[i]) * round(down_matrix[i * f + j]);
      of_weight += grad * pass.hidden[row];
      grad *= weight;
      const auto act = activate(s.activation, gated ? pass.gate[row] : pass.up[row]);
      const double of_gate = gated ? grad * pass.up[row] * act.derivative : 0;
      const double of_up = grad * (gated ? act.value : act.derivative);
      up_bias[row] += of_up;
      gate_bias[row] += of_gate;
      for (std::int64_t k = 0; k < d; ++k) {
        const std::int64_t at_weight = (e * f + j) * d + k;
        const auto cell = static_cast<std::size_t>(j * d + k);
        const double x = round(pass.x[static_cast<std::size_t>(k)]);
        up[cell] += round(of_up) * x;
        if (gated) gate[cell] += round(of_gate) * x;
        grad_tokens[static_cast<std::size_t>(n * d + k)] +=
            round(of_up) * round(p.up[at_weight]) +
            (gated ? round(of_gate) * round(p.gate[at_weight]) : 0);
      }
    }
    if (gradients.combine_weight != nullptr) {
      gradients.combine_weight[assignment] = static_cast<float>(of_weight);
    }
  });
  flush();
  if (gradients.tokens != nullptr) store(grad_tokens, gradients.tokens);
}

}  // namespace moekit::kernels
