// The kernels of AMX over an emulation of its instructions.
#pragma once

#include "moekit/kernels/ffn/ffn_kernels.h"

namespace moekit::kernels {

/// Null where the compiler has no AVX-512 with VNNI, which the machine needs to run them too.
const FfnKernels* ffn_kernels_amx_emulated();
/// Why an instruction was refused, which a processor would have answered by a signal; null: none.
const char* emulated_fault();
/// Products of tiles computed so far.
std::int64_t emulated_products();

}  // namespace moekit::kernels
