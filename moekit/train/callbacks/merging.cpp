#include "moekit/train/callbacks/merging.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "moekit/core/error.h"
#include "moekit/core/random.h"
#include "moekit/core/schema.h"
#include "moekit/nn/single_experts.h"
#include "moekit/tensor/generator.h"
#include "moekit/train/trainer.h"

namespace moekit::train {
namespace {

using merge::Replacement;

/// Who was written over whom.
struct MergeEvent {
  int64_t step = 0;  ///< finished steps
  std::string layer;
  int64_t first = 0, second = 0, victim = 0;
  double first_count = 0, second_count = 0, victim_count = 0;
  double all_count = 0;   ///< of all experts
  double used_after = 0;  ///< the victim's share of the assignments until the layer's next merge

  template <typename Field>
  void visit(Field&& field) {
    field("step", step, "");
    field("layer", layer, "");
    field("first", first, "");
    field("second", second, "");
    field("victim", victim, "");
    field("first_count", first_count, "");
    field("second_count", second_count, "");
    field("victim_count", victim_count, "");
    field("all_count", all_count, "");
    field("used_after", used_after, "");
  }
};

struct MergingState {
  Json usage = Json::object();
  std::vector<MergeEvent> merges;

  template <typename Field>
  void visit(Field&& field) {
    field("usage", usage, "");
    field("merges", merges, "");
  }
};

double sum_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

class Merging : public Callback {
 public:
  Merging(const MergingOptions& options, const CallbackSite& site)
      : options_(options), layers_(site.layers), seed_(site.seed), usage_(options.decay) {}
  std::string_view name() const override { return "merging"; }
  void after_optimizer(Trainer& trainer, const StepReport& report) override {
    const Stage stage = trainer.problem().stage(trainer.state.step);
    if (trainer.state.step == stage.first) usage_.start_task();
    usage_.add(report.layers);
    const int64_t step = trainer.state.step + 1;  // the state counts it later
    const int64_t done = step - stage.first;
    const bool due = done >= options_.warm_up && done % options_.period == 0;
    if (!due || done + options_.period > stage.steps) return;
    for (const auto& layer : layers_) merge_in(layer, step, trainer.optimizer());
  }
  void on_finish(Trainer& /*trainer*/, Json& summary) override {
    for (const auto& layer : layers_) note_use(layer.name);
    summary["merges"] = to_json(state_)["merges"];
  }
  Json state() const override {
    Json json = to_json(state_);
    json["usage"] = usage_.state();
    return json;
  }
  void load_state(const Json& state, const std::string& where) override {
    const std::string own = concat(where, ": callbacks.", name());
    bind_state(state, own, state_);
    usage_.load_state(state_.usage, own + ".usage");
  }

 private:
  void merge_in(const nn::RoutedLayer& layer, int64_t step, torch::optim::Optimizer* optimizer) {
    const auto& counts = usage_.counts(layer.name, options_.window, options_.count);
    const auto roles =
        merge::choose_roles(counts, layer.experts->frozen_experts(), options_.thresholds);
    if (!roles) return;
    note_use(layer.name);
    const auto count = [&](int64_t expert) { return counts[static_cast<size_t>(expert)]; };
    const MergeEvent event{
        step,          layer.name,          roles->first,         roles->second,
        roles->victim, count(roles->first), count(roles->second), count(roles->victim),
        sum_of(counts)};
    const auto weights = options_.weights == ParentWeights::kUsage
                             ? std::vector<double>{event.first_count, event.second_count}
                             : std::vector<double>{1, 1};
    const auto draw = derive_seed(seed_, "merging/" + layer.name, static_cast<uint64_t>(step));
    merge::replace_victim(layer, *roles, options_.replacement, weights, options_.how, optimizer,
                          tensor::make_generator(draw));
    usage_.start_after_merge(layer.name);
    state_.merges.push_back(event);
  }

  /// How much what the layer's last merge wrote was used since.
  void note_use(const std::string& layer) {
    const auto last = std::find_if(state_.merges.rbegin(), state_.merges.rend(),
                                   [&](const MergeEvent& event) { return event.layer == layer; });
    if (last == state_.merges.rend()) return;
    const auto& counts =
        usage_.counts(layer, merge::UsageWindow::kSinceMerge, merge::UsageCount::kHard);
    const double all = sum_of(counts);
    last->used_after = all > 0 ? counts.at(static_cast<size_t>(last->victim)) / all : 0;
  }

