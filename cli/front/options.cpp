#include "cli/front/options.h"

#include <charconv>
#include <cmath>

#include "moekit/core/error.h"
#include "moekit/core/words.h"

namespace moekit::cli {
namespace {

std::string range_text(WholeRange range) {
  return range.most == std::numeric_limits<std::int64_t>::max()
             ? concat("from ", range.least)
             : concat(range.least, "..", range.most);
}

/// What stands between the commas, empty texts too: CLI11's own splitting drops them.
std::vector<std::string> parts_of(const std::string& list) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  for (std::size_t comma = 0; comma != std::string::npos; begin = comma + 1) {
    comma = list.find(',', begin);
    parts.push_back(list.substr(begin, comma - begin));
  }
  return parts;
}

std::vector<std::string_view> views(const std::vector<std::string>& texts) {
  return {texts.begin(), texts.end()};
}

}  // namespace

std::int64_t parse_whole(const std::string& option, const std::string& text, WholeRange range) {
  std::int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  MOEKIT_CHECK(error != std::errc::result_out_of_range, option, " must be a whole number ",
               range_text(range), "; got ", text, ", which 64 bits do not hold");
  MOEKIT_CHECK(error == std::errc{} && stop == end && value >= range.least && value <= range.most,
               option, " must be a whole number ", range_text(range), "; got ", text);
  return value;
}

double parse_real(const std::string& option, const std::string& text, RealRange range) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  MOEKIT_CHECK(error == std::errc{} && stop == end && std::isfinite(value) &&
                   value >= range.least && value <= range.most,
               option, " must be a number ", range.least, "..", range.most, "; got ", text);
  return value;
}

void check_choice(const std::string& option, const std::string& text,
                  const std::vector<std::string>& choices) {
  for (const auto& choice : choices) {
    if (choice == text) return;
  }
  throw ArgumentError(concat(option, " must be ", join_choices(views(choices)), "; got ", text,
                             did_you_mean(text, choices)));
}

std::string full_name(const CLI::App& app, const std::string& option) {
  std::string path;
  for (const CLI::App* at = &app; at->get_parent() != nullptr; at = at->get_parent()) {
    path = path.empty() ? at->get_name() : concat(at->get_name(), " ", path);
  }
  return concat(path, ": ", option.substr(option.find(',') + 1));
}

CLI::Option* add_text(CLI::App& app, const std::string& name, std::string& target,
                      const char* takes, const std::string& doc) {
  return detail::add_value(app, name, takes, doc,
                           [&target, full = full_name(app, name)](const std::string& text) {
                             MOEKIT_CHECK(!text.empty(), full, " must not be empty");
                             target = text;
                           });
}

CLI::Option* add_texts(CLI::App& app, const std::string& name, std::vector<std::string>& target,
                       const char* takes, const std::string& doc) {
  // Without this, the flag would swallow the words behind its value.
  return app.add_option(name, target, doc)->type_name(takes)->allow_extra_args(false);
}

namespace detail {

CLI::Option* add_value(CLI::App& app, const std::string& name, const char* takes,
                       const std::string& doc,
                       const std::function<void(const std::string& text)>& store) {
  return app
      .add_option(
          name,
          [store](const CLI::results_t& given) {
            store(given.back());
            return true;
          },
          doc)
      ->type_name(takes);
}

CLI::Option* add_list(CLI::App& app, const std::string& name, const char* takes,
                      const std::string& doc,
                      const std::function<void(const std::vector<std::string>& texts)>& store) {
  return app
      .add_option(
          name,
          [store](const CLI::results_t& given) {
            std::vector<std::string> texts;
            for (const auto& list : given) {
              const auto parts = parts_of(list);
              texts.insert(texts.end(), parts.begin(), parts.end());
            }
            store(texts);
            return true;
          },
          doc)
      ->type_name(takes)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

}  // namespace detail

CLI::Option* add_real(CLI::App& app, const std::string& name, double& target, RealRange range,
                      const std::string& doc) {
  return detail::add_value(app, name, kNumber, doc,
                           [&target, range, full = full_name(app, name)](const std::string& text) {
                             target = parse_real(full, text, range);
                           });
}

CLI::Option* add_choice(CLI::App& app, Choices& choices, const std::string& name,
                        const std::vector<std::string>& known, const std::string& doc,
                        const std::function<void(const std::string& text)>& store) {
  CLI::Option* option =
      detail::add_value(app, name, "NAME", concat(doc, ": ", join_choices(views(known))),
                        [known, store, full = full_name(app, name)](const std::string& text) {
                          check_choice(full, text, known);
                          store(text);
                        });
  choices[option] = known;
  return option;
}

CLI::Option* add_choices(CLI::App& app, Choices& choices, const std::string& name,
                         const std::vector<std::string>& known, const std::string& doc,
                         const std::function<void(const std::string& text)>& store) {
  CLI::Option* option = detail::add_list(
      app, name, "NAME,NAME...", concat(doc, ": ", join_choices(views(known))),
      [known, store, full = full_name(app, name)](const std::vector<std::string>& texts) {
        for (const auto& text : texts) {
          check_choice(full, text, known);
          store(text);
        }
      });
  choices[option] = known;
  return option;
}

}  // namespace moekit::cli
