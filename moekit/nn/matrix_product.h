#pragma once

#include <torch/types.h>

#include <vector>

/// Matrix product operators: a matrix [I, J], I = i_1..i_m and J = j_1..j_m, as a chain of small
/// tensors T_k [b_{k-1}, i_k, j_k, b_k], b_0 = b_m = 1, whose product over the bonds b it is:
///     M[(i_1..i_m), (j_1..j_m)] = T_1[0, i_1, j_1, :] T_2[:, i_2, j_2, :] .. T_m[:, i_m, j_m, 0]
/// Sources: Oseledets 2011, tensor-train decomposition, SIAM J. Sci. Comput. 33(5), algorithm 1;
/// for matrices of networks: Gao et al. 2022 (MPOE), arXiv:2203.01104, section 2.3, whose released
/// code has the gauge.
namespace moekit::nn {

/// How the two sizes of a matrix are divided; both lists have as many factors.
struct ProductShape {
  std::vector<int64_t> rows;     ///< i_1..i_m
  std::vector<int64_t> columns;  ///< j_1..j_m

  size_t size() const { return rows.size(); }
  size_t central() const { return size() / 2; }  ///< index of the middle tensor
  int64_t num_rows() const;
  int64_t num_columns() const;
};

/// @throws ArgumentError, beginning with `where`, unless the lists are as long, at least 3, odd,
/// and their factors at least 1 and products at most 2^31.
void check_product_shape(const ProductShape& shape, const std::string& where);

/// `count` factors of a size, the middle one the largest and the others as near to one another as
/// its prime factors let them. @throws ArgumentError for a size below 1 or an even count
std::vector<int64_t> balanced_factors(int64_t size, int64_t count);

/// b_0..b_m: all that an exact product needs, at most `max_bond` of them; 0: no limit.
std::vector<int64_t> bonds_of(const ProductShape& shape, int64_t max_bond = 0);

/// Numbers in the tensors of a product.
struct ProductSize {
  int64_t central = 0;
  int64_t auxiliary = 0;  ///< of all others
};
ProductSize size_of(const ProductShape& shape, int64_t max_bond = 0);

struct MatrixProduct {
  std::vector<torch::Tensor> tensors;  ///< T_k, in the matrix' type
  /// Of each inner bond its singular values, the largest first, float64: before truncation.
  std::vector<torch::Tensor> spectra;
};

/// Decomposes a matrix, computed in float64. Singular values are shared out evenly to both sides of
/// a bond; those below 1e-12 of the largest are left out together with their bond index, which is
/// then one of zeros. @param matrix [I, J] @param max_bond  indices a bond keeps at most; 0: all
/// @throws ArgumentError when sizes do not fit
MatrixProduct decompose(const torch::Tensor& matrix, const ProductShape& shape,
                        int64_t max_bond = 0);

/// ||M - product|| is at most this, in the Frobenius norm, where bonds keep `max_bond` indices:
/// sqrt(sum over bonds and values left out of s^2). Source: Oseledets 2011, theorem 2.2.
double truncation_bound(const MatrixProduct& product, int64_t max_bond);

/// The matrix that tensors stand for, [I, J]; [E, I, J] where some of them are stacks
/// [E, b, i, j, b'] of as many. Gradient flows to all. @throws ArgumentError when they do not fit
torch::Tensor rebuild(const std::vector<torch::Tensor>& tensors);

}  // namespace moekit::nn
