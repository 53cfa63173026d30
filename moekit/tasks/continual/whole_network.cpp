#include "moekit/tasks/continual/whole_network.h"

namespace moekit::continual {
namespace {

class WholeNetwork : public StreamModel {
 public:
  WholeNetwork(const WholeNetworkConfig& config, const StreamSite& site)
      : base_(register_module("base", BaseNetwork(config.base, site))) {}
  Output forward(const torch::Tensor& inputs, int64_t task,
                 const nn::RouterContext& /*context*/) override {
    return {base_->logits(base_->features(inputs), task), {}};
  }
  torch::Tensor logits_by(const torch::Tensor& inputs, int64_t task, int64_t /*by*/) override {
    return base_->logits(base_->features(inputs), task);
  }
  void enter_task(int64_t /*task*/) override {}

 private:
  BaseNetwork base_;
};

}  // namespace

void check_whole_network(const WholeNetworkConfig& config, const StreamSite& site,
                         const std::string& where) {
  check_base(config.base, site, where + ".base");
}

std::shared_ptr<StreamModel> make_whole_network(const WholeNetworkConfig& config,
                                                const StreamSite& site) {
  return std::make_shared<WholeNetwork>(config, site);
}

}  // namespace moekit::continual
