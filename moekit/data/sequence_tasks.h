#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "moekit/data/corpora.h"

namespace moekit::data {

/// Small tasks on digits as texts, a domain for each and a document for each question:
///     copy      "c 3141=3141\n"     the digits
///     reverse   "r 3141=1413\n"     in reverse
///     sum       "s 3141=3489\n"     each with those before it, modulo 10
///     majority  "m 0110110=1\n"     whichever of 0 and 1 there is more of; an odd number of them
/// What stands behind '=' is the answer. @param names  of them, each once
/// @param documents  of each task @param digits  of a question, at least 1; of majority one more
///        where it is even
/// @throws ArgumentError naming a task that there is not
std::vector<TextDomain> sequence_tasks(const std::vector<std::string>& names, int64_t documents,
                                       int64_t digits, uint64_t seed);

}  // namespace moekit::data
