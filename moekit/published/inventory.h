#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "moekit/checkpoint/tensor_source.h"
#include "moekit/published/architecture.h"

namespace moekit::published {

enum class Part { kEmbedding, kAttention, kRouter, kExperts, kShared, kDense, kNorm, kHead };
std::string_view part_name(Part part);

/// A storage's name with the expert's number in it.
std::string name_of_expert(const std::string& name, int64_t expert);

/// A tensor that an architecture has.
struct ExpectedTensor {
  std::string name;
  std::vector<int64_t> shape;
  Part part = Part::kNorm;
  int64_t layer = -1;          ///< -1: of no layer
  int64_t codes_each = 1;      ///< weights in an element; 0: scales of others
  bool bias = false;           ///< of experts: counted as active, as published figures do
  uint64_t element_bytes = 0;  ///< of packed weights and their scales; 0: as the model's dtype
};

/// All of them, with experts stored as in `storage` of every mixture (0: as published). Where a
/// matrix has scales of its own (FP8) they follow it.
std::vector<ExpectedTensor> expected_tensors(const Architecture& architecture, size_t storage = 0);

/// How the names of an architecture's tensors stand in files.
struct FileLayout {
  std::string wrapper;  ///< before the names of a text model within one of several parts
  size_t storage = 0;   ///< of every mixture's storages
  std::string name(const std::string& tensor) const;
};
/// @param tensors  null: as published
FileLayout find_layout(const Architecture& architecture, const checkpoint::TensorSource* tensors);

struct PartTotals {
  Part part;
  int64_t tensors = 0;
  int64_t parameters = 0;
  uint64_t bytes = 0;               ///< in the files; without them as the config's dtype
  std::vector<std::string> dtypes;  ///< of the files, in the order they came
};

/// What an architecture has, held against the files' headers.
struct Inventory {
  int64_t parameters = 0;
  int64_t active_parameters =
      0;  ///< that one token meets: matrices of K of E experts, all else whole
  int64_t routed_parameters = 0;  ///< of experts
  uint64_t bytes = 0;
  std::string storage;            ///< how experts lie
  std::vector<PartTotals> parts;  ///< those that are there
  // Of the files; empty without them.
  std::vector<std::string> missing;    ///< names
  std::vector<std::string> unknown;    ///< names
  std::vector<std::string> misshapen;  ///< "name is [8, 4], not [4, 8]", or no kind of float
  std::vector<std::string> not_used;   ///< names: further token predictions, other parts of a model
};

/// What is wrong with a tensor's header: another shape, or elements that are no floats and no codes
/// of the config's kind. Empty where nothing is.
std::string header_fault(const Architecture& architecture, const ExpectedTensor& tensor,
                         const checkpoint::TensorInfo& info);

/// take_inventory(). @throws FormatError naming the first tensors that are missing or have a fault
Inventory check_inventory(const Architecture& architecture,
                          const checkpoint::TensorSource& tensors);

/// @param tensors  null: of the config alone
/// @throws FormatError, IoError of the files
Inventory take_inventory(const Architecture& architecture, const checkpoint::TensorSource* tensors);

}  // namespace moekit::published
