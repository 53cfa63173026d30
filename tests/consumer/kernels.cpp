#include <moekit/kernels/conv_maxpool.h>

int main() { return moekit::kernels::conv_maxpool_isa().empty() ? 1 : 0; }
