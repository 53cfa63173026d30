#include <fmt/format.h>

#include <memory>

#include "cli/command.h"
#include "cli/print.h"
#include "moekit/core/config.h"
#include "moekit/core/interrupt.h"
#include "moekit/core/progress.h"
#include "moekit/data/fetch.h"
#include "moekit/data/registry.h"

namespace moekit::cli {
namespace {

struct DataFlags {
  std::string name;
  std::string data;
  std::string mirror;
  bool json = false;
};

Json class_counts(const data::ImageSet& set, const std::vector<std::string>& classes) {
  const auto counts = torch::bincount(set.labels, {}, static_cast<int64_t>(classes.size()));
  Json out = Json::object();
  for (size_t c = 0; c < classes.size(); ++c) {
    out[classes[c]] = counts[static_cast<int64_t>(c)].item<int64_t>();
  }
  return out;
}

void list(const DataFlags& flags) {
  Json rows = Json::array();
  for (const auto& info : data::known_datasets()) {
    std::string where = "generated";
    if (info.generate == nullptr) {
      const auto folder = data::find_dataset(info, flags.data);
      where = folder ? folder->string() : "not found";
    }
    rows.push_back({{"name", info.name}, {"description", info.description}, {"folder", where}});
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

void info(const DataFlags& flags) {
  const auto dataset = data::load_dataset(flags.name, flags.data);
  const auto options = data::dataset_info(flags.name).options;
  const auto keys = options != nullptr ? options() : std::vector<ConfigKey>{};
  const auto shape = dataset.train.images.sizes();
  Json out = {
      {"name", dataset.name},
      {"folder", dataset.source},
      {"image", {shape[1], shape[2], shape[3]}},
      {"mean", dataset.normalization.mean},
      {"std", dataset.normalization.std_dev},
      {"train", dataset.train.size()},
      {"test", dataset.test.size()},
      {"clusters",
       dataset.train.clusters.defined() ? dataset.train.clusters.max().item<int64_t>() + 1 : 0},
      {"train_classes", class_counts(dataset.train, dataset.class_names)},
      {"test_classes", class_counts(dataset.test, dataset.class_names)}};
  for (const auto& key : keys) out["options"][key.path] = Json::parse(key.default_value);
  if (flags.json) {
    fmt::print("{}\n", out.dump(2));
    return;
  }
  fmt::print("{}: {} training and {} test images of {}x{}, {} channel(s), from {}\n", dataset.name,
             dataset.train.size(), dataset.test.size(), shape[2], shape[3], shape[1],
             dataset.source);
  if (out["clusters"] > 0) fmt::print("true clusters: {}\n", out["clusters"].get<int64_t>());
  fmt::print("{:20} {:>8} {:>8}\n", "class", "train", "test");
  for (const auto& name : dataset.class_names) {
    fmt::print("{:20} {:>8} {:>8}\n", name, out["train_classes"][name].get<int64_t>(),
               out["test_classes"][name].get<int64_t>());
  }
  if (!keys.empty()) fmt::print("\nrecipe keys, with their defaults:\n");
  print_keys(keys);
}

void fetch(const DataFlags& flags, int& exit_code) {
  const auto& row = data::dataset_info(flags.name);
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
