#include "moekit/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

#include "moekit/text/utf8.h"

namespace moekit::text {
namespace {

// Unicode's White_Space; PCRE2's own \s also has U+180E.
constexpr const char* kWhiteSpace =
    "\\t-\\r\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}"
    "\\x{3000}";
constexpr const char* kWord = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
// Outside of classes Oniguruma looks Latin-1 up in another table, in which these are words too.
constexpr const char* kLatinNumbers = "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}";
constexpr const char* kHex = "0-9a-fA-F";

/// What Oniguruma's classes in brackets have: PCRE2's take symbols for no punctuation.
constexpr std::pair<std::string_view, const char*> kBracketClasses[] = {
    {"alpha", "\\p{Alphabetic}"},
    {"digit", "\\p{Nd}"},
    {"alnum", "\\p{Alphabetic}\\p{Nd}"},
    {"upper", "\\p{Uppercase}"},
    {"lower", "\\p{Lowercase}"},
    {"punct", "\\p{P}\\p{S}"},
    {"space", kWhiteSpace},
    {"word", kWord},
    {"xdigit", kHex},
};

// A step is a place to return to. Runs of white space that patterns step back through have rarely
// more than a thousand characters.
constexpr std::uint32_t kMatchLimit = 10'000'000;
constexpr std::uint32_t kHeapKilobytes = 64 * 1024;
constexpr std::size_t kJitStackBytes = 4 << 20;
constexpr std::size_t kMaxPatternBytes = 1 << 16;

/// What a match is found with; one a thread, for all patterns.
struct Scratch {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(32 << 10, kJitStackBytes, nullptr);

