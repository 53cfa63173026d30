#include "moekit/tasks/continual/adapters.h"

#include <algorithm>

#include "moekit/core/random.h"
#include "moekit/core/schema.h"
#include "moekit/merge/rule.h"
#include "moekit/nn/frozen_experts.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/routers/task_routers.h"
#include "moekit/nn/surgery.h"
#include "moekit/tensor/generator.h"

namespace moekit::continual {
namespace {

constexpr const char* kLayer = "moe";

nn::LayerSite layer_site(const AdaptersConfig& config, int64_t features) {
  nn::LayerSite site;
  site.input = {features};
  site.num_experts = config.num_experts;
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
      : base_(register_module("base", BaseNetwork(config.base, site))),
        scale_(config.scale),
        freeze_used_(config.freeze_used) {
    const auto layer = layer_site(config, base_->feature_size());
    std::vector<std::shared_ptr<nn::RouterImpl>> routers;
    const int64_t count = config.shared_router ? 1 : site.num_tasks;
    for (int64_t t = 0; t < count; ++t) {
      routers.push_back(config.router->make(layer));
      routers.back()->reset_parameters(
          tensor::make_generator(derive_seed(site.seed, "router-init", static_cast<uint64_t>(t))));
    }
    routers_ = std::make_shared<nn::TaskRoutersImpl>(std::move(routers));
    const auto experts = config.expert->make(layer);
    experts->reset_parameters(tensor::make_generator(derive_seed(site.seed, "experts-init")));
    moe_ = register_module(kLayer, nn::MoE(routers_, experts));
  }
  torch::Tensor inputs(const torch::Tensor& images) override {
    const torch::NoGradGuard no_grad;
    return base_->features(images);
  }
  Output forward(const torch::Tensor& inputs, int64_t task,
                 const nn::RouterContext& context) override {
    const Asked asked(*routers_, router_of(task));
    const auto added = moe_->forward_with_routing(inputs, context);
    return {base_->logits(inputs + scale_ * added.values, task),
            {{kLayer, added.routing, added.tokens, added.plan.num_dropped()}}};
  }
  torch::Tensor logits_by(const torch::Tensor& inputs, int64_t task, int64_t by) override {
    if (by < 0) return base_->logits(inputs, task);
    const Asked asked(*routers_, router_of(by));
    return base_->logits(inputs + scale_ * moe_->forward_with_routing(inputs, {}).values, task);
  }
  int64_t selectable_features() const override {
    return routers_->num_tasks() > 1 ? base_->feature_size() : 0;
  }
  void enter_task(int64_t task) override {
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
      most_used.resize(static_cast<size_t>(freeze_used_));  // at most E, see check_adapters()
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
      MOEKIT_CHECK_FORMAT(expert < moe_->experts->num_experts(), where, ".frozen: expert ", expert,
                          "; there are ", moe_->experts->num_experts());
    }
  }

 private:
  int64_t router_of(int64_t task) const { return std::min(task, routers_->num_tasks() - 1); }

  BaseNetwork base_;
  std::shared_ptr<nn::TaskRoutersImpl> routers_;
  nn::MoE moe_{nullptr};
  double scale_;
  int64_t freeze_used_;
  std::vector<int64_t> frozen_;  ///< in order
};

}  // namespace

void check_adapters(const AdaptersConfig& config, const StreamSite& site,
                    const std::string& where) {
  check_base(config.base, site, where + ".base");
  MOEKIT_CHECK(config.freeze_used <= config.num_experts, where, ".freeze_used: there are ",
               config.num_experts, " experts; got ", config.freeze_used);
  const int64_t features = config.base.net.hidden.back();
  const auto layer = layer_site(config, features);
  config.router->check(layer, where + ".router");
  config.expert->check(layer, where + ".expert");
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
