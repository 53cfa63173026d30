// Vectors over a struct `I` of one instruction set, which has kLanes, Float and Int: constant
// loops, loads, the exponential. Everything is in an unnamed namespace, so that no code compiled
// for one instruction set can be linked into the path of another.
#pragma once

#include <cstdint>
#include <cstring>

namespace moekit::kernels {
namespace {

#define MOEKIT_INLINE inline __attribute__((always_inline))
#define MOEKIT_LAMBDA __attribute__((always_inline))

template <int... i>
struct Indices {};
template <int n, int... i>
struct MakeIndices : MakeIndices<n - 1, n - 1, i...> {};
template <int... i>
struct MakeIndices<0, i...> {
  using type = Indices<i...>;
};
template <int value_>
struct Index {
  constexpr operator int() const { return value_; }
};
template <typename Body, int... i>
MOEKIT_INLINE void each(const Body& body, Indices<i...>) {
  (body(Index<i>{}), ...);
}
/// body(0) .. body(n - 1) with constant arguments: an array indexed by them stays in registers,
/// which GCC does not manage for a loop that it unrolls late.
template <int n, typename Body>
MOEKIT_INLINE void each(const Body& body) {
  each(body, typename MakeIndices<n>::type{});
}

MOEKIT_INLINE std::int64_t min_of(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
MOEKIT_INLINE std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

template <typename V>
MOEKIT_INLINE V load(const void* from) {
  V v;
  std::memcpy(&v, from, sizeof(V));
  return v;
}
template <typename V>
MOEKIT_INLINE void store(void* to, const V& v) {
  std::memcpy(to, &v, sizeof(V));
}
template <typename I>
MOEKIT_INLINE typename I::Float broadcast(float value) {
  return value - typename I::Float{};
}
template <typename I>
MOEKIT_INLINE typename I::Int broadcast(std::int32_t value) {
  return value - typename I::Int{};
}
template <typename I>
MOEKIT_INLINE typename I::Float to_float(const typename I::Int& v) {
  return __builtin_convertvector(v, typename I::Float);
}
template <typename I>
MOEKIT_INLINE float horizontal_sum(const typename I::Float& v) {
  float sum = 0;
  for (int l = 0; l < I::kLanes; ++l) sum += v[l];
  return sum;
}

/// e^x to 2 ulp, 0 below -87.7, infinity above 88.4. Cephes' expf polynomial.
template <typename I>
MOEKIT_INLINE typename I::Float exp_of(typename I::Float x) {
  using F = typename I::Float;
  // As powers of two these round to 128 and -127, whose bits as an exponent are infinity and zero.
  const F high = broadcast<I>(89.0F);
  const F low = broadcast<I>(-88.0F);
  x = x > high ? high : x;
  x = x < low ? low : x;
  const F magic = broadcast<I>(12582912.0F);  // 1.5 * 2^23: adding it rounds to an integer
  const F n = (x * 1.44269504088896341F + magic) - magic;
  const F r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
  F p = broadcast<I>(1.9875691500e-4F);
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * (r * r) + r + 1.0F;
  const auto exponent = (__builtin_convertvector(n, typename I::Int) + 127) << 23;
  return p * (F)exponent;
}

}  // namespace
}  // namespace moekit::kernels
