#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "cli/command.h"
#include "cli/print.h"
#include "moekit/core/config.h"
#include "moekit/core/interrupt.h"
#include "moekit/core/progress.h"
#include "moekit/data/fetch.h"
#include "moekit/data/folders.h"

namespace moekit::cli {
namespace {

struct DataFlags {
  std::string name;
  std::string data;
  std::string mirror;
  bool json = false;
};

void list(const DataFlags& flags) {
  Json rows = Json::array();
  for (const auto& row : data::DatasetKinds::rows()) {
    std::string where = "generated";
    if (!row.generated()) {
      const auto folder = data::find_dataset(row, flags.data);
      where = folder ? folder->string() : "not found";
    }
    rows.push_back({{"name", row.name}, {"description", row.doc}, {"folder", where}});
  }
  if (flags.json) {
    fmt::print("{}\n", rows.dump(2));
    return;
  }
  for (const auto& row : rows) {
    fmt::print("{:20} {}\n{:20} {}\n", row["name"].get<std::string>(),
               row["folder"].get<std::string>(), "", row["description"].get<std::string>());
  }
  fmt::print("\nsearched, in this order:\n");
  for (const auto& folder : data::search_folders(flags.data)) fmt::print("  {}\n", folder.string());
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
    fmt::print("{}\n", out.dump(2));
    return;
  }
  fmt::print("{}: {}, from {}\n", dataset->name, facts["summary"].get<std::string>(),
             dataset->source);
  facts.erase("summary");
  for (const auto& [name, fact] : facts.items()) print_fact(name, fact);
  if (!keys.empty()) fmt::print("\nrecipe keys, with their defaults:\n");
  print_keys(keys);
}

void fetch(const DataFlags& flags, int& exit_code) {
  const auto& row = data::dataset_row(flags.name);
  const auto base = flags.data.empty() ? data::cache_folder() : std::filesystem::path(flags.data);
  const InterruptGuard guard;
  std::string current;
  std::unique_ptr<Progress> progress;
  const auto folder = base / row.name;
  data::fetch_dataset(row, folder, flags.mirror,
                      [&](const std::string& file, int64_t done, int64_t total) {
                        if (file != current) {
                          progress = std::make_unique<Progress>(file, total / 1024);
                          current = file;
                        }
                        progress->update(done / 1024, "KiB");
                        return !interrupted();
                      });
  if (interrupted()) exit_code = kInterruptedExit;
  fmt::print("{}\n", folder.string());
}

}  // namespace

void setup_data(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<DataFlags>();
  auto* command = app.add_subcommand("data", "Data sets: list, show, download");
  command->require_subcommand(1);
  auto* list_command = command->add_subcommand("list", "Known data sets and where they were found");
  auto* info_command = command->add_subcommand("info", "Sizes and class counts of one");
  auto* fetch_command = command->add_subcommand(
      "fetch", "Download one from its public home into the user's cache, or into --data");
  for (auto* sub : {list_command, info_command, fetch_command}) {
    sub->add_option("--data", flags->data, "Folder of data sets");
  }
  for (auto* sub : {info_command, fetch_command}) {
    sub->add_option("name", flags->name, "Name, as in the list")->required();
  }
  for (auto* sub : {list_command, info_command}) {
    sub->add_flag("--json", flags->json, "Print as JSON");
  }
  fetch_command->add_option("--mirror", flags->mirror, "Address of a folder with the same files");
  list_command->callback([flags] { list(*flags); });
  info_command->callback([flags] { info(*flags); });
  fetch_command->callback([flags, &exit_code] { fetch(*flags, exit_code); });
}

}  // namespace moekit::cli
