#include "moekit/tasks/federated/local_training.h"

#include <ATen/Parallel.h>
#include <torch/torch.h>

#include <algorithm>
#include <exception>

#include "moekit/core/random.h"
#include "moekit/kernels/common/thread_pool.h"

namespace moekit::federated {
namespace {

/// Rows that are gathered and normalised at once: those of many steps, yet few enough to be in the
/// second cache when their step comes.
constexpr int64_t kGathered = 256;

/// A network of one hidden layer while it is trained.
///
/// The gradient is written out: of a step this small, 20 rows of 784, automatic differentiation
/// takes more time than the arithmetic.
class Network {
 public:
  Network(const nn::MlpExpertsOptions& net, const merge::WeightSet& start)
      : bank_(nn::MlpExpertsOptions(net).num_experts(1)),
        weights_(nn::expert_tensors(*bank_, 0)),
        up_(bank_->up_proj.detach()[0]),
        down_(bank_->down_proj.detach()[0]),
        up_bias_(bank_->up_bias.detach()[0]),
        down_bias_(bank_->down_bias.detach()[0]) {
    for (size_t t = 0; t < weights_.size(); ++t) weights_[t].second.copy_(start[t].second);
  }

  /// One step of plain gradient descent on the mean cross-entropy of x [N, D].
  /// @returns the sum of the samples' losses before it.
  double step(const torch::Tensor& x, const torch::Tensor& labels, double lr) {
    const auto hidden = torch::addmm(up_bias_, x, up_.t()).relu_();
    const auto log_probs = torch::log_softmax(torch::addmm(down_bias_, hidden, down_.t()), 1);
    const auto label = labels.unsqueeze(1);
    const auto chosen = log_probs.gather(1, label);
    double loss = 0;
    for (int64_t r = 0; r < x.size(0); ++r) loss -= chosen.data_ptr<float>()[r];
    // Of the mean of log-softmax by its input: (p - one-hot) / N.
    auto gradient = log_probs.exp();
    gradient.scatter_(1, label, chosen.exp_().sub_(1)).div_(static_cast<double>(x.size(0)));
    const auto hidden_gradient = torch::threshold_backward(gradient.mm(down_), hidden, 0);
    // The products add to the weights themselves: w - lr g^T x, without a gradient in memory.
    down_.addmm_(gradient.t(), hidden, 1, -lr);
    down_bias_.sub_(gradient.sum(0), lr);
    up_.addmm_(hidden_gradient.t(), x, 1, -lr);
    up_bias_.sub_(hidden_gradient.sum(0), lr);
    return loss;
  }

  const merge::WeightSet& weights() const { return weights_; }

 private:
  nn::MlpExperts bank_;
  merge::WeightSet weights_;  // share the bank's memory, as those below
  torch::Tensor up_, down_, up_bias_, down_bias_;
};

Trained train_one(const data::ImageSet& samples, const data::Normalization& normalization,
                  const Learner& learner, const nn::MlpExpertsOptions& net,
                  const LocalOptions& options) {
  const torch::NoGradGuard no_grad;  // a thread's own
  Network network(net, learner.start);
  const auto count = static_cast<int64_t>(learner.rows.size());
  // Whole batches, so that a batch lies in one gathering; both end with an epoch.
  const int64_t gathered =
      std::max(kGathered / options.batch_size, int64_t{1}) * options.batch_size;
  double loss = 0;
  for (int64_t epoch = 0; epoch < options.epochs; ++epoch) {
    auto order =
        random_permutation(count, derive_seed(learner.seed, "order", static_cast<uint64_t>(epoch)));
    for (auto& place : order) place = learner.rows[static_cast<size_t>(place)];
    const auto rows = torch::tensor(order, torch::kLong);
    const auto labels = samples.labels.index_select(0, rows);
    for (int64_t first = 0; first < count; first += gathered) {
      const int64_t end = std::min(first + gathered, count);
      const auto pixels =
          data::normalize(samples.images.index_select(0, rows.slice(0, first, end)), normalization)
              .flatten(1);
      for (int64_t begin = first; begin < end; begin += options.batch_size) {
        const int64_t size = std::min(options.batch_size, end - begin);
        loss += network.step(pixels.narrow(0, begin - first, size), labels.narrow(0, begin, size),
                             options.lr);
      }
    }
  }
  return {network.weights(), loss / static_cast<double>(count * options.epochs)};
}

}  // namespace

std::vector<Trained> train_learners(const data::ImageSet& samples,
                                    const data::Normalization& normalization,
                                    const std::vector<Learner>& learners,
                                    const nn::MlpExpertsOptions& net, const LocalOptions& options) {
  MOEKIT_CHECK(net.activation() == nn::Activation::kRelu && net.bias(),
               "train_learners: networks must be of relu units with biases");
  for (size_t k = 0; k < learners.size(); ++k) {
    MOEKIT_CHECK(!learners[k].rows.empty(), "train_learners: learner ", k, " has no samples");
  }
  std::vector<Trained> out(learners.size());
  const auto one = [&](size_t k) {
    out[k] = train_one(samples, normalization, learners[k], net, options);
  };
  const auto threads = std::min(learners.size(), static_cast<size_t>(options.threads));
  if (threads <= 1) {
    for (size_t k = 0; k < learners.size(); ++k) one(k);
    return out;
  }
  std::vector<std::exception_ptr> errors(learners.size());
  kernels::ThreadPool pool(static_cast<int>(threads));
  pool.run(static_cast<int64_t>(learners.size()), [&](int64_t learner, int) {
    const auto k = static_cast<size_t>(learner);
    try {
      at::set_num_threads(1);  // libtorch's own would be as many again for each of these
      one(k);
    } catch (...) {
      errors[k] = std::current_exception();
    }
  });
  for (const auto& error : errors) {
    if (error) std::rethrow_exception(error);
  }
  return out;
}

}  // namespace moekit::federated