  MergingOptions options_;
  std::vector<nn::RoutedLayer> layers_;
  uint64_t seed_;
  merge::UsageCounter usage_;
  MergingState state_;
};

/// Refuses a key that is not at its default though nothing reads it.
void check_effects(const MergingOptions& o, const std::string& where) {
  const MergingOptions usual;
  const bool merges = o.replacement == Replacement::kMerge;
  const bool has_parents = merges || o.replacement == Replacement::kCopyTop1;
  const auto refuse = [&](bool set, bool read, const char* key, const char* wanted) {
    MOEKIT_CHECK(!set || read, where, ".", key, " has no effect without ", where, ".", wanted);
  };
  const bool on = o.replacement != Replacement::kNone;
  refuse(o.period != usual.period, on, "merge_period", "merge");
  refuse(o.warm_up != usual.warm_up, on, "merge_warm_up", "merge");
  refuse(o.window != usual.window, on, "merge_window", "merge");
  refuse(o.count != usual.count, on, "merge_count", "merge");
  refuse(o.thresholds.min_count != 0, on, "merge_min_count", "merge");
  refuse(o.thresholds.min_gap != 0, on, "merge_min_gap", "merge");
  refuse(o.decay != usual.decay, on && o.window == merge::UsageWindow::kExponential, "merge_decay",
         "merge_window = \"exponential\"");
  refuse(o.weights != usual.weights, merges, "merge_weights", "merge = \"merge\"");
  refuse(o.how.join.align, merges, "merge_align", "merge = \"merge\"");
  refuse(o.how.join.products, merges, "merge_products", "merge = \"merge\"");
  refuse(o.how.blend != 1, has_parents, "merge_blend", "merge = \"merge\" or \"copy_top1\"");
  refuse(o.how.router_rows != merge::RouterRows::kKeep, has_parents, "merge_router",
         "merge = \"merge\" or \"copy_top1\"");
}

}  // namespace

void check_merging(const MergingOptions& options, const CallbackSite& site,
                   const std::string& where) {
  check_effects(options, where);
  if (options.replacement == Replacement::kNone) return;
  MOEKIT_CHECK(options.decay > 0 && options.decay < 1, where,
               ".merge_decay must be above 0 and below 1; got ", options.decay);
  MOEKIT_CHECK(!site.layers.empty(), where, ".merge: the model has no routed layer");
  const int64_t first =
      std::max<int64_t>((options.warm_up + options.period - 1) / options.period, 1) *
      options.period;
  MOEKIT_CHECK(site.stage_steps == 0 || first + options.period <= site.stage_steps, where,
               ".merge_period, .merge_warm_up: nothing would be written: the first time would be "
               "step ",
               first, ", and the last period of ", site.stage_steps,
               " steps is left in peace; got ", options.period, " and ", options.warm_up);
  MOEKIT_CHECK(options.how.blend > 0, where, ".merge_blend must be above 0; got ",
               options.how.blend);
  for (const auto& layer : site.layers) {
    const int64_t experts = layer.experts->num_experts();
    const int64_t top_k = layer.router == nullptr ? 1 : layer.router->traits().top_k;
    MOEKIT_CHECK(layer.router != nullptr && experts >= 3, where, ".merge wants 3 experts or more; ",
                 "layer \"", layer.name, "\" has ", experts);
    MOEKIT_CHECK(top_k > 0 && top_k < experts, where, ".merge wants a router that gives each ",
                 "token the same number of experts, 1..", experts - 1, "; that of layer \"",
                 layer.name, "\" does not");
    const std::string why_not_single = nn::why_not_single(*layer.experts);
    MOEKIT_CHECK(why_not_single.empty(), where, ".merge: layer \"", layer.name,
                 "\": ", why_not_single);
    MOEKIT_CHECK(
        options.how.router_rows == merge::RouterRows::kKeep || !layer.router->expert_rows().empty(),
        where, ".merge_router: the router of layer \"", layer.name,
        "\" has no rows of its experts");
    const std::string why_not = merge::why_not_joined(layer, options.how.join);
    MOEKIT_CHECK(why_not.empty(), where,
                 options.how.join.products ? ".merge_products: " : ".merge_align: ", why_not);
  }
}

std::unique_ptr<Callback> make_merging(const MergingOptions& options, const CallbackSite& site) {
  if (options.replacement == Replacement::kNone) return nullptr;
  return std::make_unique<Merging>(options, site);
}

}  // namespace moekit::train
