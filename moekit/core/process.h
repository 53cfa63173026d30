#pragma once

namespace moekit {

/// Sets what the libraries under libtorch read when they are loaded and do not choose well: the
/// kernels of OpenBLAS, how long OpenMP's threads wait for work, and when malloc gives memory back.
/// Variables of the environment that are set already stand. Call it before they are loaded; a
/// program that is linked against them starts itself again where the environment has changed.
/// @return whether a variable was set
bool prepare_process();

}  // namespace moekit
