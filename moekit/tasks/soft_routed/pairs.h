#pragma once

#include <torch/nn/module.h>

#include <memory>

#include "moekit/theory/soft_routed.h"

namespace moekit::soft_routed {

/// Rows w and v of a soft-routed mixture as tensors of a module.
class Pairs : public torch::nn::Module {
 public:
  /// @param learns  whether they are parameters (without autograd: gradients are in closed form) or
  /// buffers
  Pairs(const theory::SoftRouted& rows, bool learns);
  theory::SoftRouted rows() const { return {w_, v_, gate_}; }
  /// Other rows, of any number.
  void set_rows(const theory::SoftRouted& rows);

 private:
  torch::Tensor w_, v_;  ///< [m, d]
  theory::SoftGate gate_;
};

/// The student's pairs as parameters, the teacher's as buffers.
class StudentAndTeacher : public torch::nn::Module {
 public:
  StudentAndTeacher(const theory::SoftRouted& student_rows, const theory::SoftRouted& teacher_rows);

  std::shared_ptr<Pairs> student;
  std::shared_ptr<Pairs> teacher;
};

}  // namespace moekit::soft_routed