  Scratch() {
    MOEKIT_CHECK(data != nullptr && context != nullptr, "regular expressions: out of memory");
    pcre2_set_match_limit(context, kMatchLimit);
    pcre2_set_heap_limit(context, kHeapKilobytes);
    if (stack != nullptr) pcre2_jit_stack_assign(context, nullptr, stack);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
};

Scratch& scratch() {
  thread_local Scratch kept;
  return kept;
}

std::string pcre2_text(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

/// Goes through a pattern and writes it as PCRE2 reads it.
class Translator {
 public:
  Translator(std::string_view pattern, const Place& place) : in_(pattern), place_(place) {}

  std::string translate() {
    while (at_ < in_.size()) {
      if (in_[at_] == '\\') {
        escape();
      } else if (in_class_) {
        class_character();
      } else if (in_[at_] == '[') {
        open_class();
      } else if (in_[at_] == '{') {
        interval();
      } else if (in_.substr(at_, 2) == "(?") {
        group();
      } else {
        out_ += in_[at_++];
      }
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse_construct(std::string_view what) const {
    throw FormatError(concat(place_, ": the pattern ", in_quotes(in_), " has ", what, " at byte ",
                             at_, ", which is not supported"));
  }

  /// A class as `\w`: within [...] its content alone.
  void class_of(const std::string& content) {
    out_ += in_class_ ? content : concat("[", content, "]");
  }
  void class_without(const std::string& content) {
    if (in_class_) refuse_construct("the complement of a class within a class");
    out_ += concat("[^", content, "]");
  }

  void escape() {
    const char next = at_ + 1 < in_.size() ? in_[at_ + 1] : '\0';
    const std::size_t begin = at_;
    at_ += 2;
    switch (next) {
      case 's':
        return class_of(kWhiteSpace);
      case 'S':
        if (in_class_) {
          out_ += "\\P{White_Space}";
          return;
        }
        return class_without(kWhiteSpace);
      case 'w':
        return class_of(in_class_ ? kWord : concat(kWord, kLatinNumbers));
      case 'W':
        return class_without(concat(kWord, kLatinNumbers));
      case 'b':
      case 'B':
        if (in_class_) break;  // a backspace
        return word_boundary(next == 'b');
      case 'h':
        return class_of(kHex);
      case 'H':
        return class_without(kHex);
      case 'u':
        if (at_ + 4 > in_.size()) refuse_construct("\\u without four digits");
        out_ += concat("\\x{", in_.substr(at_, 4), "}");
        at_ += 4;
        return;
      case 'Q':
      case 'K':
        refuse_construct(concat("\\", next));
      default:
        break;
    }
    // A whole character: the rest of one must not be taken for something else.
    const std::size_t rest = at_ > in_.size() ? 0 : character_bytes(next);
    at_ = std::min(begin + 1 + rest, in_.size());
    // \p{L}, \x{e9}: what stands in braces is no interval.
    if (next != '\0' && std::string_view("pPxokg").find(next) != std::string_view::npos &&
        in_.substr(at_, 1) == "{") {
      at_ = std::min(in_.find('}', at_), in_.size() - 1) + 1;
    }
    out_ += in_.substr(begin, at_ - begin);
  }

  /// Between a character of \w and none, or where that is not so.
  void word_boundary(bool wanted) {
    const std::string word = concat("[", kWord, kLatinNumbers, "]");
    out_ += concat("(?:(?<=", word, ")(?", wanted ? "!" : "=", word, ")|(?<!", word, ")(?",
                   wanted ? "=" : "!", word, "))");
  }

  /// {,n} is {0,n}, and + behind an interval repeats it, where PCRE2 takes it for possessive.
  void interval() {
    const std::size_t end = in_.find_first_not_of("0123456789,", at_ + 1);
    const bool closed = end != std::string_view::npos && in_[end] == '}' && end > at_ + 1;
    if (closed && in_.substr(end + 1, 1) == "+") refuse_construct("+ behind an interval");
    out_ += closed && in_[at_ + 1] == ',' && end > at_ + 2 ? "{0" : "{";
    ++at_;
  }

  void open_class() {
    in_class_ = true;
    out_ += in_[at_++];
    if (at_ < in_.size() && in_[at_] == '^') out_ += in_[at_++];
    if (at_ < in_.size() && in_[at_] == ']') {  // the first one is a character
      out_ += "\\]";
      ++at_;
    }
  }

  void class_character() {
    if (in_[at_] == '[') {
      if (in_.substr(at_, 2) != "[:") refuse_construct("a class within a class");
      const std::size_t end = in_.find(":]", at_ + 2);
      if (end == std::string_view::npos) refuse_construct("[: without :]");
      const std::string_view name = in_.substr(at_ + 2, end - at_ - 2);
      const auto* const found = std::find_if(std::begin(kBracketClasses), std::end(kBracketClasses),
                                             [&](const auto& each) { return each.first == name; });
      if (found == std::end(kBracketClasses)) refuse_construct(concat("[:", name, ":]"));
      out_ += found->second;
      at_ = end + 2;
      return;
    }
    if (in_.substr(at_, 2) == "&&") refuse_construct("&& within a class");
    if (in_[at_] == ']') in_class_ = false;
    out_ += in_[at_++];
  }

  /// (?m) lets the dot match line breaks too, which PCRE2 calls (?s).
  void group() {
    out_ += in_.substr(at_, 2);
    at_ += 2;
    const std::size_t end = in_.find_first_not_of("imx-", at_);
    if (end == std::string_view::npos || (in_[end] != ':' && in_[end] != ')')) return;
    for (; at_ < end; ++at_) out_ += in_[at_] == 'm' ? 's' : in_[at_];
  }

  std::string_view in_;
  const Place& place_;
  std::size_t at_ = 0;
  bool in_class_ = false;
  std::string out_;
};

}  // namespace

std::string to_pcre2(std::string_view pattern, const Place& place) {
  return Translator(pattern, place).translate();
}

struct Regex::Code {
  std::string pattern;
  Place place;
  pcre2_code* compiled = nullptr;
  bool jit = false;

  ~Code() { pcre2_code_free(compiled); }
};

Regex::Regex(std::string_view pattern, Place place) : code_(std::make_unique<Code>()) {
  code_->pattern = pattern;
  code_->place = std::move(place);
  MOEKIT_CHECK_FORMAT(pattern.size() <= kMaxPatternBytes, code_->place, ": a pattern of ",
                      pattern.size(), " bytes; at most ", kMaxPatternBytes, " are accepted");
  MOEKIT_CHECK_FORMAT(!broken_utf8_at(pattern), code_->place, ": the pattern is not UTF-8");
  const std::string translated = to_pcre2(pattern, code_->place);
  // Without, a pattern could begin with (*NO_JIT), (*CRLF) and the like.
  MOEKIT_CHECK_FORMAT(translated.substr(0, 2) != "(*", code_->place, ": the pattern ",
                      in_quotes(pattern), " begins with (*, which repeats nothing");
  int error = 0;
  PCRE2_SIZE offset = 0;
  const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), &pcre2_compile_context_free);
  MOEKIT_CHECK(context != nullptr, "regular expressions: out of memory");
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  code_->compiled =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error,
                    &offset, context.get());
  MOEKIT_CHECK_FORMAT(code_->compiled != nullptr, code_->place, ": the pattern ",
                      in_quotes(pattern), " does not compile: ", pcre2_text(error), " (as ",
                      in_quotes(translated), ", at byte ", offset, ")");
  code_->jit = pcre2_jit_compile(code_->compiled, PCRE2_JIT_COMPLETE) == 0;
}

Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;
Regex::~Regex() = default;

std::optional<Span> Regex::find(std::string_view text, std::size_t from) const {
  const Scratch& with = scratch();
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  // PCRE2 is told the text's length, but 10.42 wants no null pointer in its compiled form.
  if (subject == nullptr) subject = reinterpret_cast<PCRE2_SPTR>("");
  const int found = code_->jit ? pcre2_jit_match(code_->compiled, subject, text.size(), from,
                                                 PCRE2_NO_UTF_CHECK, with.data, with.context)
                               : pcre2_match(code_->compiled, subject, text.size(), from,
                                             PCRE2_NO_UTF_CHECK, with.data, with.context);
  if (found == PCRE2_ERROR_NOMATCH) return std::nullopt;
  MOEKIT_CHECK_FORMAT(found >= 0, code_->place, ": the pattern ", in_quotes(code_->pattern),
                      " was given up at byte ", from, " of a text of ", text.size(), ": ",
                      pcre2_text(found));
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(with.data);
  const Span span{ends[0], ends[1]};
  MOEKIT_CHECK_FORMAT(from <= span.begin && span.begin <= span.end && span.end <= text.size(),
                      code_->place, ": the pattern ", in_quotes(code_->pattern),
                      " has matches that end before they begin");
  return span;
}

}  // namespace moekit::text
