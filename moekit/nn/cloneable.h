#pragma once

#include <torch/nn/cloneable.h>

#include <memory>
#include <type_traits>

namespace moekit::nn {

/// Stands for us as a friend of `torch::nn::Module`, see below.
struct CloneAccess {};

template <typename Function>
struct FirstArgument;
template <typename Result, typename Class, typename Argument>
struct FirstArgument<Result (Class::*)(Argument) const> {
  using type = Argument;
};
/// The optional device clone() takes; its type differs between releases of libtorch.
using CloneDevice = FirstArgument<decltype(&torch::nn::Module::clone)>::type;

}  // namespace moekit::nn

/// `torch::nn::Module` lets `torch::nn::Cloneable` alone empty and fill a copy's tables.
template <>
class torch::nn::Cloneable<moekit::nn::CloneAccess> {
 public:
  static void clear(Module& module) {
    module.parameters_.clear();
    module.buffers_.clear();
    module.children_.clear();
  }
  static void copy_tensors(const Module& from, Module& to, moekit::nn::CloneDevice device) {
    const auto fill = [&](const auto& source, auto& target) {
      TORCH_CHECK(source.size() == target.size(),
                  "clone: reset() registers another number of tensors than the module has");
      for (const auto& item : source) {
        const auto& tensor = item.value();
        target[item.key()].set_data(device && tensor.device() != *device
                                        ? tensor.to(*device)
                                        : torch::autograd::Variable(tensor).clone());
      }
    };
    fill(from.parameters_, to.parameters_);
    fill(from.buffers_, to.buffers_);
    TORCH_CHECK(from.children_.size() == to.children_.size(),
                "clone: reset() registers another number of children than the module has");
    for (const auto& child : from.children_) {
      to.children_[child.key()]->clone_(*child.value(), device);
    }
  }
};

namespace moekit::nn {

/// `torch::nn::Cloneable` for a class that implements one of our interfaces: `class MyRouterImpl :
/// public Cloneable<MyRouterImpl, RouterImpl>`. (libtorch 1.13 inherits `Module` virtually there,
/// 2.x does not; an interface that is itself a module fits only one of them.)
template <typename Derived, typename Interface>
class Cloneable : public Interface {
 public:
  /// Registers all parameters, buffers and children; called by the constructor and by clone().
  virtual void reset() = 0;

  /// A deep copy: no tensor or child is shared.
  std::shared_ptr<torch::nn::Module> clone(CloneDevice device = {}) const override {
    const torch::NoGradGuard no_grad;
    using Access = torch::nn::Cloneable<CloneAccess>;
    auto copy = std::make_shared<Derived>(static_cast<const Derived&>(*this));
    Access::clear(*copy);
    copy->reset();
    Access::copy_tensors(*this, *copy, device);
    return copy;
  }

 private:
  // The name is libtorch's. NOLINTNEXTLINE(readability-identifier-naming)
  void clone_(torch::nn::Module& other, CloneDevice device) final {
    const auto clone = std::dynamic_pointer_cast<Derived>(other.clone(device));
    TORCH_CHECK(clone != nullptr, "clone: a child has another type than the one it replaces");
    static_cast<Derived&>(*this) = std::move(*clone);
  }
};

}  // namespace moekit::nn
