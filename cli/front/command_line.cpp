#include "cli/front/command_line.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/version.h>

#include <algorithm>
#include <sstream>

#include "cli/front/checks.h"
#include "cli/front/completion.h"
#include "cli/front/library.h"
#include "cli/front/manual.h"
#include "moekit/core/error.h"
#include "moekit/core/version.h"
#include "moekit/core/words.h"
#include "moekit/kernels/common/path_cache.h"

namespace moekit::cli {
namespace {

constexpr const char* kDataDoc = "Folder of data sets";
constexpr const char* kJsonDoc = "Print as JSON";
// More would be no study and no machine: a typing error is to be refused before hours of work.
constexpr std::int64_t kMostSeeds = 10'000;
constexpr std::int64_t kMostJobs = 4096;
constexpr std::int64_t kMostBatch = 65'536;
constexpr std::int64_t kMostExperts = 65'536;
constexpr std::int64_t kMostSamples = 100'000'000;
constexpr std::int64_t kMostTokens = 1'000'000'000;
constexpr double kMostTemperature = 1000;
constexpr double kSecondsOfADay = 86'400;

std::string version_text() {
  return fmt::format("moekit {} (libtorch {})", version(), TORCH_VERSION);
}

/// What was wrong with the words, in our own: which word, and what was probably meant.
std::string explain(const CLI::App& root, const CLI::ParseError& error) {
  const CLI::App* app = &root;
  std::string path;
  while (!app->get_subcommands().empty()) {
    app = app->get_subcommands().front();
    path += (path.empty() ? "" : " ") + app->get_name();
  }
  const std::string who = path.empty() ? "" : path + ": ";
  const std::string help = concat("; see moekit ", path, path.empty() ? "" : " ", "--help");
  const auto commands = command_names(*app);
  auto left = app->remaining();
  std::erase(left, "--");
  if (!left.empty() && left.front().rfind('-', 0) == 0) {
    const std::string flag = left.front().substr(0, left.front().find('='));
    // Without dashes, which nobody mistypes: they would make short names look alike.
    const std::string meant = nearest_word(
        flag.substr(std::min(flag.size(), flag.find_first_not_of('-'))), flag_names(*app));
    return concat(who, "there is no flag ", flag,
                  meant.empty() ? help : concat("; did you mean --", meant, "?"));
  }
  if (!commands.empty()) {
    const std::vector<std::string_view> views(commands.begin(), commands.end());
    if (left.empty()) return concat(who, "a command is required: ", join_choices(views), help);
    const std::string meant = did_you_mean(left.front(), commands);
    return concat(who, "there is no command \"", left.front(), "\"",
                  meant.empty() ? concat("; known: ", join_choices(views)) : meant);
  }
  if (!left.empty()) return concat(who, "one word too many: \"", left.front(), "\"", help);
  return concat(who, error.what(), help);
}

}  // namespace

CommandLine::CommandLine() : app_("Train, measure and compare mixtures of experts", "moekit") {
  app_.require_subcommand(1);
  app_.fallthrough(false);
  app_.set_version_flag("--version", version_text(), "Print the versions and exit");
  add_train();
  add_eval();
  add_inspect();
  add_merge();
  add_generate();
  add_describe();
  add_trace();
  add_report();
  add_reproduce();
  add_data();
  add_bench();
  add_version();
  add_completion();
  add_manual();
}

int CommandLine::run(std::vector<std::string> words) {
  std::reverse(words.begin(), words.end());  // as CLI11 wants them
  try {
    app_.parse(std::move(words));
  } catch (const CLI::Success& help) {
    std::ostringstream text;
    app_.exit(help, text, text);
    fmt::print("{}", text.str());
    return 0;
  } catch (const CLI::ParseError& error) {
    throw ArgumentError(explain(app_, error));
  }
  return action_();
}

std::vector<std::string> CommandLine::choices(const CLI::Option& option) const {
  const auto found = choices_.find(&option);
  return found == choices_.end() ? std::vector<std::string>{} : found->second;
}

template <typename Flags>
void CommandLine::on_chosen(CLI::App& command, Flags& flags) {
  command.callback([this, &flags] {
    action_ = [&flags] {
      prepare(flags);
      return run_in_library(flags);
    };
  });
}

void CommandLine::add_train() {
  auto& command = *app_.add_subcommand("train", "Train a recipe in a run folder");
  add_text(command, "recipe", train_.recipe, kRecipe, "TOML file; see recipes/");
  add_texts(command, "--set", train_.set, "KEY=VALUE", "Override a key: --set train.lr=3e-4");
  add_text(command, "--data", train_.data, kFolder, kDataDoc);
  add_text(command, "--out", train_.out, kFolder, "Run folder (default runs/RECIPE-seedN)");
  add_whole(command, "--seed", train_.seed, {0}, "Seed of every random choice");
  add_whole(command, "--threads", train_.threads, {1, static_cast<std::int64_t>(kMostThreads)},
            "Threads (default 1: run seeds side by side)");
  command.add_flag("--resume", train_.resume,
                   "Go on with an interrupted run, or extend one: --set train.epochs=40");
  command.add_flag("--json", train_.json, "Print the summary as JSON");
  command.add_flag("--quiet", train_.quiet, "No progress");
  add_text(command, "--status", train_.status, kFile,
           "Keep epoch, rate, loss and time left in this file, as JSON");
  auto* list_keys =
      command.add_flag("--list-keys", train_.list_keys, "List every recipe key and its default");
  for (auto* option : command.get_options()) {
    if (option != list_keys && option->get_name() != "--help") list_keys->excludes(option);
  }
  command.add_flag("--markdown", train_.markdown, "With --list-keys: as a Markdown page");
  command.callback([this] {
    action_ = [this] {
      prepare(train_);
      if (train_.list_keys && print_written_keys(train_.markdown)) return 0;
      return run_in_library(train_);
    };
  });
}

void CommandLine::add_eval() {
  auto& command = *app_.add_subcommand(
      "eval", "Judge a trained model on its test data, or a published one on texts");
  add_text(command, "run", eval_.run, kRun, "Run folder, or a published model's folder")
      ->required();
  auto* data = add_text(command, "--data", eval_.data, kFolder, kDataDoc);
  auto* texts = add_texts(command, "--text", eval_.texts, kFile,
                          "Text that a published model is judged on, each a domain");
  texts->excludes(data);
  add_whole(command, "--window", eval_.window, {2, kMostTokens},
            "With --text: tokens at a time (default: the context, 1024 at most)")
      ->needs(texts);
  command.add_flag("--json", eval_.json, kJsonDoc);
  on_chosen(command, eval_);
}

void CommandLine::add_inspect() {
  auto& command = *app_.add_subcommand("inspect", "Show which expert does what in a finished run");
  add_text(command, "run", inspect_.run, kRun, "Run folder")->required();
  add_text(command, "--data", inspect_.data, kFolder, kDataDoc);
  auto* against = add_text(command, "--against", inspect_.against, kRun,
                           "Another run on the same test images: adds the router's saturation");
  auto* flops =
      command.add_flag("--flops", inspect_.flops,
                       "Count the operations of a forward pass instead, by part of the model");
  flops->excludes(against);
  add_whole(command, "--batch", inspect_.batch, {1, kMostBatch},
            "Test samples of the pass that --flops counts (default 1)")
      ->needs(flops);
  command.add_flag("--json", inspect_.json, kJsonDoc);
  on_chosen(command, inspect_);
}

void CommandLine::add_merge() {
  auto& command = *app_.add_subcommand(
      "merge", "Merge a finished run's experts into fewer, and show what that cost");
  auto& options = merge_.options;
  add_text(command, "run", merge_.run, kRun, "Run folder")->required();
  add_text(command, "-o,--output", merge_.output, kFolder, "Run folder of the merged model, new")
      ->required();
  add_whole(command, "--keep", options.keep, {1, kMostExperts}, "Experts each layer has then")
      ->required();
  add_enum(command, choices_, "--method", options.method, "By what experts are alike");
  add_enum(command, choices_, "--linkage", options.linkage,
           "How alike two groups are: as their pairs on average, the least or the most alike ones");
  add_enum(command, choices_, "--weights", options.weights, "Of the experts in their group's mean");
  command.add_flag("--align", options.align,
                   "Exchange hidden units first, so that like ones lie in like places");
  add_enum(command, choices_, "--router", options.router,
           "What the router has for a group: its rows for the most used expert, or their mean");
  add_whole(command, "--samples", options.samples, {1, kMostSamples},
            "Training images to calibrate on (default 2000, or all)");
  add_whole(command, "--seed", options.seed, {0}, "Draws them")
      ->default_str(std::to_string(options.seed));
  add_text(command, "--data", merge_.data, kFolder, kDataDoc);
  command.add_flag("--json", merge_.json, kJsonDoc);
  on_chosen(command, merge_);
}

void CommandLine::add_generate() {
  auto& command = *app_.add_subcommand(
      "generate", "Go on with a text by a finished run's model, or a published one");
  command.alias("run");
  auto& options = generate_.options;
  add_text(command, "run", generate_.run, kRun,
           "Run folder of a language model, or a published model's folder")
      ->required();
  add_text(command, "--prompt", options.prompt, "TEXT", "What the text begins with");
  add_whole(command, "--tokens", options.tokens, {1, kMostTokens}, "Tokens that are added at most")
      ->default_str(std::to_string(options.tokens));
  add_real(command, "--temperature", options.temperature, {0, kMostTemperature},
           "Above 1 more varied, below 1 more certain; 0: always the likeliest token")
      ->default_str("1");
  add_whole(command, "--top-k", options.top_k, {0, kMostTokens},
            "Draw from so many of the likeliest tokens; 0: from all");
  add_real(command, "--top-p", options.top_p, {0, 1},
           "Draw from the likeliest tokens that have this share together")
      ->default_str("1");
  add_whole(command, "--seed", options.seed, {0}, "Draws the tokens")
      ->default_str(std::to_string(options.seed));
  add_texts(command, "--stop", options.stop, "TEXT", "End before this text");
  std::vector<std::string> formats;
  for (const auto& format : kernels::weight_formats()) formats.emplace_back(format.name);
  add_choice(command, choices_, "--weights", formats,
             "Pack feed-forward networks in this format first",
             [this](const std::string& text) { generate_.weights = text; });
  command.add_flag("--json", generate_.json, kJsonDoc);
  on_chosen(command, generate_);
}

void CommandLine::add_describe() {
  auto& command = *app_.add_subcommand(
      "describe", "Say what a published mixture is, by its config.json and its files' headers");
  add_text(command, "model", describe_.model, kFolder, "Its folder, or a config.json alone")
      ->required();
  command.add_flag("--json", describe_.json, kJsonDoc);
  on_chosen(command, describe_);
}

void CommandLine::add_trace() {
  auto& command = *app_.add_subcommand(
      "trace", "Write what a published model computes: hidden states, routing, logits, tokens");
  add_text(command, "model", trace_.model, kFolder, "Its folder")->required();
  add_text(command, "--ids", trace_.ids, kFile, R"(JSON file: {"input_ids": [[1, 2, 3]]})")
      ->required();
  add_text(command, "-o,--output", trace_.output, kFile, "The safetensors file that is written")
      ->required();
  on_chosen(command, trace_);
}

void CommandLine::add_report() {
  auto& command = *app_.add_subcommand("report", "Write one HTML page over finished runs");
  command.add_option("runs", report_.runs, "Run folders")->required()->type_name(kRun);
  add_text(command, "-o,--output", report_.output, kFile, "The page (default report.html)");
  add_text(command, "--data", report_.data, kFolder, kDataDoc);
  on_chosen(command, report_);
}

void CommandLine::add_reproduce() {
  auto& command = *app_.add_subcommand(
      "reproduce", "Run a paper's experiments and print our figures beside the paper's");
  auto& flags = reproduce_;
  add_text(command, "paper", flags.paper, kPaper, "Name of a folder in recipes/, as attentive-gate")
      ->required();
  auto* quick =
      command.add_flag("--quick", flags.quick, "The scaled-down tier (default), about ten minutes");
  command.add_flag("--full", flags.full, "The paper's own settings; hours")->excludes(quick);
  add_whole(command, "--seeds", flags.seeds, {1, kMostSeeds}, "Seeds a row");
  add_whole(command, "--jobs", flags.jobs, {1, kMostJobs}, "Runs at a time (default: one a core)");
  add_text(command, "--rows", flags.rows, "PATTERN",
           "Only rows whose name fits this pattern: 'mnist/*'");
  add_texts(command, "--set", flags.set, "KEY=VALUE", "Override a key in every row, as in train");
  add_text(command, "--data", flags.data, kFolder, kDataDoc);
  add_text(command, "--out", flags.out, kFolder, "Folder of the runs (default runs/PAPER-TIER)");
  add_text(command, "--markdown", flags.markdown, kFile, "Also write the tables to this file");
  add_text(command, "--report", flags.report, kFile, "The report page (default OUT/report.html)");
  command.add_flag("--json", flags.json, kJsonDoc);
  auto* table_only =
      command.add_flag("--table-only", flags.table_only, "Train nothing: tables of what is there");
  auto* until = command.add_flag("--until-decided", flags.until_decided,
                                 "Add seeds while a claim is undecided, up to --max-seeds");
  until->excludes(table_only);
  auto* most = add_whole(command, "--max-seeds", flags.max_seeds, {1, kMostSeeds},
                         "Seeds a row at most, with --until-decided");
  most->needs(until);
  until->needs(most);
  command.add_flag("--allow-missing", flags.allow_missing,
                   "Also judge claims on rows that lack seeds");
  auto* check = add_text(command, "--check", flags.check, kFile,
                         "Hold a committed table against its own record and a few new runs");
  add_whole(command, "--sample", flags.sample, {0, kMostSeeds},
            "Runs that --check repeats (default 3)")
      ->needs(check);
  command.add_flag("--quiet", flags.quiet, "No progress");
  // The record says which rows, seeds and overrides a table was made of.
  for (const char* name :
       {"--quick", "--full", "--seeds", "--rows", "--set", "--markdown", "--report", "--json",
        "--table-only", "--until-decided", "--allow-missing"}) {
    check->excludes(command.get_option(name));
  }
  on_chosen(command, flags);
}

void CommandLine::add_data() {
  auto& group =
      *app_.add_subcommand("data", "Data sets: list, show, download; texts: cut into tokens");
  group.require_subcommand(1);
  auto& list = *group.add_subcommand("list", "Known data sets and where they were found");
  auto& info = *group.add_subcommand("info", "Sizes and class counts of one");
  auto& fetch = *group.add_subcommand(
      "fetch", "Download one from its public home into the user's cache, or into --data");
  for (auto* command : {&list, &info, &fetch}) {
    add_text(*command, "--data", data_.data, kFolder, kDataDoc);
  }
  for (auto* command : {&info, &fetch}) {
    add_text(*command, "name", data_.name, "NAME", "Name, as in the list")->required();
  }
  for (auto* command : {&list, &info}) command->add_flag("--json", data_.json, kJsonDoc);
  add_text(fetch, "--mirror", data_.mirror, "URL", "Address of a folder with the same files");
  auto& tokenize = *group.add_subcommand(
      "tokenize", "Cut a recipe's texts into tokens once, for its key data.tokens");
  add_text(tokenize, "recipe", tokenize_.recipe, kRecipe, "TOML file of a language model")
      ->required();
  add_texts(tokenize, "--set", tokenize_.set, "KEY=VALUE", "Override a key, as in train");
  add_text(tokenize, "-o,--out", tokenize_.out, kFolder,
           "Folder of the tokens; one that was not finished is gone on with")
      ->required();
  tokenize.add_flag("--json", tokenize_.json, kJsonDoc);
  on_chosen(tokenize, tokenize_);
  const std::vector<std::pair<CLI::App*, DataAction>> actions{
      {&list, DataAction::kList}, {&info, DataAction::kInfo}, {&fetch, DataAction::kFetch}};
  for (const auto& [command, action] : actions) {
    command->callback([this, action = action] {
      data_.action = action;
      action_ = [this] { return run_in_library(data_); };
    });
  }
}

namespace {

/// 10^9 operations a second of each set, and which operands it multiplies; what is measured here is
/// chosen from now on.
int print_isas() {
  const auto measured = kernels::measure_sets();
  kernels::keep_choice({kernels::choose_paths(measured.rates), measured.refused});
  const auto forced = kernels::forced_isa();
  const auto paths = forced ? kernels::FormatPaths(*forced) : kernels::choose_paths(measured.rates);
  const auto use_of = [&](kernels::Isa isa) -> std::string {
    const auto& refused = measured.refused;
    if (std::find(refused.begin(), refused.end(), isa) != refused.end()) {
      return "  refused by the processor";
    }
    std::vector<std::string> what;
    if (paths.f32 == isa) what.emplace_back("f32");
    if (paths.bf16 == isa) what.emplace_back("bf16");
    if (paths.int8 == isa) what.emplace_back("integers");
    return what.empty() ? "" : fmt::format("  runs {}", fmt::join(what, ", "));
  };
  fmt::print("{:12} {:>8} {:>8} {:>8}  10^9 operations a second\n", "", "f32", "bf16", "int8");
  for (const auto isa : kernels::supported_isas()) {
    const auto rate = std::find_if(measured.rates.begin(), measured.rates.end(),
                                   [&](const auto& other) { return other.isa == isa; });
    if (rate == measured.rates.end()) {
      fmt::print("{:12} {:>8} {:>8} {:>8}{}\n", kernels::isa_name(isa), "-", "-", "-", use_of(isa));
    } else {
      fmt::print("{:12} {:8.0f} {:8.0f} {:8.0f}{}\n", kernels::isa_name(isa), rate->f32 / 1e9,
                 rate->bf16 / 1e9, rate->int8 / 1e9, use_of(isa));
    }
  }
  if (forced) {
    fmt::print("MOEKIT_ISA: {} for all\n", kernels::isa_name(*forced));
  } else {
    fmt::print("f32       {}\nbf16      {}\nintegers  {}\n",
               kernels::why_chosen(measured.rates, &kernels::IsaRates::f32),
               kernels::why_chosen(measured.rates, &kernels::IsaRates::bf16),
               kernels::why_chosen(measured.rates, &kernels::IsaRates::int8));
    if (const auto file = kernels::choice_file()) fmt::print("kept in {}\n", file->string());
  }
  return 0;
}

}  // namespace

void CommandLine::add_bench() {
  auto& group = *app_.add_subcommand("bench", "Measure the kernels on this machine");
  group.require_subcommand(1);
  group
      .add_subcommand("isa",
                      "Instruction sets this machine has, what one thread reaches with them, and "
                      "which runs what; MOEKIT_ISA forces one")
      ->callback([this] { action_ = print_isas; });
  add_bench_moe(group);
  add_bench_merged(group);
  add_bench_merging(group);
}

void CommandLine::add_bench_moe(CLI::App& bench) {
  auto& command = *bench.add_subcommand(
      "moe", "A sparse layer against the machine's limits and libtorch, measured in the same run");
  auto& options = bench_.options;
  std::vector<std::string> shapes, formats, isas;
  for (const auto& shape : bench::layer_shapes()) shapes.emplace_back(shape.name);
  for (const auto& format : kernels::weight_formats()) formats.emplace_back(format.name);
  for (const auto isa : kernels::known_isas()) isas.emplace_back(kernels::isa_name(isa));
  add_choice(command, choices_, "--shape", shapes, "Of the layer",
             [&options](const std::string& text) { options.shape = text; })
      ->default_str(options.shape);
  add_wholes(command, "--tokens", options.tokens, {1, 65536}, "Numbers of tokens, comma separated")
      ->default_str("1,4,32,512");
  add_choices(command, choices_, "--format", formats, "Of the weights, all by default",
              [&options](const std::string& text) {
                options.formats.push_back(kernels::parse_weight_format(text));
              });
  add_wholes(command, "--threads", options.threads, {1, 256}, "Numbers of threads, comma separated")
      ->default_str("1");
  add_enum(command, choices_, "--routing", options.routing, "Where the experts come from");
  command.add_option("--trace", options.trace, "Routing trace of a run, for --routing trace")
      ->type_name(kFile);
  add_enum(command, choices_, "--pass", options.pass,
           "Forward alone, or a step of training with all gradients");
  add_choice(command, choices_, "--isa", isas, "Instruction set (default: the fastest there is)",
             [this](const std::string& text) { isa_ = text; });
  add_whole(command, "--runs", options.enough.runs, {1, 1'000'000}, "At least so many runs")
      ->default_str(std::to_string(options.enough.runs));
  add_real(command, "--seconds", options.enough.seconds, {0, kSecondsOfADay}, "At least so long")
      ->default_str(fmt::format("{}", options.enough.seconds));
  add_whole(command, "--seed", options.seed, {0}, "Of routing and values")
      ->default_str(std::to_string(options.seed));
  command.add_flag_callback(
      "--no-baselines", [&options] { options.baselines = false; }, "Leave libtorch out");
  command.add_flag("--json", bench_.json, kJsonDoc);
  command.callback([this] {
    action_ = [this] {
      prepare(bench_, isa_);
      return run_in_library(bench_);
    };
  });
}

void CommandLine::add_bench_merged(CLI::App& bench) {
  auto& command = *bench.add_subcommand(
      "merged",
      "Linear layers of experts with a gate for each sequence: each chosen expert against their "
      "merged weights");
  auto& options = bench_merged_.options;
  add_wholes(command, "--sequences", options.sequences, {1, 65536},
             "Numbers of sequences, comma separated")
      ->default_str("8,1");
  add_wholes(command, "--length", options.lengths, {1, 65536},
             "Tokens of a sequence, comma separated")
      ->default_str("8,32,128");
  add_wholes(command, "--top-k", options.experts_chosen, {1, 65536},
             "Experts chosen, comma separated")
      ->default_str("1,2,4,8");
  const std::vector<std::tuple<const char*, std::int64_t*, const char*>> sizes{
      {"--experts", &options.num_experts, "Experts there are"},
      {"--hidden-size", &options.hidden_size, "D of the layer D to F to D"},
      {"--intermediate-size", &options.intermediate_size, "F of it"}};
  for (const auto& [name, target, doc] : sizes) {
    add_whole(command, name, *target, {1, 65536}, doc)->default_str(std::to_string(*target));
  }
  add_whole(command, "--threads", options.threads, {1, 256}, "Threads")
      ->default_str(std::to_string(options.threads));
  add_enum(command, choices_, "--pass", options.pass,
           "Forward alone, or forward and backward with all gradients");
  add_whole(command, "--runs", options.enough.runs, {1, 1'000'000}, "At least so many runs")
      ->default_str(std::to_string(options.enough.runs));
  add_real(command, "--seconds", options.enough.seconds, {0, kSecondsOfADay}, "At least so long")
      ->default_str(fmt::format("{}", options.enough.seconds));
  add_whole(command, "--seed", options.seed, {0}, "Of weights and values")
      ->default_str(std::to_string(options.seed));
  command.add_flag("--json", bench_merged_.json, kJsonDoc);
  on_chosen(command, bench_merged_);
}

void CommandLine::add_bench_merging(CLI::App& bench) {
  auto& command = *bench.add_subcommand(
      "merging",
      "The mean of a layer's experts against the memory's bandwidth and libtorch, and the matching "
      "of two experts' hidden units");
  auto& options = bench_merging_.options;
  const std::vector<std::tuple<const char*, std::int64_t*, WholeRange, const char*>> sizes{
      {"--experts", &options.num_experts, {2, 65536}, "Gated experts, float32"},
      {"--hidden-size", &options.hidden_size, {1, 65536}, "D of each"},
      {"--intermediate-size", &options.intermediate_size, {1, 65536}, "F of each"},
      {"--units", &options.units, {0, 16384}, "F of the two that are matched; 0: none"},
      {"--threads", &options.threads, {1, 256}, "Threads"}};
  for (const auto& [name, target, range, doc] : sizes) {
    add_whole(command, name, *target, range, doc)->default_str(std::to_string(*target));
  }
  add_whole(command, "--runs", options.enough.runs, {1, 1'000'000}, "At least so many runs")
      ->default_str(std::to_string(options.enough.runs));
  add_real(command, "--seconds", options.enough.seconds, {0, kSecondsOfADay}, "At least so long")
      ->default_str(fmt::format("{}", options.enough.seconds));
  add_whole(command, "--seed", options.seed, {0}, "Of the weights")
      ->default_str(std::to_string(options.seed));
  command.add_flag("--json", bench_merging_.json, kJsonDoc);
  on_chosen(command, bench_merging_);
}

void CommandLine::add_completion() {
  auto& command = *app_.add_subcommand(
      "completion", "Print what makes a shell complete commands, flags and names");
  add_choice(command, choices_, "shell", {"bash", "zsh"},
             "Of which shell; to be sourced, or put where the shell looks for completions",
             [this](const std::string& text) { shell_ = text; })
      ->required();
  command.callback([this] {
    action_ = [this] {
      fmt::print("{}", completion_script(shell_));
      return 0;
    };
  });
}

void CommandLine::add_manual() {
  auto& command = *app_.add_subcommand("man", "Print a page of the manual, for man or mandoc");
  add_choice(command, choices_, "command", command_names(app_),
             "Whose page; without it that of moekit itself",
             [this](const std::string& text) { manual_of_ = text; });
  command.callback([this] {
    action_ = [this] {
      fmt::print("{}", manual_page(*this, manual_of_));
      return 0;
    };
  });
}

void CommandLine::add_version() {
  app_.add_subcommand("version", "Print the versions of moekit and libtorch")->callback([this] {
    action_ = [] {
      fmt::print("{}\n", version_text());
      return 0;
    };
  });
}

}  // namespace moekit::cli
