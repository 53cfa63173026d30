#include "moekit/checkpoint/module_io.h"

#include "moekit/core/error.h"

namespace moekit::checkpoint {
namespace {

std::string described(const TensorInfo& info) {
  return concat(torch::IntArrayRef(info.shape), " ", info.dtype);
}

/// What does not fit, a line each: the first few, and how many more there are.
class Problems {
 public:
  void add(const std::string& problem) {
    constexpr int64_t kShown = 20;
    if (++count_ <= kShown) text_ += "\n  " + problem;
    if (count_ > kShown) rest_ = concat("\n  and ", count_ - kShown, " more");
  }
  std::string text() const { return text_ + rest_; }

 private:
  int64_t count_ = 0;
  std::string text_;
  std::string rest_;
};

/// What keeps the tensors of `source` under `prefix` from being exactly `wanted`, a line each.
std::string misfits(const TensorSource& wanted, const TensorSource& source,
                    const std::string& prefix) {
  Problems problems;
  for (const auto& name : wanted.names()) {
    const TensorInfo& want = wanted.info(name);
    if (!source.contains(prefix + name)) {
      problems.add(concat("missing ", name, " ", torch::IntArrayRef(want.shape)));
      continue;
    }
    const TensorInfo& given = source.info(prefix + name);
    if (given.shape != want.shape || given.dtype != want.dtype) {
      problems.add(concat(name, " is ", described(given), ", wanted ", described(want)));
    }
  }
  for (const auto& name : source.names()) {
    if (name.rfind(prefix, 0) != 0 || wanted.contains(name.substr(prefix.size()))) continue;
    problems.add(concat("unexpected ", name.substr(prefix.size()), " ",
                        torch::IntArrayRef(source.info(name).shape)));
  }
  return problems.text();
}

}  // namespace

MemoryTensors module_tensors(const torch::nn::Module& module) {
  MemoryTensors tensors;
  for (const auto& item : module.named_parameters()) {
    tensors.add(item.key(), item.value().detach());
  }
  for (const auto& item : module.named_buffers()) {
    tensors.add(item.key(), item.value().detach());
  }
  return tensors;
}

void load_module_tensors(torch::nn::Module& module, const TensorSource& source) {
  load_submodule_tensors(module, source, "");
}

void load_submodule_tensors(torch::nn::Module& module, const TensorSource& source,
                            const std::string& prefix) {
  const torch::NoGradGuard no_grad;
  const auto wanted = module_tensors(module);
  const std::string problems = misfits(wanted, source, prefix);
  MOEKIT_CHECK_FORMAT(problems.empty(), source.where(),
                      prefix.empty() ? "" : concat(" (", prefix, "*)"),
                      ": the tensors do not fit the model:", problems);
  for (const auto& name : wanted.names()) wanted.read(name).copy_(source.read(prefix + name));
}

}  // namespace moekit::checkpoint
