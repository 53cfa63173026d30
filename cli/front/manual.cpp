#include "cli/front/manual.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>
#include <utility>

#include "cli/front/completion.h"
#include "moekit/core/version.h"

namespace moekit::cli {
namespace {

constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kExitCodes{{
    {"0", "Done."},
    {"1", "Failed: a file, a disk, a number; also when the output could not be written."},
    {"2", "Misused: a wrong flag, an unknown key, an impossible value."},
    {"130", "Interrupted and saved."},
}};

constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kEnvironment{{
    {"MOEKIT_DATA", "Folder of data sets, searched after --data."},
    {"MOEKIT_ISA", "Instruction set of the kernels; \"moekit bench isa\" lists them."},
    {"MOEKIT_RECIPES", "Folder of papers for \"moekit reproduce\", searched first."},
    {"XDG_CACHE_HOME",
     "Where \"moekit data fetch\" puts files: its folder moekit. Default: "
     "~/.cache."},
}};

/// A text in the roff language: every sign stands for itself.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else if (c == '\'') {
      out += "\\(aq";
    } else {
      out += c;
    }
  }
  return out.rfind('.', 0) == 0 ? "\\&" + out : out;
}

std::string upper(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return text;
}

std::string item(std::string_view head, std::string_view text) {
  return fmt::format(".TP\n.B {}\n{}\n", escaped(head), escaped(text));
}

/// "\fB\-o\fR, \fB\-\-output\fR \fIFILE\fR"
std::string option_head(const CLI::Option& option) {
  if (option.get_positional()) return fmt::format("\\fI{}\\fR", escaped(option.get_name()));
  std::string head;
  for (const auto& name : option.get_snames())
    head += fmt::format("\\fB\\-{}\\fR, ", escaped(name));
  for (const auto& name : option.get_lnames()) {
    head += fmt::format("\\fB\\-\\-{}\\fR, ", escaped(name));
  }
  head.resize(head.size() - 2);
  if (takes_value(option)) head += fmt::format(" \\fI{}\\fR", escaped(option.get_type_name()));
  return head;
}

std::string options_text(const CLI::App& app) {
  std::string text;
  for (const bool positional : {true, false}) {
    for (const CLI::Option* option : app.get_options()) {
      if (option->get_positional() != positional) continue;
      std::string doc = escaped(option->get_description());
      if (!option->get_default_str().empty()) {
        doc += fmt::format(" (default {})", escaped(option->get_default_str()));
      }
      text += fmt::format(".TP\n{}\n{}\n", option_head(*option), doc);
    }
  }
  return text;
}

std::string synopsis_line(const CLI::App& app, const std::string& name) {
  std::string text = fmt::format(".B {}\n", escaped(name));
  for (const CLI::Option* option : app.get_options()) {
    if (!option->get_positional()) continue;
    const char* dots = option->get_expected_max() > 1 ? " ..." : "";
    const std::string word = fmt::format("\\fI{}\\fR{}", escaped(option->get_name()), dots);
    text += option->get_required() ? word + "\n" : "[" + word + "]\n";
  }
  return text + "[\\fIflags\\fR]\n";
}

using Apps = std::vector<const CLI::App*>;

Apps commands_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

/// A command's synopsis, or that of each command below it.
std::string synopsis(const CLI::App& app, const std::string& name) {
  const Apps below = commands_of(app);
  if (below.empty()) return synopsis_line(app, name);
  std::string text;
  for (const CLI::App* command : below) {
    if (!text.empty()) text += ".br\n";
    text += synopsis_line(*command, name + " " + command->get_name());
  }
  return text;
}

std::string tail(const Apps& see_also, const CLI::App* except) {
  std::string text = ".SH EXIT STATUS\n";
  for (const auto& [code, what] : kExitCodes) text += item(code, what);
  text += ".SH ENVIRONMENT\n";
  for (const auto& [name, what] : kEnvironment) text += item(name, what);
  text += ".SH SEE ALSO\n";
  std::string pages = except == nullptr ? "" : ".BR moekit (1)";
  for (const CLI::App* command : see_also) {
    if (command == except) continue;
    if (!pages.empty()) pages += ",\n";
    pages += fmt::format(".BR moekit\\-{} (1)", escaped(command->get_name()));
  }
  return text + pages + "\n";
}

std::string head(const std::string& name, const std::string& what) {
  // The date is that of the build; SOURCE_DATE_EPOCH sets it.
  return fmt::format(".TH {} 1 {} \"moekit {}\" moekit\n.SH NAME\n{} \\- {}\n.SH SYNOPSIS\n",
                     escaped(upper(name)), MOEKIT_MANUAL_DATE, version(), escaped(name),
                     escaped(what));
}

std::string main_page(const CommandLine& line) {
  const CLI::App& app = line.app();
  std::string text = head("moekit", app.get_description()) +
                     ".B moekit\n\\fIcommand\\fR\n[\\fIwords and flags\\fR]\n.SH COMMANDS\n";
  for (const CLI::App* command : commands_of(app)) {
    text += item(command->get_name(), command->get_description() + ".");
  }
  return text + ".SH OPTIONS\n" + options_text(app) + tail(commands_of(app), nullptr);
}

std::string command_page(const CommandLine& line, const CLI::App& command) {
  const std::string name = command.get_name();
  std::string text = head("moekit-" + name, command.get_description()) +
                     synopsis(command, "moekit " + name) + ".SH DESCRIPTION\n" +
                     escaped(command.get_description()) + ".\n";
  const Apps below = commands_of(command);
  text += ".SH OPTIONS\n" + options_text(command);
  for (const CLI::App* inner : below) {
    text += fmt::format(".SS {}\n{}.\n{}", escaped(name + " " + inner->get_name()),
                        escaped(inner->get_description()), options_text(*inner));
  }
  return text + tail(commands_of(line.app()), &command);
}

}  // namespace

std::string manual_page(const CommandLine& line, const std::string& command) {
  for (const CLI::App* app : commands_of(line.app())) {
    if (app->get_name() == command) return command_page(line, *app);
  }
  return main_page(line);
}

}  // namespace moekit::cli
