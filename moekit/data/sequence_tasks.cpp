#include "moekit/data/sequence_tasks.h"

#include <algorithm>
#include <random>

#include "moekit/core/error.h"
#include "moekit/core/random.h"

namespace moekit::data {
namespace {

using Answer = std::string (*)(const std::string& digits);

struct SequenceTask {
  const char* name;
  char mark;
  int base;  ///< digits are below it
  Answer answer;
};

std::string running_sum(const std::string& digits) {
  std::string out;
  int sum = 0;
  for (const char digit : digits) {
    sum = (sum + digit - '0') % 10;
    out += static_cast<char>('0' + sum);
  }
  return out;
}

const std::vector<SequenceTask>& tasks() {
  static const std::vector<SequenceTask> kTasks = {
      {"copy", 'c', 10, [](const std::string& digits) { return digits; }},
      {"reverse", 'r', 10,
       [](const std::string& digits) { return std::string(digits.rbegin(), digits.rend()); }},
      {"sum", 's', 10, running_sum},
      {"majority", 'm', 2,
       [](const std::string& digits) {
         const auto ones = std::count(digits.begin(), digits.end(), '1');
         return std::string(1, 2 * static_cast<size_t>(ones) > digits.size() ? '1' : '0');
       }},
  };
  return kTasks;
}

const SequenceTask& task_of(const std::string& name) {
  std::string known;
  for (const auto& task : tasks()) {
    if (name == task.name) return task;
    known += concat(known.empty() ? "" : ", ", task.name);
  }
  throw ArgumentError(concat("there is no task \"", name, "\"; known: ", known));
}

}  // namespace

std::vector<TextDomain> sequence_tasks(const std::vector<std::string>& names, int64_t documents,
                                       int64_t digits, uint64_t seed) {
  MOEKIT_CHECK(documents >= 1 && digits >= 1, "sequence_tasks: documents and digits must be at ",
               "least 1; got ", documents, " and ", digits);
  std::vector<TextDomain> domains;
  for (const auto& name : names) {
    const auto& task = task_of(name);
    MOEKIT_CHECK(std::count(names.begin(), names.end(), name) == 1, "task \"", name,
                 "\" is named twice");
    // Of two kinds of digits an even number could be as many of both.
    const int64_t count = task.base == 2 && digits % 2 == 0 ? digits + 1 : digits;
    std::mt19937_64 generator(derive_seed(seed, name));
    TextDomain domain{name, {}};
    for (int64_t i = 0; i < documents; ++i) {
      std::string question;
      for (int64_t d = 0; d < count; ++d) {
        question += static_cast<char>(
            '0' + static_cast<int>(uniform_below(generator, static_cast<uint64_t>(task.base))));
      }
      domain.documents.push_back(
          concat(task.mark, ' ', question, '=', task.answer(question), '\n'));
    }
    domains.push_back(std::move(domain));
  }
  return domains;
}

}  // namespace moekit::data
