#include <gtest/gtest.h>

#include "moekit/data/datasets.h"
#include "moekit/data/transforms.h"
#include "tests/support/expected_file.h"

namespace moekit::data {
namespace {

std::string all_of(const std::vector<std::string>& words) {
  std::string out;
  for (const auto& word : words) out += " " + word;
  return out;
}

TEST(DatasetTable, SaysWhatIsWrittenDownForEachSet) {
  std::string text;
  for (const auto& row : DatasetKinds::rows()) {
    text += concat(row.name, ": ", row.doc, "\n");
    if (!row.folders.empty()) text += concat("  folders:", all_of(row.folders), "\n");
    if (!row.parts.empty()) text += concat("  parts:", all_of(row.parts), "\n");
    if (row.generated()) text += "  generated\n";
    for (const auto& file : row.files) {
      text += concat("  ", file.name, "\n    url ", file.url, "\n");
      if (!file.sha256.empty()) text += concat("    sum ", file.sha256, "\n");
      if (!file.archive_sha256.empty()) text += concat("    archive ", file.archive_sha256, "\n");
    }
  }
  text += "\n";
  for (const auto& row : transforms()) text += concat(row.name, ": ", row.doc, "\n");
  expect_file("data/table.txt", text);
}

}  // namespace
}  // namespace moekit::data
