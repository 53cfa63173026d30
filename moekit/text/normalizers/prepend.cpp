#include "moekit/text/normalizers/prepend.h"

namespace moekit::text {
namespace {

class Prepend : public Normalizer {
 public:
  explicit Prepend(std::string prepend) : prepend_(std::move(prepend)) {}
  void apply(std::string& text) const override {
    if (!text.empty()) text.insert(0, prepend_);
  }

 private:
  std::string prepend_;
};

}  // namespace

std::unique_ptr<Normalizer> make_prepend(const PrependOptions& options, const NormalizerSite&) {
  return std::make_unique<Prepend>(options.prepend);
}

}  // namespace moekit::text
