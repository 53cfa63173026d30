#pragma once

#include <torch/types.h>

#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/nn/router.h"

namespace moekit::nn {

/// Of which matrices a cut network is made larger so that its slices add up to it again.
enum class UpcycleScale {
  kDownProj,  ///< the last one: exact for every activation
  kAll,       ///< each by an equal factor, as released: exact for relu, plain or gated
};

struct UpcycleOptions {
  /// G: the dense network is cut into G slices of its units, each an expert's; 1: it is copied
  /// whole.
  TORCH_ARG(int64_t, granularity) = 1;
  TORCH_ARG(UpcycleScale, scale) = UpcycleScale::kDownProj;
  TORCH_ARG(double, router_std) = 0.02;  ///< deviation of the router's rows
  /// Share of the experts' entries that are drawn anew from N(0, noise_std), so that copies differ.
  TORCH_ARG(double, noise_share) = 0.0;
  TORCH_ARG(double, noise_std) = 0.02;

 public:
  template <typename Field>
  void visit(Field&& field) {
    field("granularity", granularity_,
          "slices that the dense network's units are cut into, an expert each; 1: whole copies",
          at_least(1));
    field("scale", scale_, "matrices made larger so that slices add up to the network again");
    field("router_std", router_std_, "deviation of the router's first rows", at_least(0));
    field("noise_share", noise_share_, "of the experts' entries, drawn anew", at_least(0, 1));
    field("noise_std", noise_std_, "deviation of those entries", above(0));
  }
};

/// Makes the experts of a mixture copies of a dense network's (G = 1), or of its slices: expert e
/// has slice e mod G. The router's rows are drawn, one for the G slices of each copy, which so are
/// chosen together; other rows of it (an offset, a noise's) become 0. Slices are made larger by
/// G / w, w the sum of a token's weights where the router scores all experts the same, so that a
/// mixture whose copies all weigh the same computes what the network computed; where weights always
/// sum to w, the mixture computes it whatever they are.
/// @param dense  one expert
/// @param experts  of feed-forward networks, whatever kind, see ExpertsImpl::set_networks()
/// @throws ArgumentError naming both values when sizes, activations or biases do not fit, G does
/// not
///         divide E and K, the router has no rows of experts, or an option has no effect. Nothing
///         is changed then.
/// Sources: Komatsuzaki et al. 2022, arXiv:2212.05055, section 3; slices: He et al. 2024,
/// arXiv:2410.07524, section 3.2; noise: Muennighoff et al. 2024, arXiv:2409.02060, section 4.1.5.
void upcycle(const MlpExpertsImpl& dense, ExpertsImpl& experts, RouterImpl& router,
             const UpcycleOptions& options, const at::Generator& generator);

}  // namespace moekit::nn

template <>
struct moekit::EnumNames<moekit::nn::UpcycleScale> {
  static constexpr std::array<std::pair<nn::UpcycleScale, std::string_view>, 2> kTable{{
      {nn::UpcycleScale::kDownProj, "down_proj"},
      {nn::UpcycleScale::kAll, "all"},
  }};
};
