#pragma once

#include <array>
#include <cstdint>

#include "moekit/kernels/common/activation.h"
#include "moekit/kernels/common/slab.h"
#include "moekit/kernels/common/thread_pool.h"
#include "moekit/kernels/ffn/weight_format.h"

namespace moekit::kernels {

/// Whether these kernels have code for an activation: relu, gelu, squared_relu, reglu, geglu,
/// swiglu.
bool has_ffn_kernel(Activation activation);

/// Sizes of a bank of alike feed-forward experts. Gated: down (act(gate x) * up x); plain:
/// down act(up x).
struct FfnShape {
  std::int64_t num_experts;        ///< E, 1..65536
  std::int64_t hidden_size;        ///< D, values a token
  std::int64_t intermediate_size;  ///< F
  std::int64_t output_size;        ///< O, most often D
  Activation activation = Activation::kSwiglu;
  bool bias = false;
  /// Above 0: rows of hidden values h are divided by sqrt(mean(h^2) + this) before the second
  /// product, as low-bit layers are trained (arXiv:2402.17764); of integer formats only.
  float hidden_norm_eps = 0;
};

/// @throws ArgumentError naming the value, unless 1 <= each size <= 2^24 and has_ffn_kernel().
void check_shape(const FfnShape& shape);

/// One expert's matrices, row-major. Without a gate or bias those pointers are null.
struct ExpertMatrices {
  const float* gate;                 ///< [F, D]
  const float* up;                   ///< [F, D]
  const float* down;                 ///< [O, F]
  const float* gate_bias = nullptr;  ///< [F]
  const float* up_bias = nullptr;    ///< [F]
  const float* down_bias = nullptr;  ///< [O]
};

/// As `ExpertMatrices`, to be written to.
struct MutableExpertMatrices {
  float* gate;
  float* up;
  float* down;
  float* gate_bias = nullptr;
  float* up_bias = nullptr;
  float* down_bias = nullptr;
};

/// Output columns side by side: with 32 bits of each a step is four cache lines, and the four
/// AVX-512 vectors of weights that a tile takes.
inline constexpr std::int64_t kPanelColumns = 64;

/// Where one packed product [K inputs, columns] lies: panels of 64 output columns, one after the
/// other, each over all inputs. A step is 32 bits of every column (256 bytes): one f32 input, two
/// bf16 or four int8, in the order of the inputs. int4 stores two steps in 256 bytes (low nibbles
/// the first), ternary four (lowest bits the first). A group of int4 starts with its 64 scales.
struct PanelLayout {
  std::int64_t inputs = 0;         ///< K
  std::int64_t padded_inputs = 0;  ///< to the format's multiple
  std::int64_t columns = 0;        ///< valid ones
  std::int64_t panels = 0;
  std::int64_t panel_bytes = 0;
  std::int64_t offset = 0;  ///< of the first panel in an expert's memory
};
PanelLayout make_panel_layout(std::int64_t inputs, std::int64_t columns, const FormatInfo& format,
                              std::int64_t offset);

/// Weights of a bank, packed for the kernels, all in one slab; the layout is the same for every
/// instruction set. Gated experts interleave 32 gate and 32 up columns in a panel, so that both
/// are at hand when the hidden value is made.
class PackedExperts {
 public:
  /// All weights zero. @throws ArgumentError as check_shape(), when an integer format has more than
  /// `kMaxQuantizedInputs` inputs, and when another one normalises hidden values.
  PackedExperts(const FfnShape& shape, WeightFormat format);

  /// @throws ArgumentError when expert is not 0..E-1, a matrix is null that the shape has (or the
  /// other way round), or a weight or a bias is one that the format cannot hold, see
  /// `WeightFormat`; the message says of which matrix, row and column.
  /// @param pool  whose threads work on it; null: the caller alone
  void pack(std::int64_t expert, const ExpertMatrices& from, ThreadPool* pool = nullptr);
  /// Takes an expert of another bank of the same shape and format, or of this one, as it is packed.
  /// @throws ArgumentError when shapes, bias or formats differ or an expert is not there.
  void copy(std::int64_t expert, const PackedExperts& from, std::int64_t from_expert);
  /// The weights as the kernels see them: rounded, in float.
  void unpack(std::int64_t expert, const MutableExpertMatrices& to,
              ThreadPool* pool = nullptr) const;

  const FfnShape& shape() const { return shape_; }
  WeightFormat format() const { return info_->format; }
  const FormatInfo& info() const { return *info_; }
  /// Gate and up, [D, F or 2F].
  const PanelLayout& up_layout() const { return up_; }
  /// [F, O]
  const PanelLayout& down_layout() const { return down_; }
  /// Of one expert, padding, biases and scales included.
  std::int64_t expert_bytes() const { return expert_bytes_; }
  const char* panel(std::int64_t expert, const PanelLayout& layout, std::int64_t panel) const {
    return expert_data(expert) + layout.offset + panel * layout.panel_bytes;
  }
  /// [panels, 64] each, in the order of the panels' columns; null without bias.
  const float* up_bias(std::int64_t expert) const;
  const float* down_bias(std::int64_t expert) const;
  /// [panels, 64] scales of int8 and ternary; null for the other formats.
  const float* up_scale(std::int64_t expert) const;
  const float* down_scale(std::int64_t expert) const;

 private:
  const char* expert_data(std::int64_t expert) const {
    return reinterpret_cast<const char*>(slab_.data()) + expert * expert_bytes_;
  }
  const float* vector_at(std::int64_t expert, std::int64_t offset) const;
  /// Matrices [rows, K] whose rows are the columns of a product: one, or gate and up in turns
  /// of 32.
  template <typename Float>
  struct Product {
    std::array<Float*, 2> matrices;
    int parts;
    std::int64_t rows;
  };
  void pack_product(char* base, float* scales, const PanelLayout& layout,
                    const Product<const float>& from, ThreadPool* pool) const;
  void unpack_product(const char* base, const float* scales, const PanelLayout& layout,
                      const Product<float>& to, ThreadPool* pool) const;

  FfnShape shape_;
  const FormatInfo* info_;
  PanelLayout up_;
  PanelLayout down_;
  std::int64_t up_bias_ = -1;  // offsets in an expert's memory, -1 where there is none
  std::int64_t down_bias_ = -1;
  std::int64_t up_scale_ = -1;
  std::int64_t down_scale_ = -1;
  std::int64_t expert_bytes_ = 0;
  Slab slab_;
};

/// The code of input k, column c of a packed panel, and the scale where the format keeps it in the
/// panel (1 otherwise). Plain and slow: what the reference and unpack() read with.
struct PackedWeight {
  float code;
  float scale;
};
PackedWeight read_weight(const char* panel, const FormatInfo& format, std::int64_t k,
                         std::int64_t column);

}  // namespace moekit::kernels
