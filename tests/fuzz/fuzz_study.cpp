#include "moekit/study/plan.h"
#include "tests/fuzz/input.h"

// study.toml: all that comes out is below the folder of runs.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace moekit;
  return fuzz::read_untrusted([&] {
    const auto study = study::parse_study(parse_toml(fuzz::as_text(data, size), "study.toml"),
                                          {{"test_error", "test error", "/test/error"}});
    for (const auto& row : study::choose_rows(study, "quick", "*")) {
      const auto run = std::filesystem::path("/out") / study::run_name(row.name, 1);
      if (run.lexically_normal().string().rfind("/out/", 0) != 0) std::abort();
    }
  });
}
