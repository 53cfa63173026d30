#include "moekit/data/sets/soft_routed_teacher.h"

#include <torch/types.h>

#include "moekit/core/error.h"
#include "moekit/core/memory.h"
#include "moekit/core/random.h"
#include "moekit/tensor/generator.h"

namespace moekit::data {
namespace {

constexpr double kSqrt6 = 2.449489742783178;

ImageSet draw_judged(const SoftRouted& teacher, int64_t count, at::Generator& generator) {
  const auto x = torch::empty({count, teacher.w.size(1)}).normal_(0, 1, generator);
  const auto parts = teacher.parts(x);
  return {x.unsqueeze(1).unsqueeze(1), parts.sum(1).gt(0).to(torch::kLong), parts.abs().argmax(1)};
}

}  // namespace

torch::Tensor hermite3(const torch::Tensor& z) { return z * (z * z - 3) / kSqrt6; }

torch::Tensor hermite3_slope(const torch::Tensor& z) { return (z * z - 1) * (3 / kSqrt6); }

torch::Tensor soft_gate(const torch::Tensor& scores, SoftGate gate) {
  return gate == SoftGate::kSigmoid ? torch::sigmoid(scores) : torch::softmax(scores, 1);
}

torch::Tensor SoftRouted::parts(const torch::Tensor& x) const {
  return soft_gate(x.matmul(w.t()), gate) * hermite3(x.matmul(v.t()));
}

SoftRouted SoftRouted::select(const torch::Tensor& index) const {
  return {w.index_select(0, index), v.index_select(0, index), gate};
}

SoftRouted make_teacher(int64_t pairs, int64_t dim, SoftGate gate, const at::Generator& generator) {
  MOEKIT_CHECK(pairs >= 1 && pairs <= dim / 2, "soft-routed teacher: pairs must be 1..dim/2 = 1..",
               dim / 2, "; got ", pairs);
  // The columns of q are orthonormal.
  const auto random = torch::empty({dim, 2 * pairs}, torch::kFloat64).normal_(0, 1, generator);
  const auto q = std::get<0>(torch::linalg_qr(random)).t();
  return {q.slice(0, 0, pairs).to(torch::kFloat32).contiguous(),
          q.slice(0, pairs, 2 * pairs).to(torch::kFloat32).contiguous(), gate};
}

void SoftRoutedSetOptions::check(const std::string& where) const {
  MOEKIT_CHECK(pairs >= 1 && pairs <= dim / 2, where, ".pairs must be 1..dim/2 = 1..", dim / 2,
               "; got ", pairs);
  const std::string shortage = memory_shortage({2 * pairs, dim}, sizeof(double));
  MOEKIT_CHECK(shortage.empty(), where, ".pairs = ", pairs, ", dim = ", dim, ": ", shortage);
  check_generated_size(where, num_train, num_test, {dim + 2 * pairs}, sizeof(float));
}

ImageDataset make_soft_routed_set(const SoftRoutedSetOptions& options, uint64_t seed) {
  options.check("soft-routed-teacher");
  auto generator = tensor::make_generator(derive_seed(seed, "soft-routed-teacher"));
  const auto teacher = make_teacher(options.pairs, options.dim, options.gate, generator);
  ImageDataset dataset;
  dataset.name = "soft-routed-teacher";
  dataset.train = draw_judged(teacher, options.num_train, generator);
  dataset.test = draw_judged(teacher, options.num_test, generator);
  dataset.class_names = {"f* <= 0", "f* > 0"};
  dataset.normalization = {{0.0}, {1.0}};
  dataset.source = "generated";
  dataset.directions = {{"router", teacher.w}, {"expert", teacher.v}};
  return dataset;
}

}  // namespace moekit::data
