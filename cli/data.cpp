#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "cli/command.h"
#include "cli/guard.h"
#include "cli/print.h"
#include "moekit/core/config.h"
#include "moekit/core/interrupt.h"
#include "moekit/core/progress.h"
#include "moekit/data/fetch.h"
#include "moekit/data/folders.h"

namespace moekit::cli {
namespace {

void list(const DataFlags& flags) {
  Json rows = Json::array();
  for (const auto& row : data::DatasetKinds::rows()) {
    std::string where = "generated";
    if (!row.generated()) {
      try {
        const auto folder = data::find_dataset(row, flags.data);
        where = folder ? folder->string() : "not found";
      } catch (const IoError& error) {
        where = error.what();  // a broken folder hides no other row
      }
    }
    rows.push_back({{"name", row.name}, {"description", row.doc}, {"folder", where}});
  }
  if (flags.json) {
    fmt::print("{}\n", dump_text(rows, 2));
    return;
  }
  for (const auto& row : rows) {
    fmt::print("{:20} {}\n{:20} {}\n", row["name"].get<std::string>(),
               row["folder"].get<std::string>(), "", row["description"].get<std::string>());
  }
  fmt::print("\nsearched, in this order:\n");
  for (const auto& folder : data::search_folders(flags.data)) {
    std::error_code error;
    const bool there = std::filesystem::is_directory(folder, error);
    fmt::print("  {}{}\n", folder.string(), there ? "" : " (no such folder)");
  }
}

/// A value as a line, a table (row -> column -> value) as one with its columns.
void print_fact(std::string name, const Json& fact) {
  std::replace(name.begin(), name.end(), '_', ' ');
  if (!fact.is_object()) {
    fmt::print("{}: {}\n", name, fact.is_string() ? fact.get<std::string>() : fact.dump());
    return;
  }
  bool first = true;
  for (const auto& [row, cells] : fact.items()) {
    if (first) {
      fmt::print("{:20}", name);
      for (const auto& [column, unused] : cells.items()) fmt::print(" {:>8}", column);
      fmt::print("\n");
    }
    first = false;
    fmt::print("{:20}", row);
    for (const auto& [unused, value] : cells.items()) fmt::print(" {:>8}", value.dump());
    fmt::print("\n");
  }
}

void info(const DataFlags& flags) {
  const auto dataset = data::load_dataset(flags.name, {flags.data});
  const auto keys = option_keys(*data::dataset_row(flags.name).options(), "data.options");
  Json facts = dataset->describe();
  if (flags.json) {
    Json out = {{"name", dataset->name}, {"kind", dataset->kind()}, {"folder", dataset->source}};
    out.update(facts);
    for (const auto& key : keys) out["options"][key.path] = Json::parse(key.default_value);
    fmt::print("{}\n", dump_text(out, 2));
    return;
  }
  fmt::print("{}: {}, from {}\n", dataset->name, facts["summary"].get<std::string>(),
             dataset->source);
  facts.erase("summary");
  for (const auto& [name, fact] : facts.items()) print_fact(name, fact);
  if (!keys.empty()) fmt::print("\nrecipe keys, with their defaults:\n");
  print_keys(keys);
}

int fetch(const DataFlags& flags) {
  const auto& row = data::dataset_row(flags.name);
  const auto base = flags.data.empty() ? data::cache_folder() : std::filesystem::path(flags.data);
  const InterruptGuard guard;
  std::string current;
  std::unique_ptr<Progress> progress;
  const auto folder = base / row.name;
  data::fetch_dataset(row, folder, flags.mirror,
                      [&](const std::string& file, int64_t done, int64_t total) {
                        if (file != current) {
                          progress = std::make_unique<Progress>(file, total / 1024, "KiB");
                          current = file;
                        }
                        progress->update(done / 1024);
                        return !interrupted();
                      });
  fmt::print("{}\n", folder.string());
  return interrupted() ? kInterruptedExit : 0;
}

}  // namespace

int run(const DataFlags& flags) {
  if (flags.action == DataAction::kFetch) return fetch(flags);
  if (flags.action == DataAction::kInfo) {
    info(flags);
  } else {
    list(flags);
  }
  return 0;
}

}  // namespace moekit::cli
