#include "moekit/text/normalizers/sequence.h"

#include "moekit/text/part.h"

namespace moekit::text {
namespace {

class NormalizerSequence : public Normalizer {
 public:
  explicit NormalizerSequence(std::vector<std::unique_ptr<Normalizer>> parts)
      : parts_(std::move(parts)) {}
  void apply(std::string& text) const override {
    for (const auto& part : parts_) part->apply(text);
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> parts_;
};

}  // namespace

std::unique_ptr<Normalizer> make_normalizer_sequence(const NormalizerSequenceOptions& options,
                                                     const NormalizerSite& site) {
  return std::make_unique<NormalizerSequence>(make_parts<NormalizerKinds>(
      options.normalizers, NormalizerSite{site.place.key("normalizers")}));
}

}  // namespace moekit::text
