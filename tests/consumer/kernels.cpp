#include <moekit/kernels/ffn/expert_ffn.h>

int main() {
  using namespace moekit::kernels;
  const PackedExperts experts({1, 4, 4, 4, moekit::Activation::kRelu, false},
                              WeightFormat::kTernary);
  return experts.expert_bytes() > 0 && !supported_isas().empty() ? 0 : 1;
}
