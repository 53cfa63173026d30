#include "cli/front/completion.h"

#include <fmt/format.h>

#include <string_view>

#include "cli/front/recipes.h"

namespace moekit::cli {
namespace {

using Words = std::vector<std::string>;

// The shell asks the program itself: what it offers cannot fall behind what it takes.
constexpr std::string_view kBash = R"(# Completion of moekit for bash: source this file.
_moekit() {
  local program=${COMP_WORDS[0]/#\~/$HOME} current=${COMP_WORDS[COMP_CWORD]}
  local kind word what
  COMPREPLY=()
  [[ $current == = ]] && current=
  {
    read -r kind || return 0
    case $kind in
      files) compopt -o filenames 2>/dev/null ;;
      folders | recipes) compopt -o filenames 2>/dev/null ;;
    esac
    case $kind in
      files) mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
      folders) mapfile -t COMPREPLY < <(compgen -d -- "$current") ;;
      recipes)
        mapfile -t COMPREPLY < <(compgen -f -X '!*.toml' -- "$current"; compgen -d -- "$current")
        ;;
      words)
        while IFS=$'\t' read -r word what; do COMPREPLY+=("$word"); done
        ;;
    esac
  } < <("$program" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  return 0
}
complete -F _moekit moekit
)";

constexpr std::string_view kZsh = R"(#compdef moekit
# Completion of moekit for zsh: a file _moekit in a folder of $fpath, or to be sourced.
_moekit() {
  local program=${words[1]/#\~/$HOME} kind line
  local -a lines found
  lines=("${(@f)$($program __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  kind=$lines[1]
  lines=("${(@)lines[2,-1]}")
  compset -P '--*='
  case $kind in
    files) _files ;;
    folders) _files -/ ;;
    recipes) _files -g '*.toml' ;;
    words)
      for line in $lines; do
        found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
      done
      _describe moekit found
      ;;
  esac
}
if [[ ${funcstack[1]} == _moekit ]]; then
  _moekit "$@"
else
  compdef _moekit moekit
fi
)";

/// bash takes "--flag=value" apart at the sign: three words, or two where nothing follows it.
void join_assignments(Words& words) {
  Words joined;
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] == "=" && !joined.empty() && joined.back().rfind("--", 0) == 0) {
      joined.back() += "=";
      if (i + 1 < words.size()) joined.back() += words[++i];
    } else {
      joined.push_back(words[i]);
    }
  }
  words = std::move(joined);
}

/// Where the cursor is: in which command, and what stands there.
struct Place {
  const CLI::App* app;
  const CLI::Option* value_of = nullptr;  ///< the flag whose value comes next
  size_t positionals = 0;                 ///< words of the command before
};

void step(Place& place, const std::string& word) {
  if (place.value_of != nullptr) {
    place.value_of = nullptr;
  } else if (word.rfind('-', 0) == 0) {
    const auto* option = place.app->get_option_no_throw(word);
    if (option != nullptr && takes_value(*option)) place.value_of = option;
  } else {
    for (const CLI::App* command :
         place.app->get_subcommands([](const CLI::App*) { return true; })) {
      if (command->get_name() == word) {
        place = {command};
        return;
      }
    }
    ++place.positionals;
  }
}

/// The word that the cursor's place asks for, or nothing.
const CLI::Option* positional_at(const Place& place) {
  const auto options =
      place.app->get_options([](const CLI::Option* option) { return option->get_positional(); });
  if (options.empty()) return nullptr;
  if (place.positionals < options.size()) return options[place.positionals];
  return options.back()->get_expected_max() > 1 ? options.back() : nullptr;
}

void add_matching(Candidates& found, const std::string& current, const std::string& word,
                  const std::string& what) {
  if (word.rfind(current, 0) == 0) found.words.emplace_back(word, what);
}

Candidates values_of(const CommandLine& line, const CLI::Option& option,
                     const std::string& current) {
  const std::string takes = option.get_type_name();
  if (takes == kFile) return {"files"};
  if (takes == kFolder || takes == kRun) return {"folders"};
  if (takes == kRecipe) return {"recipes"};
  Candidates found;
  const Words known = takes == kPaper ? study_names() : line.choices(option);
  // Of a list the last part is completed.
  const bool list = option.get_type_name().find(',') != std::string::npos;  // NAME,NAME...
  const auto comma = list ? current.rfind(',') : std::string::npos;
  const std::string before = comma == std::string::npos ? "" : current.substr(0, comma + 1);
  for (const auto& word : known) add_matching(found, current, before + word, "");
  return found;
}

}  // namespace

bool takes_value(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

std::vector<std::string> command_names(const CLI::App& app) {
  Words names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(command->get_name());
  }
  return names;
}

std::vector<std::string> flag_names(const CLI::App& app) {
  Words names;
  for (const CLI::Option* option : app.get_options()) {
    for (const auto& name : option->get_lnames()) names.push_back(name);
  }
  return names;
}

Candidates complete(const CommandLine& line, std::vector<std::string> words) {
  join_assignments(words);
  if (words.empty()) words.emplace_back();
  const std::string current = words.back();
  words.pop_back();
  Place place{&line.app()};
  for (const auto& word : words) step(place, word);
  if (place.value_of != nullptr) return values_of(line, *place.value_of, current);
  const auto equals = current.find('=');
  if (current.rfind("--", 0) == 0 && equals != std::string::npos) {
    const auto* option = place.app->get_option_no_throw(current.substr(0, equals));
    return option == nullptr ? Candidates{} : values_of(line, *option, current.substr(equals + 1));
  }
  Candidates found;
  if (current.rfind('-', 0) == 0) {
    for (const CLI::Option* option : place.app->get_options()) {
      for (const auto& name : option->get_lnames()) {
        add_matching(found, current, "--" + name, option->get_description());
      }
    }
    return found;
  }
  for (const CLI::App* command : place.app->get_subcommands([](const CLI::App*) { return true; })) {
    add_matching(found, current, command->get_name(), command->get_description());
  }
  const auto* positional = positional_at(place);
  return positional == nullptr ? found : values_of(line, *positional, current);
}

void print_candidates(const Candidates& candidates) {
  fmt::print("{}\n", candidates.kind);
  for (const auto& [word, what] : candidates.words) fmt::print("{}\t{}\n", word, what);
}

std::string completion_script(const std::string& shell) {
  return std::string(shell == "bash" ? kBash : kZsh);
}

}  // namespace moekit::cli
