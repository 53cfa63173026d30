// The expert kernels without libtorch: pack two experts to int8, route three tokens, run them.
#include <moekit/kernels/ffn/expert_ffn.h>

#include <cstdio>
#include <random>

int main() {
  using namespace moekit::kernels;
  constexpr std::int64_t kHidden = 64;
  constexpr std::int64_t kIntermediate = 96;
  const FfnShape shape{2, kHidden, kIntermediate, kHidden, moekit::Activation::kSwiglu, false};
  std::mt19937 generator(1);
  std::normal_distribution<float> normal(0, 0.1F);
  const auto values = [&](std::int64_t count) {
    std::vector<float> out(static_cast<std::size_t>(count));
    for (auto& v : out) v = normal(generator);
    return out;
  };

  PackedExperts experts(shape, WeightFormat::kInt8);
  for (std::int64_t e = 0; e < 2; ++e) {
    const auto gate = values(kIntermediate * kHidden);
    const auto up = values(kIntermediate * kHidden);
    const auto down = values(kHidden * kIntermediate);
    experts.pack(e, {gate.data(), up.data(), down.data()});
  }

  const std::int64_t expert_index[] = {0, 1, 1};  // K = 1
  RoutingPlan plan;
  plan.build(3, 2, 1, expert_index, nullptr);

  ThreadPool pool(1);
  Workspace workspace;
  const auto tokens = values(3 * kHidden);
  std::vector<float> output(tokens.size());
  expert_ffn_forward({{&experts, &plan}}, tokens.data(), output.data(), {&pool, &workspace});

  std::printf("%s, %.2f bits a weight, first value %g\n",
              std::string(isa_name(default_isa())).c_str(), experts.info().bits_per_weight,
              static_cast<double>(output[0]));
  std::puts("example: ok");
}
