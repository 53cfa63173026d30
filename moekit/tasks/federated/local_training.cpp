#include "moekit/tasks/federated/local_training.h"

#include <ATen/Parallel.h>
#include <torch/optim/sgd.h>
#include <torch/torch.h>

#include <algorithm>
#include <exception>
#include <numeric>

#include "moekit/core/random.h"
#include "moekit/kernels/common/thread_pool.h"
#include "moekit/nn/fused_ffn.h"

namespace moekit::federated {
namespace {

/// Rows that are gathered and normalised at once, those of many small steps.
constexpr int64_t kGathered = 1024;

/// The rows of one step among those gathered, learner after learner.
struct Batch {
  int64_t first = 0;
  std::vector<int64_t> offsets;  ///< [learners + 1]

  int64_t learners() const { return static_cast<int64_t>(offsets.size()) - 1; }
};

/// The order a learner takes its rows in, epoch after epoch.
std::vector<int64_t> order_of(const Learner& learner, int64_t epochs) {
  std::vector<int64_t> order;
  const auto count = static_cast<int64_t>(learner.rows.size());
  for (int64_t epoch = 0; epoch < epochs; ++epoch) {
    const auto drawn =
        random_permutation(count, derive_seed(learner.seed, "order", static_cast<uint64_t>(epoch)));
    for (const int64_t i : drawn) order.push_back(learner.rows[static_cast<size_t>(i)]);
  }
  return order;
}

/// The first experts of a bank as parameters of their own, which share its memory.
class FirstExperts {
 public:
  FirstExperts(const nn::MlpExpertsImpl& bank, int64_t count, double lr)
      : optimizer_(leaves_of(bank, count), torch::optim::SGDOptions(lr)) {
    const auto& own = optimizer_.param_groups()[0].params();
    parameters_ = {{}, own[0], own[1], {}, own[2], own[3]};
  }
  int64_t count() const { return parameters_.up.size(0); }
  const nn::FfnParameters& parameters() const { return parameters_; }
  void step() {
    optimizer_.step();
    // Dropped, not zeroed: the next backward pass hands over its own memory.
    for (auto& own : optimizer_.param_groups()[0].params()) own.mutable_grad().reset();
  }

