#include "moekit/tensor/memory.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include "moekit/core/error.h"

namespace moekit::tensor {
namespace {

const Json kOptions = {{"seed", 99999999999},
                       {"num_experts", 1000},
                       {"expert", {{"hidden", {5, 2000000}}, {"epochs", 1 << 30}}}};

std::string refusal(const std::function<torch::Tensor()>& make) {
  try {
    within_memory("the model", kOptions, "model", make);
  } catch (const ArgumentError& error) {
    return error.what();
  }
  return "";
}

TEST(WithinMemory, RefusesInWordsWhatDoesNotFit) {
  const auto free_floats = static_cast<int64_t>(available_memory() / sizeof(float));
  for (const auto& shape : std::vector<std::vector<int64_t>>{
           {free_floats + (1 << 24)},                // what Linux might hand out
           {int64_t{1} << 40, 1 << 10},              // what it does not
           {int64_t{1} << 40, int64_t{1} << 40}}) {  // what no number holds
    const auto message = refusal([&] { return torch::empty(shape); });
    EXPECT_NE(message.find("the model would take more memory than is free"), std::string::npos);
    EXPECT_NE(message.find("largest option is model.expert.hidden[1] = 2000000"), std::string::npos)
        << message;
  }
  EXPECT_NE(refusal([] {
              std::vector<int64_t> values;
              values.reserve(size_t{1} << 62);
              return torch::empty({1});
            }),
            "");
}

TEST(WithinMemory, LetsOtherErrorsAndWhatFitsThrough) {
  EXPECT_EQ(refusal([] { return torch::ones({3}); }), "");
  EXPECT_THROW(refusal([] { return torch::ones({3}) + torch::ones({4}); }), c10::Error);
  EXPECT_THROW(within_memory("a", kOptions, "", []() -> int { throw FormatError("the file"); }),
               FormatError);
}

TEST(MemoryLimit, EndsWithItsLifeAndNests) {
  torch::Tensor kept;
  {
    const MemoryLimit outer;
    kept = torch::zeros({4});
    { const MemoryLimit inner; }
    EXPECT_THROW(torch::empty({int64_t{1} << 50}), std::bad_alloc);
  }
  EXPECT_THROW(torch::empty({int64_t{1} << 50}), c10::Error);  // libtorch's own refusal
  kept.resize_({1000});                                        // by the allocator it came from
  EXPECT_EQ(kept[0].item<float>(), 0);
}

}  // namespace
}  // namespace moekit::tensor
