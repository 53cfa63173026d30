#include "moekit/tasks/soft_routed/pairs.h"

namespace moekit::soft_routed {

Pairs::Pairs(const theory::SoftRouted& rows, bool learns) : gate_(rows.gate) {
  const auto keep = [&](const char* name, const torch::Tensor& tensor) {
    return learns ? register_parameter(name, tensor, /*requires_grad=*/false)
                  : register_buffer(name, tensor);
  };
  w_ = keep("w", rows.w);
  v_ = keep("v", rows.v);
}

void Pairs::set_rows(const theory::SoftRouted& rows) {
  w_.set_data(rows.w);
  v_.set_data(rows.v);
}

StudentAndTeacher::StudentAndTeacher(const theory::SoftRouted& student_rows,
                                     const theory::SoftRouted& teacher_rows)
    : student(register_module("student", std::make_shared<Pairs>(student_rows, true))),
      teacher(register_module("teacher", std::make_shared<Pairs>(teacher_rows, false))) {}

}  // namespace moekit::soft_routed
