#include "moekit/tasks/continual/adapters.h"

#include <algorithm>

#include "moekit/core/random.h"
#include "moekit/core/schema.h"
#include "moekit/merge/rule.h"
#include "moekit/nn/expert_edit.h"
#include "moekit/nn/frozen_experts.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/routers/task_routers.h"
#include "moekit/nn/single_experts.h"
#include "moekit/nn/surgery.h"
#include "moekit/tensor/generator.h"

namespace moekit::continual {
namespace {

constexpr const char* kLayer = "moe";
constexpr int64_t kMostExperts = 65536;  // that the kernels take

nn::LayerSite layer_site(int64_t features, int64_t experts) {
  nn::LayerSite site;
  site.input = {features};
  site.num_experts = experts;
  site.output_size = features;
  return site;
}

/// Another task's router while this lives; afterwards the one of the task that is learnt, which is
/// what callbacks find.
class Asked {
 public:
  Asked(nn::TaskRoutersImpl& routers, int64_t task)
      : routers_(routers), before_(routers.active_task()) {
    routers_.set_active(task);
  }
  Asked(const Asked&) = delete;
  Asked& operator=(const Asked&) = delete;
  ~Asked() { routers_.set_active(before_); }

 private:
  nn::TaskRoutersImpl& routers_;
  int64_t before_;
};

class Adapters : public StreamModel {
 public:
  Adapters(const AdaptersConfig& config, const StreamSite& site)
      : config_(config),
        seed_(site.seed),
        num_tasks_(site.num_tasks),
        base_(register_module("base", BaseNetwork(config.base, site))) {
    std::vector<std::shared_ptr<nn::RouterImpl>> routers;
    const int64_t count = config.shared_router ? 1 : site.num_tasks;
    for (int64_t t = 0; t < count; ++t) {
      routers.push_back(config.router->make(layer_site(base_->feature_size(), pool_of(t))));
      routers.back()->reset_parameters(
          tensor::make_generator(derive_seed(site.seed, "router-init", static_cast<uint64_t>(t))));
    }
    routers_ = std::make_shared<nn::TaskRoutersImpl>(std::move(routers));
    moe_ = register_module(
        kLayer, nn::MoE(routers_, draw_experts(pool_of(0), derive_seed(seed_, "experts-init"))));
  }
  torch::Tensor inputs(const torch::Tensor& images) override {
    const torch::NoGradGuard no_grad;
    return base_->features(images);
  }
  Output forward(const torch::Tensor& inputs, int64_t task,
                 const nn::RouterContext& context) override {
    const Asked asked(*routers_, router_of(task));
    const auto added = moe_->forward_with_routing(inputs, context);
    return {base_->logits(inputs + config_.scale * added.values, task),
            {{kLayer, added.routing, added.tokens, added.plan.num_dropped()}}};
  }
  torch::Tensor logits_by(const torch::Tensor& inputs, int64_t task, int64_t by) override {
    if (by < 0) return base_->logits(inputs, task);
    const Asked asked(*routers_, router_of(by));
    return base_->logits(inputs + config_.scale * moe_->forward_with_routing(inputs, {}).values,
                         task);
  }
  int64_t selectable_features() const override {
    return routers_->num_tasks() > 1 ? base_->feature_size() : 0;
  }
  bool grows() const override { return config_.grow > 0; }
  void enter_task(int64_t task) override {
    grow_to(task);
    nn::freeze(*base_);
    routers_->set_active(router_of(task));
    for (int64_t t = 0; t < routers_->num_tasks(); ++t) {
      auto& router = *routers_->routers[static_cast<size_t>(t)];
      if (t == router_of(task)) {
        nn::unfreeze(router);
      } else {
        nn::freeze(router);
      }
    }
    nn::freeze_experts(moe_->routed_parts(), frozen_);
  }
  void end_task(int64_t /*task*/, const std::vector<LayerCounts>& counts) override {
    for (const auto& layer : counts) {
      auto most_used = merge::order_by_use(layer.hard);
      most_used.resize(
          static_cast<size_t>(config_.freeze_used));  // at most E, see check_adapters()
      for (const int64_t expert : most_used) {
        if (layer.hard[static_cast<size_t>(expert)] > 0) frozen_.push_back(expert);
      }
    }
    std::sort(frozen_.begin(), frozen_.end());
    frozen_.erase(std::unique(frozen_.begin(), frozen_.end()), frozen_.end());
  }
  Json state() const override { return {{"frozen", frozen_}}; }
  void load_state(const Json& state, const std::string& where) override {
    static const Schema kSchema = Schema::object({{"frozen", Schema::list(Schema::count())}});
    kSchema.check(state, where);
    frozen_ = state["frozen"].get<std::vector<int64_t>>();
    for (const int64_t expert : frozen_) {
      MOEKIT_CHECK_FORMAT(expert < pool_of(num_tasks_ - 1), where, ".frozen: expert ", expert,
                          "; there are ", pool_of(num_tasks_ - 1));
    }
  }

