#include "moekit/nn/experts/matrix_product_experts.h"

#include <algorithm>

#include "moekit/core/error.h"

namespace moekit::nn {
namespace {

constexpr int64_t kTensors = 5;  // as in all of the paper's runs

/// Factors of both sizes as they are given, or chosen. @param where  before the message
ProductShape factors_of(const MatrixProductOptions& o, const std::string& where) {
  ProductShape shape{o.hidden_factors(), o.token_factors()};
  MOEKIT_CHECK(shape.rows.empty() == shape.columns.empty(), where,
               "token_factors and hidden_factors are given together or not at all");
  const int64_t f = o.mlp.intermediate_size();
  const int64_t d = o.mlp.hidden_size();
  if (shape.rows.empty()) shape = {balanced_factors(f, kTensors), balanced_factors(d, kTensors)};
  check_product_shape(shape, where + "hidden_factors and token_factors");
  MOEKIT_CHECK(shape.num_rows() == f, where, "hidden_factors make up ", shape.num_rows(),
               "; intermediate_size is ", f);
  MOEKIT_CHECK(shape.num_columns() == d, where, "token_factors make up ", shape.num_columns(),
               "; tokens have ", d);
  return shape;
}

void check_network(const MatrixProductOptions& o, const std::string& where) {
  MOEKIT_CHECK(o.mlp.weights() == WeightLevels::kFloat, where,
               "weights must be \"float\": products of rounded tensors are not rounded; got \"",
               enum_name(o.mlp.weights()), "\"");
  MOEKIT_CHECK(o.mlp.init() == ExpertInit::kDefault, where,
               "init must be \"default\": tensors of a matrix of zeros have no gradient; got \"",
               enum_name(o.mlp.init()), "\"");
  MOEKIT_CHECK(o.mlp.hidden_size() == o.mlp.output_size(), where,
               "outputs must have the tokens' size ", o.mlp.hidden_size(), "; got ",
               o.mlp.output_size());
}

}  // namespace

MatrixProductExpertsImpl::MatrixProductExpertsImpl(MatrixProductOptions options_)
    : options(std::move(options_)) {
  check_network(options, "MatrixProductExperts: ");
  reset();
}

MlpExpertsOptions MatrixProductExpertsImpl::one_network() const {
  return MlpExpertsOptions(options.mlp).num_experts(1);
}

MatrixProductExpertsImpl::Product MatrixProductExpertsImpl::make_product(
    const std::string& name, const ProductShape& shape) {
  const auto bonds = bonds_of(shape, options.max_bond());
  Product product{shape, {}};
  for (size_t k = 0; k < shape.size(); ++k) {
    std::vector<int64_t> sizes{bonds[k], shape.rows[k], shape.columns[k], bonds[k + 1]};
    const bool shared = k == shape.central();
    if (!shared) sizes.insert(sizes.begin(), num_experts());
    product.tensors.push_back(
        register_parameter(concat(name, shared ? "_shared" : concat("_", k)), torch::zeros(sizes)));
  }
  return product;
}

void MatrixProductExpertsImpl::reset() {
  const auto shape = factors_of(options, "MatrixProductExperts: ");
  const ProductShape swapped{shape.columns, shape.rows};
  if (is_gated(options.mlp.activation())) gate_ = make_product("gate_proj", shape);
  up_ = make_product("up_proj", shape);
  down_ = make_product("down_proj", swapped);
  if (options.mlp.bias()) {
    const auto bias = [&](const char* name, int64_t size) {
      return register_parameter(name, torch::zeros({num_experts(), size}));
    };
    if (!gate_.tensors.empty()) gate_bias_ = bias("gate_bias", options.mlp.intermediate_size());
    up_bias_ = bias("up_bias", options.mlp.intermediate_size());
    down_bias_ = bias("down_bias", options.mlp.output_size());
  }
  reset_parameters({});
}

void MatrixProductExpertsImpl::set_product(const Product& product,
                                           const torch::Tensor& matrix) const {
  const auto parts = decompose(matrix, product.shape, options.max_bond());
  for (size_t k = 0; k < parts.tensors.size(); ++k) {
    torch::Tensor(product.tensors[k]).copy_(parts.tensors[k]);  // the same for all experts
  }
}

void MatrixProductExpertsImpl::reset_parameters(const at::Generator& generator) {
  MlpExperts drawn(one_network());
  drawn->reset_parameters(generator);
  set_networks({drawn->gate_proj, drawn->up_proj, drawn->down_proj, drawn->gate_bias,
                drawn->up_bias, drawn->down_bias});
}

void MatrixProductExpertsImpl::set_networks(const FfnParameters& networks) {
  const torch::NoGradGuard no_grad;
  for (const auto* stack : {&networks.gate, &networks.up, &networks.down, &networks.gate_bias,
                            &networks.up_bias, &networks.down_bias}) {
    MOEKIT_CHECK(!stack->defined() || stack->eq((*stack)[0]).all().item<bool>(),
                 "experts of matrix products begin as one network: wants whole copies without "
                 "noise");
  }
  if (!gate_.tensors.empty()) set_product(gate_, networks.gate[0]);
  set_product(up_, networks.up[0]);
  set_product(down_, networks.down[0]);
  const auto fill = [](torch::Tensor& to, const torch::Tensor& from) {
    if (to.defined()) to.copy_(from[0]);
  };
  fill(gate_bias_, networks.gate_bias);
  fill(up_bias_, networks.up_bias);
  fill(down_bias_, networks.down_bias);
}

FfnParameters MatrixProductExpertsImpl::networks() const {
  const auto matrix = [](const Product& product) {
    return product.tensors.empty() ? torch::Tensor() : rebuild(product.tensors).contiguous();
  };
  return {matrix(gate_), matrix(up_), matrix(down_), gate_bias_, up_bias_, down_bias_};
}

ExpertOutput MatrixProductExpertsImpl::forward_all(const torch::Tensor& tokens) {
  const auto [values, up] = stacked_ffn(tokens, networks(), options.mlp.activation());
  return {values, up};
}

torch::Tensor MatrixProductExpertsImpl::forward_routed(const torch::Tensor& rows,
                                                       const RoutingPlan& plan) {
  return composed_ffn(rows, networks(), options.mlp.activation(), plan.offsets);
}

torch::Tensor MatrixProductExpertsImpl::forward_fused(const torch::Tensor& tokens,
                                                      const RoutingPlan& plan,
                                                      const torch::Tensor& weight,
                                                      const std::shared_ptr<Runtime>& runtime) {
  return fused_.forward(tokens, networks(), plan, weight, options.mlp.activation(),
                        options.mlp.compute(), options.mlp.keep_activations(), runtime);
}

std::string MatrixProductExpertsImpl::why_not_fused(const torch::Tensor& tokens) const {
  // What the kernels ask of parameters, type and place, products have of their tensors.
  return FusedFfn::why_not(tokens, {{}, up_.tensors.front(), down_.tensors.front(), {}, {}, {}},
                           options.mlp.activation());
}

void MatrixProductExpertsImpl::take_experts(ExpertEdit& edit) {
  for (const auto* product : {&gate_, &up_, &down_}) {
    for (size_t k = 0; k < product->tensors.size(); ++k) {
      if (k != product->shape.central()) edit.take_rows(product->tensors[k]);
    }
  }
  for (const auto* bias : {&gate_bias_, &up_bias_, &down_bias_}) edit.take_rows(*bias);
  edit.then([this, experts = edit.index.numel()] { options.mlp.num_experts(experts); });
}

std::vector<torch::Tensor> MatrixProductExpertsImpl::shared_parameters() const {
  std::vector<torch::Tensor> shared;
  for (const auto* product : {&gate_, &up_, &down_}) {
    if (!product->tensors.empty()) shared.push_back(product->tensors[product->shape.central()]);
  }
  return shared;
}

void check_matrix_product_experts(const MatrixProductOptions& options, const LayerSite& site,
                                  const std::string& where) {
  MOEKIT_CHECK(!site.is_image(), where, ".kind = \"matrix_product\" wants tokens that are vectors");
  MatrixProductOptions own = options;
  own.mlp.hidden_size(site.size()).output_size(site.output_size);
  check_network(own, where + ".");
  factors_of(own, where + ".");
}

std::shared_ptr<ExpertsImpl> make_matrix_product_experts(const MatrixProductOptions& options,
                                                         const LayerSite& site) {
  MatrixProductOptions own = options;
  own.mlp.hidden_size(site.size()).output_size(site.output_size).num_experts(site.num_experts);
  return std::make_shared<MatrixProductExpertsImpl>(std::move(own));
}

}  // namespace moekit::nn
