#include "moekit/theory/soft_routed.h"

#include <gtest/gtest.h>

#include <cmath>

#include "moekit/core/error.h"
#include "moekit/tensor/generator.h"

namespace moekit::theory {
namespace {
using tensor::make_generator;

SoftRouted in_double(const SoftRouted& m) {
  return {m.w.to(torch::kFloat64), m.v.to(torch::kFloat64), m.gate};
}

TEST(SoftRouted, TeacherVectorsAreOrthonormal) {
  const auto teacher = make_teacher(3, 8, SoftGate::kSigmoid, make_generator(1));
  const auto all = torch::cat({teacher.w, teacher.v});
  EXPECT_TRUE(torch::allclose(all.matmul(all.t()), torch::eye(6), 0, 1e-6));
  EXPECT_THROW(make_teacher(5, 8, SoftGate::kSigmoid, make_generator(1)), ArgumentError);
}

TEST(SoftRouted, HermiteExpertsAreNormalised) {
  // E[h3(u.x) h3(v.x)] = (u.v)^3 for unit vectors: 1 for u = v, 1/8 for a product of 1/2. A gate
  // w = 0 is 1/2 everywhere.
  SoftRouted pair;
  pair.w = torch::zeros({2, 2});
  pair.v = torch::tensor({{1.0F, 0.0F}, {0.5F, std::sqrt(0.75F)}});
  const auto x = torch::empty({400000, 2}).normal_(0, 1, make_generator(2));
  const auto h = 2 * pair.parts(x);
  const auto products = h.t().matmul(h) / 400000.0;
  EXPECT_NEAR(products[0][0].item<double>(), 1, 0.05);
  EXPECT_NEAR(products[0][1].item<double>(), 0.125, 0.03);
}

TEST(SoftRouted, GradientsAgreeWithFiniteDifferencesForBothGates) {
  for (const auto gate : {SoftGate::kSigmoid, SoftGate::kSoftmax}) {
    const auto teacher = in_double(make_teacher(2, 6, gate, make_generator(3)));
    auto student = in_double(make_student(3, 6, gate, make_generator(4)));
    const auto x = torch::empty({500, 6}, torch::kFloat64).normal_(0, 1, make_generator(5));
    const auto target = teacher.forward(x);
    const auto gradient = soft_gradient(student, x, target);
    EXPECT_NEAR(gradient.loss, soft_loss(student, teacher, x), 1e-12);
    const std::pair<torch::Tensor, torch::Tensor> parts[] = {{student.w, gradient.w},
                                                             {student.v, gradient.v}};
    for (const auto& [rows, wanted] : parts) {
      for (int64_t k = 0; k < rows.numel(); ++k) {
        auto* value = rows.data_ptr<double>() + k;
        const double before = *value;
        *value = before + 1e-6;
        const double up = soft_loss(student, teacher, x);
        *value = before - 1e-6;
        const double down = soft_loss(student, teacher, x);
        *value = before;
        EXPECT_NEAR((up - down) / 2e-6, wanted.contiguous().data_ptr<double>()[k],
                    1e-3 * wanted.abs().max().item<double>());
      }
    }
  }
}

TEST(SoftRouted, StepsStayOnTheSphereAndGoDown) {
  const auto teacher = make_teacher(1, 8, SoftGate::kSigmoid, make_generator(1));
  auto student = make_overlapping_student(teacher, make_generator(2));
  EXPECT_NEAR(student.v[0].dot(teacher.v[0]).item<double>(), 1 / std::sqrt(8.0), 1e-6);
  EXPECT_NEAR(student.v[0].dot(teacher.w[0]).item<double>(), 0, 1e-6);
  const auto x = torch::empty({20000, 8}).normal_(0, 1, make_generator(3));
  const double before = soft_loss(student, teacher, x);
  for (int i = 0; i < 20; ++i) {
    const auto gradient = soft_gradient(student, x, teacher.forward(x));
    spherical_step(student.v, gradient.v, 0.05);
    spherical_step(student.w, gradient.w, 0.05);
  }
  EXPECT_NEAR(student.v[0].norm().item<double>(), 1, 1e-6);
  EXPECT_NEAR(student.w[0].norm().item<double>(), 1, 1e-6);
  EXPECT_LT(soft_loss(student, teacher, x), before);
}

TEST(SoftRouted, AnOverlapNeedsRoomBesideTheTeacher) {
  // Both vectors of each pair and one direction more.
  const auto of = [](int64_t pairs, int64_t dim) {
    return make_overlapping_student(make_teacher(pairs, dim, SoftGate::kSigmoid, make_generator(1)),
                                    make_generator(2));
  };
  EXPECT_EQ(of(3, 7).size(), 3);
  EXPECT_THROW(of(3, 6), ArgumentError);
}

TEST(SoftRouted, PruningTakesOutTheCancellingPairAlone) {
  const auto teacher = make_teacher(2, 8, SoftGate::kSigmoid, make_generator(1));
  const auto extra = make_student(1, 8, SoftGate::kSigmoid, make_generator(9));
  SoftRouted student;
  student.w = torch::cat({teacher.w.slice(0, 0, 1), extra.w, teacher.w.slice(0, 1, 2), extra.w});
  student.v = torch::cat({teacher.v.slice(0, 0, 1), extra.v, teacher.v.slice(0, 1, 2), -extra.v});
  const auto x = torch::empty({5000, 8}).normal_(0, 1, make_generator(3));
  EXPECT_EQ(prune_cancelling_pairs(student, x, 2), (std::vector<int64_t>{0, 2}));
  // An odd one has no partner and stays.
  EXPECT_EQ(prune_cancelling_pairs(student.select(torch::tensor({0, 1, 2})), x, 2).size(), 3U);
  const auto order = order_parameters(student, teacher);
  EXPECT_EQ(order.student, (std::vector<int64_t>{0, 2}));
  EXPECT_NEAR(order.rho_v[1], 1, 1e-6);
  EXPECT_TRUE(order.distinct());
}

TEST(SoftRouted, PruningTakesTheCoupleThatCancelsBestFirst) {
  const auto teacher = make_teacher(2, 8, SoftGate::kSigmoid, make_generator(1));
  const auto extra = make_student(2, 8, SoftGate::kSigmoid, make_generator(9));
  SoftRouted student;
  // Experts 1 and 3 cancel but for their routers, 2 and 4 wholly.
  student.w = torch::cat(
      {teacher.w.slice(0, 0, 1), extra.w, -extra.w.slice(0, 0, 1), extra.w.slice(0, 1, 2)});
  student.v = torch::cat({teacher.v.slice(0, 0, 1), extra.v, -extra.v});
  const auto x = torch::empty({5000, 8}).normal_(0, 1, make_generator(3));
  EXPECT_EQ(prune_cancelling_pairs(student, x, 3), (std::vector<int64_t>{0, 1, 3}));
}

}  // namespace
}  // namespace moekit::theory