 private:
  int64_t router_of(int64_t task) const { return std::min(task, routers_->num_tasks() - 1); }
  /// Experts there are in a task.
  int64_t pool_of(int64_t task) const { return config_.num_experts + task * config_.grow; }
  std::shared_ptr<nn::ExpertsImpl> draw_experts(int64_t count, uint64_t seed) const {
    auto experts = config_.expert->make(layer_site(base_->feature_size(), count));
    experts->reset_parameters(tensor::make_generator(seed));
    return experts;
  }
  /// New experts, drawn for their task, come behind those there are.
  void grow_to(int64_t task) {
    const torch::NoGradGuard no_grad;
    auto& bank = *moe_->experts;
    for (int64_t t = 1; t <= task; ++t) {
      const int64_t there = bank.num_experts();
      const int64_t more = pool_of(t) - there;
      if (more <= 0) continue;
      const auto index =
          torch::cat({torch::arange(there, torch::kLong), torch::zeros({more}, torch::kLong)});
      nn::ExpertEdit edit(index);
      bank.take_experts(edit);
      edit.commit();
      moe_->note_edit(index);
      const auto drawn =
          draw_experts(more, derive_seed(seed_, "experts-init", static_cast<uint64_t>(t)));
      for (int64_t e = 0; e < more; ++e) {
        auto own = nn::expert_tensors(bank, there + e);
        const auto fresh = nn::expert_tensors(*drawn, e);
        for (size_t i = 0; i < own.size(); ++i) own[i].second.copy_(fresh[i].second);
      }
      routers_->set_pool(pool_of(t));
    }
  }

  AdaptersConfig config_;
  uint64_t seed_;
  int64_t num_tasks_;
  BaseNetwork base_;
  std::shared_ptr<nn::TaskRoutersImpl> routers_;
  nn::MoE moe_{nullptr};
  std::vector<int64_t> frozen_;  ///< in order
};

}  // namespace

void check_adapters(const AdaptersConfig& config, const StreamSite& site,
                    const std::string& where) {
  check_base(config.base, site, where + ".base");
  MOEKIT_CHECK(config.freeze_used <= config.num_experts, where, ".freeze_used: there are ",
               config.num_experts, " experts; got ", config.freeze_used);
  MOEKIT_CHECK(config.grow == 0 || !config.shared_router, where,
               ".grow: one router for all tasks knows no new experts; set shared_router = false");
  MOEKIT_CHECK(config.grow == 0 || site.num_tasks != 1, where,
               ".grow has no effect on a stream of one task; got ", config.grow);
  const int64_t later = std::max<int64_t>(site.num_tasks - 1, 0);
  MOEKIT_CHECK(config.grow == 0 || later == 0 ||
                   (config.num_experts <= kMostExperts &&
                    config.grow <= (kMostExperts - config.num_experts) / later),
               where, ".num_experts and .grow: at most ", kMostExperts, " experts in the end; got ",
               config.num_experts, " and ", config.grow, " more with each of ", later, " tasks");
  const auto layer = layer_site(config.base.net.hidden.back(), config.num_experts);
  // Pools of all tasks, before the first one is learned.
  for (int64_t t = 0; t <= (config.grow > 0 ? later : 0); ++t) {
    auto pool = layer;
    pool.num_experts = config.num_experts + t * config.grow;
    config.router->check(pool, where + ".router");
    config.expert->check(pool, where + ".expert");
    about(where + ".router", [&] { config.router->make(pool); });
  }
  const auto experts = config.expert->make(layer);
  const auto single = nn::why_not_single(*experts);
  MOEKIT_CHECK(config.grow == 0 || single.empty(), where, ".grow: ", single);
  const auto frozen = nn::why_not_frozen(*experts);
  MOEKIT_CHECK(config.freeze_used == 0 || frozen.empty(), where, ".freeze_used: ", frozen);
  const auto router = config.router->make(layer);
  MOEKIT_CHECK(!router->needs_expert_features(), where, ".router.kind: ", config.router->name(),
               " reads the experts' features; adapters want a router of its own input");
  const auto traits = router->traits();
  MOEKIT_CHECK(traits.learns, where, ".router.kind: ", config.router->name(),
               " learns nothing, and no task has labels of experts");
  nn::check_trainable(traits, traits.no_weight_gradient, where + ".router: ");
}

std::shared_ptr<StreamModel> make_adapters(const AdaptersConfig& config, const StreamSite& site) {
  return std::make_shared<Adapters>(config, site);
}

}  // namespace moekit::continual
