#include "moekit/kernels/common/format_paths.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csetjmp>
#include <csignal>
#include <functional>

#include "moekit/core/error.h"
#include "moekit/kernels/common/path_cache.h"
#include "moekit/kernels/ffn/ffn_kernels.h"

namespace moekit::kernels {
namespace {

// Rounds of a tile's multiply-adds, 12 cycles each: some 50 us, long enough for the clock and short
// enough for one time slice. The first tries also wake the wide units up.
constexpr std::int64_t kRounds = 12'000;
constexpr int kTries = 8;
constexpr double kFaster = 1.25;

/// Operations a second of one try.
double rate_of(void (*spin)(std::int64_t), std::int64_t operations) {
  const auto start = std::chrono::steady_clock::now();
  spin(kRounds);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return static_cast<double>(kRounds * operations) / seconds.count();
}

/// Keeps the faster of what is known and another try.
void try_again(const FfnKernels& ffn, IsaRates& best) {
  best.f32 = std::max(best.f32, rate_of(ffn.spin_f32, ffn.spin_operations[0]));
  best.bf16 = std::max(best.bf16, rate_of(ffn.spin_bf16, ffn.spin_operations[1]));
  best.int8 = std::max(best.int8, rate_of(ffn.spin_int8, ffn.spin_operations[2]));
}

thread_local std::jmp_buf* t_refused = nullptr;
extern "C" void on_illegal(int) {
  if (t_refused != nullptr) std::longjmp(*t_refused, 1);
  std::signal(SIGILL, SIG_DFL);  // not ours: it happens again, and ends the process as it should
}

/// The set that is fastest by `rate` and more than a little faster than those before it.
const IsaRates& fastest_of(const std::vector<IsaRates>& rates, double IsaRates::*rate) {
  const IsaRates* best = rates.data();
  for (const auto& other : rates) {
    if (other.*rate > kFaster * (best->*rate)) best = &other;
  }
  return *best;
}

}  // namespace

bool runs_here(const std::function<void()>& work) {
  std::jmp_buf refused;
  struct sigaction ours = {};
  struct sigaction before = {};
  ours.sa_handler = on_illegal;
  ours.sa_flags = SA_NODEFER;  // the jump leaves the handler
  sigaction(SIGILL, &ours, &before);
  t_refused = &refused;
  const bool whole = setjmp(refused) == 0;
  if (whole) work();
  t_refused = nullptr;
  sigaction(SIGILL, &before, nullptr);
  return whole;
}

MeasuredSets measure_sets() {
  MeasuredSets out;
  for (const auto isa : supported_isas()) {
    if (isa == Isa::kReference) continue;
    const FfnKernels& ffn = ffn_kernels(isa);
    static IsaRates rates;  // not of this frame: a jump back may undo what registers hold
    rates = {isa};
    if (runs_here([&] { try_again(ffn, rates); })) {
      out.rates.push_back(rates);
    } else {
      out.refused.push_back(isa);
    }
  }
  for (int t = 1; t < kTries; ++t) {
    for (auto& rates : out.rates) try_again(ffn_kernels(rates.isa), rates);
  }
  return out;
}

FormatPaths choose_paths(const std::vector<IsaRates>& rates) {
  if (rates.empty()) return Isa::kReference;
  return {fastest_of(rates, &IsaRates::f32).isa, fastest_of(rates, &IsaRates::bf16).isa,
          fastest_of(rates, &IsaRates::int8).isa};
}

std::string why_chosen(const std::vector<IsaRates>& rates, double IsaRates::*rate) {
  if (rates.empty()) return concat(isa_name(Isa::kReference), ": there is no other");
  const IsaRates& best = fastest_of(rates, rate);
  const auto billions = [&](const IsaRates& of) { return std::lround(of.*rate / 1e9); };
  if (best.isa == rates.front().isa) {
    return concat(isa_name(best.isa),
                  rates.size() == 1 ? ": there is no other" : ": no other is faster by a quarter");
  }
  return concat(isa_name(best.isa), ": ", billions(best), " against ", billions(rates.front()),
                " of ", isa_name(rates.front().isa));
}

PathChoice measure_choice() {
  const MeasuredSets measured = measure_sets();
  PathChoice choice{choose_paths(measured.rates), measured.refused};
  keep_choice(choice);
  return choice;
}

const PathChoice& known_choice() {
  static const PathChoice kChoice = [] {
    auto kept = read_choice();
    return kept ? *std::move(kept) : measure_choice();
  }();
  return kChoice;
}

FormatPaths with_few_rows(FormatPaths paths, const std::vector<Isa>& refused) {
  if (ffn_backward_kernels(paths.bf16).bf16_as_floats) return paths;
  for (const auto isa : supported_isas()) {
    if (isa == Isa::kReference || std::find(refused.begin(), refused.end(), isa) != refused.end()) {
      continue;
    }
    if (ffn_kernels(isa).bf16_as_floats && ffn_backward_kernels(isa).bf16_as_floats) {
      paths.few_bf16 = isa;
      break;
    }
  }
  return paths;
}

FormatPaths default_paths() {
  const auto forced = forced_isa();
  if (forced) return *forced;
  const PathChoice& known = known_choice();
  return with_few_rows(known.paths, known.refused);
}

Isa default_isa() { return default_paths().f32; }

std::string paths_text(const FormatPaths& paths) {
  std::string text(isa_name(paths.f32));
  if (paths.bf16 != paths.f32 || paths.few_bf16 != paths.bf16) {
    text += concat(", bf16 by ", isa_name(paths.bf16));
  }
  if (paths.few_bf16 != paths.bf16) text += concat(" (of few rows ", isa_name(paths.few_bf16), ")");
  if (paths.int8 != paths.f32) text += concat(", integers by ", isa_name(paths.int8));
  return text;
}

}  // namespace moekit::kernels
