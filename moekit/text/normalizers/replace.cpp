#include "moekit/text/normalizers/replace.h"

#include "moekit/text/pattern.h"

namespace moekit::text {
namespace {

class ReplaceNormalizer : public Normalizer {
 public:
  ReplaceNormalizer(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  void apply(std::string& text) const override { text = replace_all(pattern_, text, content_); }

 private:
  Pattern pattern_;
  std::string content_;
};

}  // namespace

std::unique_ptr<Normalizer> make_replace_normalizer(const ReplaceOptions& options,
                                                    const NormalizerSite& site) {
  return std::make_unique<ReplaceNormalizer>(Pattern(options.pattern, site.place.key("pattern")),
                                             options.content);
}

}  // namespace moekit::text
