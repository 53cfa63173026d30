#include "moekit/study/record.h"
#include "moekit/study/tables.h"
#include "tests/fuzz/input.h"

// results.json beside a table, as `reproduce --check` reads it, and the table it gives.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace moekit;
  static const study::Study study = [] {
    study::Study made;
    made.figure = {{"a", "a", "/a"}, {"b", "b", "/b"}};
    made.figure[1].statistic = study::Statistic::kProportion;
    made.figure[1].conditional = true;
    for (const char* name : {"g/a", "g/b"}) {
      made.row.emplace_back().name = name;
      made.row.back().tier = "quick";
      made.row.back().paper = {{"a", 1.0}};
    }
    made.row.back().seeds = 5;
    made.claim = {
        {"text", "source", "quick", {{"g/a.a", "<", "g/b.a"}, {"g/a.b", ">=", "", 1, 0.5}}}};
    return made;
  }();
  const auto file = fuzz::as_file(data, size);
  return fuzz::read_untrusted([&] { study::to_markdown(study, study::read_record(study, file)); });
}
