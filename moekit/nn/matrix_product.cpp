#include "moekit/nn/matrix_product.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "moekit/core/error.h"

namespace moekit::nn {
namespace {

/// Smaller singular values are rounding: what they are divided into would be noise.
constexpr double kLeastSingular = 1e-12;

int64_t product_of(const std::vector<int64_t>& factors) {
  return std::accumulate(factors.begin(), factors.end(), int64_t{1}, std::multiplies<>());
}

/// The upper triangular side of a QR of what lies left of a bond. [r, b]
torch::Tensor triangle(const torch::Tensor& tall) {
  return std::get<1>(torch::linalg_qr(tall, "r"));
}

/// Left matrices L_k of the inner bonds, by a sweep from the left. [r, b_k]
std::vector<torch::Tensor> left_sides(const std::vector<torch::Tensor>& tensors) {
  std::vector<torch::Tensor> sides;
  torch::Tensor last = torch::ones({1, 1}, torch::kFloat64);
  for (size_t k = 0; k + 1 < tensors.size(); ++k) {
    const auto joined = last.matmul(tensors[k].flatten(1));
    last = triangle(joined.reshape({-1, tensors[k].size(3)}));
    sides.push_back(last);
  }
  return sides;
}

/// Right matrices R_k, by one from the right. [b_k, r]
std::vector<torch::Tensor> right_sides(const std::vector<torch::Tensor>& tensors) {
  std::vector<torch::Tensor> sides;
  torch::Tensor last = torch::ones({1, 1}, torch::kFloat64);
  for (size_t k = tensors.size() - 1; k > 0; --k) {
    const auto joined = tensors[k].flatten(0, 2).matmul(last);
    last = triangle(joined.reshape({tensors[k].size(0), -1}).t()).t();
    sides.push_back(last);
  }
  std::reverse(sides.begin(), sides.end());
  return sides;
}

/// A tensor train by successive SVD, left tensors orthogonal.
std::vector<torch::Tensor> train_of(const torch::Tensor& matrix, const ProductShape& shape) {
  const auto m = static_cast<int64_t>(shape.size());
  auto sizes = shape.rows;
  sizes.insert(sizes.end(), shape.columns.begin(), shape.columns.end());
  std::vector<int64_t> order;
  for (int64_t k = 0; k < m; ++k) {
    order.push_back(k);
    order.push_back(m + k);
  }
  auto rest = matrix.to(torch::kFloat64).reshape(sizes).permute(order).reshape({1, -1});
  std::vector<torch::Tensor> tensors;
  for (size_t k = 0; k + 1 < shape.size(); ++k) {
    const int64_t bond = rest.size(0);
    const auto [u, s, vh] = torch::linalg_svd(
        rest.reshape({bond * shape.rows[k] * shape.columns[k], -1}), /*full_matrices=*/false);
    tensors.push_back(u.reshape({bond, shape.rows[k], shape.columns[k], -1}));
    rest = s.unsqueeze(1) * vh;
  }
  tensors.push_back(rest.reshape({rest.size(0), shape.rows.back(), shape.columns.back(), 1}));
  return tensors;
}

/// The same size on all bonds, filled up with zeros.
torch::Tensor padded(const torch::Tensor& matrix, int64_t dim, int64_t size) {
  if (matrix.size(dim) == size) return matrix;
  auto sizes = matrix.sizes().vec();
  sizes[static_cast<size_t>(dim)] = size - matrix.size(dim);
  return torch::cat({matrix, torch::zeros(sizes, matrix.options())}, dim);
}

/// The product over a bond. @param left [.., I, J, b] @param right [.., b, i, j, ...]
/// @return [.., I i, J j, ...]
torch::Tensor joined(const torch::Tensor& left, const torch::Tensor& right) {
  const auto product = left.flatten(-3, -2).matmul(right.flatten(-3, -1));
  return product.unflatten(-1, {right.size(-3), right.size(-2), right.size(-1)})
      .unflatten(-4, {left.size(-3), left.size(-2)})  // [.., I, J, i, j, b']
      .transpose(-4, -3)
      .flatten(-3, -2)
      .flatten(-4, -3);
}

}  // namespace

int64_t ProductShape::num_rows() const { return product_of(rows); }
int64_t ProductShape::num_columns() const { return product_of(columns); }

void check_product_shape(const ProductShape& shape, const std::string& where) {
  MOEKIT_CHECK(shape.rows.size() == shape.columns.size(), where, ": ", shape.rows.size(),
               " factors of one size and ", shape.columns.size(), " of the other");
  MOEKIT_CHECK(shape.size() >= 3 && shape.size() % 2 == 1, where,
               ": an odd number of factors from 3 on is wanted, so that one is in the middle; got ",
               shape.size());
  constexpr double kMost = 1LL << 31;  // products of both sizes stay within 64 bits
  for (const auto* factors : {&shape.rows, &shape.columns}) {
    double product = 1;
    for (const int64_t factor : *factors) {
      MOEKIT_CHECK(factor >= 1, where, ": factors must be at least 1; got ", factor);
      product *= static_cast<double>(factor);
    }
    MOEKIT_CHECK(product <= kMost, where, ": the factors' product is beyond 2^31");
  }
}

std::vector<int64_t> balanced_factors(int64_t size, int64_t count) {
  MOEKIT_CHECK(size >= 1 && count >= 1 && count % 2 == 1, "balanced_factors: wants a size from 1 ",
               "and an odd number of factors; got ", size, " and ", count);
  std::vector<int64_t> primes;
  for (int64_t p = 2; p * p <= size; ++p) {
    for (; size % p == 0; size /= p) primes.push_back(p);
  }
  if (size > 1) primes.push_back(size);
  std::sort(primes.rbegin(), primes.rend());
  std::vector<int64_t> factors(static_cast<size_t>(count), 1);
  // The largest to the smallest, of equal ones to the one nearest the middle.
  std::vector<size_t> from_middle(factors.size());
  std::iota(from_middle.begin(), from_middle.end(), size_t{0});
  const auto middle = static_cast<int64_t>(factors.size() / 2);
  std::stable_sort(from_middle.begin(), from_middle.end(), [&](size_t a, size_t b) {
    return std::abs(static_cast<int64_t>(a) - middle) < std::abs(static_cast<int64_t>(b) - middle);
  });
  for (const int64_t prime : primes) {
    size_t least = from_middle.front();
    for (const size_t i : from_middle) {
      if (factors[i] < factors[least]) least = i;
    }
    factors[least] *= prime;
  }
  std::swap(*std::max_element(factors.begin(), factors.end()), factors[factors.size() / 2]);
  return factors;
}

std::vector<int64_t> bonds_of(const ProductShape& shape, int64_t max_bond) {
  check_product_shape(shape, "bonds_of");
  MOEKIT_CHECK(max_bond >= 0, "bonds_of: max_bond must be at least 0; got ", max_bond);
  const int64_t all = shape.num_rows() * shape.num_columns();
  std::vector<int64_t> bonds{1};
  int64_t left = 1;
  for (size_t k = 0; k < shape.size(); ++k) {
    left *= shape.rows[k] * shape.columns[k];
    const int64_t exact = std::min(left, all / left);
    bonds.push_back(max_bond > 0 ? std::min(exact, max_bond) : exact);
  }
  return bonds;
}

ProductSize size_of(const ProductShape& shape, int64_t max_bond) {
  const auto bonds = bonds_of(shape, max_bond);
  ProductSize size;
  for (size_t k = 0; k < shape.size(); ++k) {
    const int64_t numbers = bonds[k] * shape.rows[k] * shape.columns[k] * bonds[k + 1];
    (k == shape.central() ? size.central : size.auxiliary) += numbers;
  }
  return size;
}

MatrixProduct decompose(const torch::Tensor& matrix, const ProductShape& shape, int64_t max_bond) {
  const torch::NoGradGuard no_grad;
  const auto bonds = bonds_of(shape, max_bond);
  MOEKIT_CHECK(matrix.dim() == 2 && matrix.size(0) == shape.num_rows() &&
                   matrix.size(1) == shape.num_columns(),
               "decompose: the factors are of a matrix [", shape.num_rows(), ", ",
               shape.num_columns(), "]; got ", matrix.sizes());
  auto tensors = train_of(matrix, shape);
  const auto left = left_sides(tensors);
  const auto right = right_sides(tensors);
  MatrixProduct product;
  for (size_t k = 0; k < left.size(); ++k) {
    const auto [u, s, vh] = torch::linalg_svd(left[k].matmul(right[k]), /*full_matrices=*/false);
    product.spectra.push_back(s);
    const auto used = std::min(
        bonds[k + 1],
        std::max<int64_t>(1, s.gt(kLeastSingular * s[0].item<double>()).sum().item<int64_t>()));
    const auto kept = s.narrow(0, 0, used);
    // A matrix of zeros has no value that could be divided by.
    const auto root = torch::where(kept > 0, kept.rsqrt(), torch::zeros_like(kept));
    const auto p = right[k].matmul(vh.narrow(0, 0, used).t()) * root;  // [b, used]
    const auto q = (u.narrow(1, 0, used) * root).t().matmul(left[k]);  // [used, b]
    tensors[k] = padded(tensors[k].matmul(p), 3, bonds[k + 1]);
    tensors[k + 1] = padded(q.matmul(tensors[k + 1].flatten(1))
                                .reshape({used, shape.rows[k + 1], shape.columns[k + 1], -1}),
                            0, bonds[k + 1]);
  }
  for (const auto& tensor : tensors) {
    product.tensors.push_back(tensor.to(matrix.scalar_type()).contiguous());
  }
  return product;
}

double truncation_bound(const MatrixProduct& product, int64_t max_bond) {
  MOEKIT_CHECK(max_bond >= 1, "truncation_bound: max_bond must be at least 1; got ", max_bond);
  double sum = 0;
  for (const auto& values : product.spectra) {
    if (values.numel() <= max_bond) continue;
    sum += values.narrow(0, max_bond, values.numel() - max_bond).square().sum().item<double>();
  }
  return std::sqrt(sum);
}

torch::Tensor rebuild(const std::vector<torch::Tensor>& tensors) {
  MOEKIT_CHECK(!tensors.empty(), "rebuild: no tensors");
  int64_t stacks = 0;
  int64_t bond = 1;
  for (const auto& tensor : tensors) {
    MOEKIT_CHECK(tensor.dim() == 4 || tensor.dim() == 5,
                 "rebuild: tensors must be [b, i, j, b'] or [E, b, i, j, b']; got ",
                 tensor.sizes());
    if (tensor.dim() == 5) {
      MOEKIT_CHECK(stacks == 0 || stacks == tensor.size(0), "rebuild: stacks of ", stacks, " and ",
                   tensor.size(0), " tensors");
      stacks = tensor.size(0);
    }
    MOEKIT_CHECK(tensor.size(-4) == bond, "rebuild: a bond has ", bond, " indices on its left and ",
                 tensor.size(-4), " on its right");
    bond = tensor.size(-1);
  }
  MOEKIT_CHECK(bond == 1, "rebuild: the last bond has ", bond, " indices; 1 is wanted");
  // Towards the middle from both sides, rows and columns apart from the first step on: the largest
  // result is made once, and one transposition of it is all.
  const size_t middle = tensors.size() / 2;
  auto left = tensors.front().squeeze(-4);  // [.., I, J, b]
  for (size_t k = 1; k <= middle; ++k) left = joined(left, tensors[k]);
  if (middle + 1 == tensors.size()) return left.squeeze(-1);
  auto right = tensors.back();  // [.., b, I, J, 1]
  for (size_t k = tensors.size() - 2; k > middle; --k) {
    right = joined(tensors[k], right.unsqueeze(-5));  // for each index of the bond on its left
  }
  return joined(left, right).squeeze(-1);
}

}  // namespace moekit::nn