 private:
  static std::vector<torch::Tensor> leaves_of(const nn::MlpExpertsImpl& bank, int64_t count) {
    std::vector<torch::Tensor> leaves;
    for (const auto* tensor : {&bank.up_proj, &bank.down_proj, &bank.up_bias, &bank.down_bias}) {
      leaves.push_back(tensor->detach().narrow(0, 0, count).requires_grad_());
    }
    return leaves;
  }
  torch::optim::SGD optimizer_;
  nn::FfnParameters parameters_;
};

/// Trains the learners of one thread. @param place  which they are, those with most steps first:
/// who still trains are the first experts of the bank @param out  of all learners; those of others
/// are not touched
void train_group(const data::ImageSet& samples, const data::Normalization& normalization,
                 const std::vector<Learner>& learners, const std::vector<size_t>& place,
                 const nn::MlpExpertsOptions& net, const LocalOptions& options,
                 std::vector<Trained>& out) {
  nn::MlpExperts bank(nn::MlpExpertsOptions(net).num_experts(static_cast<int64_t>(place.size())));
  std::vector<std::vector<int64_t>> orders;
  std::vector<double> loss_sums(place.size(), 0);
  for (size_t e = 0; e < place.size(); ++e) {
    const Learner& learner = learners[place[e]];
    orders.push_back(order_of(learner, options.epochs));
    const auto own = nn::expert_tensors(*bank, static_cast<int64_t>(e));
    for (size_t t = 0; t < own.size(); ++t) own[t].second.copy_(learner.start[t].second);
  }

  const auto size_of = [&](size_t e) {
    return static_cast<int64_t>(learners[place[e]].rows.size());
  };
  // Batches end with an epoch.
  const auto steps_of = [&](size_t e) {
    return (size_of(e) + options.batch_size - 1) / options.batch_size;
  };
  const torch::AutoGradMode with_gradient(true);
  std::unique_ptr<FirstExperts> experts;
  const int64_t most = steps_of(0) * options.epochs;
  size_t active = place.size();
  for (int64_t step = 0; step < most;) {
    std::vector<Batch> batches;
    std::vector<int64_t> rows;
    std::vector<float> share;  // of a row in its learner's mean
    for (; step < most && static_cast<int64_t>(rows.size()) < kGathered; ++step) {
      while (steps_of(active - 1) * options.epochs <= step) --active;
      Batch batch{static_cast<int64_t>(rows.size()), {0}};
      for (size_t e = 0; e < active; ++e) {
        const int64_t count = size_of(e);
        const int64_t begin = step % steps_of(e) * options.batch_size;
        const int64_t end = std::min(begin + options.batch_size, count);
        const auto epoch = orders[e].begin() + step / steps_of(e) * count;
        rows.insert(rows.end(), epoch + begin, epoch + end);
        share.insert(share.end(), static_cast<size_t>(end - begin),
                     1.0F / static_cast<float>(end - begin));
        batch.offsets.push_back(batch.offsets.back() + end - begin);
      }
      batches.push_back(std::move(batch));
    }
    const auto index = torch::tensor(rows, torch::kLong);
    const auto pixels =
        data::normalize(samples.images.index_select(0, index), normalization).flatten(1);
    const auto labels = samples.labels.index_select(0, index);
    const auto shares = torch::tensor(share);
    for (const Batch& batch : batches) {
      if (!experts || experts->count() != batch.learners()) {
        experts = std::make_unique<FirstExperts>(*bank, batch.learners(), options.lr);
      }
      const auto part = [&](const torch::Tensor& of) {
        return of.narrow(0, batch.first, batch.offsets.back());
      };
      const auto logits =
          nn::composed_ffn(part(pixels), experts->parameters(), net.activation(), batch.offsets);
      const auto losses =
          torch::nll_loss(torch::log_softmax(logits, 1), part(labels), {}, at::Reduction::None);
      losses.backward(part(shares));
      experts->step();
      const auto* values = losses.data_ptr<float>();
      for (size_t e = 0; e + 1 < batch.offsets.size(); ++e) {
        for (int64_t r = batch.offsets[e]; r < batch.offsets[e + 1]; ++r) loss_sums[e] += values[r];
      }
    }
  }
  for (size_t e = 0; e < place.size(); ++e) {
    Trained& trained = out[place[e]];
    trained.weights = nn::expert_tensors(*bank, static_cast<int64_t>(e));
    trained.loss = loss_sums[e] / static_cast<double>(orders[e].size());
  }
}

}  // namespace

std::vector<Trained> train_side_by_side(const data::ImageSet& samples,
                                        const data::Normalization& normalization,
                                        const std::vector<Learner>& learners,
                                        const nn::MlpExpertsOptions& net,
                                        const LocalOptions& options) {
  for (size_t k = 0; k < learners.size(); ++k) {
    MOEKIT_CHECK(!learners[k].rows.empty(), "train_side_by_side: learner ", k, " has no samples");
  }
  std::vector<Trained> out(learners.size());
  std::vector<size_t> place(learners.size());
  std::iota(place.begin(), place.end(), size_t{0});
  std::stable_sort(place.begin(), place.end(), [&](size_t a, size_t b) {
    return learners[a].rows.size() > learners[b].rows.size();
  });
  // Dealt out in turn, so that threads have equally much to do.
  std::vector<std::vector<size_t>> groups(
      std::min(place.size(), static_cast<size_t>(options.threads)));
  for (size_t i = 0; i < place.size(); ++i) groups[i % groups.size()].push_back(place[i]);
  const auto train = [&](size_t g) {
    train_group(samples, normalization, learners, groups[g], net, options, out);
  };
  if (groups.size() <= 1) {
    if (!groups.empty()) train(0);
    return out;
  }
  std::vector<std::exception_ptr> errors(groups.size());
  kernels::ThreadPool pool(static_cast<int>(groups.size()));
  pool.run(static_cast<int64_t>(groups.size()), [&](int64_t group, int) {
    const auto g = static_cast<size_t>(group);
    try {
      at::set_num_threads(1);  // libtorch's own would be as many again for each of these
      train(g);
    } catch (...) {
      errors[g] = std::current_exception();
    }
  });
  for (const auto& error : errors) {
    if (error) std::rethrow_exception(error);
  }
  return out;
}

}  // namespace moekit::federated
