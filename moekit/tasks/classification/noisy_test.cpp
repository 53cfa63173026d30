#include "moekit/tasks/classification/noisy_test.h"

#include <algorithm>

#include "moekit/tasks/classification/problem.h"

namespace moekit::classification {
namespace {

class NoisyTest : public train::Callback {
 public:
  explicit NoisyTest(ClassificationProblem& problem) : problem_(problem) {}
  std::string_view name() const override { return "noisy_test"; }
  void on_finish(train::Trainer& /*trainer*/, Json& summary) override {
    const RunData& data = problem_.data();
    const EvaluateOptions noisy{.noise_seed = static_cast<uint64_t>(problem_.config().seed)};
    for (const auto& [name, set] :
         {std::pair("noisy_test", &data.test), {"noisy_train", &data.train}}) {
      summary[name] =
          problem_.summarize(evaluate(problem_.classifier(), *set, data.normalization, noisy));
    }
  }

 private:
  ClassificationProblem& problem_;
};

}  // namespace

void check_noisy_test(const NoisyTestOptions& options, const CallbackSite& site,
                      const std::string& where) {
  const bool noise =
      std::any_of(site.layers.begin(), site.layers.end(), [](const nn::RoutedLayer& layer) {
        return layer.router != nullptr && layer.router->traits().adds_noise;
      });
  MOEKIT_CHECK(!options.noisy_test || noise, where,
               ".noisy_test wants a model.router.noise; the router adds none");
}

std::unique_ptr<train::Callback> make_noisy_test(const NoisyTestOptions& options,
                                                 const CallbackSite& site) {
  if (!options.noisy_test) return nullptr;
  return std::make_unique<NoisyTest>(*site.problem);
}

}  // namespace moekit::classification
