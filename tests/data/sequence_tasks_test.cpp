#include "moekit/data/sequence_tasks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "moekit/core/error.h"
#include "moekit/core/random.h"

namespace moekit::data {
namespace {

struct Question {
  std::string digits, answer;
};

/// Takes a document apart. Fails where it has another form.
Question parts_of(const std::string& document, char mark) {
  EXPECT_EQ(document.substr(0, 2), std::string(1, mark) + " ");
  EXPECT_EQ(document.back(), '\n');
  const auto equals = document.find('=');
  EXPECT_NE(equals, std::string::npos);
  return {document.substr(2, equals - 2),
          document.substr(equals + 1, document.size() - equals - 2)};
}

TEST(SequenceTasks, AnswerTheirQuestions) {
  const auto domains = sequence_tasks({"copy", "reverse", "sum", "majority"}, 50, 6, 1);
  ASSERT_EQ(domains.size(), 4U);
  for (const auto& domain : domains) ASSERT_EQ(domain.documents.size(), 50U);
  for (size_t i = 0; i < 50; ++i) {
    const auto copy = parts_of(domains[0].documents[i], 'c');
    EXPECT_EQ(copy.digits.size(), 6U);
    EXPECT_EQ(copy.answer, copy.digits);
    const auto reverse = parts_of(domains[1].documents[i], 'r');
    EXPECT_EQ(std::string(reverse.answer.rbegin(), reverse.answer.rend()), reverse.digits);
    const auto sum = parts_of(domains[2].documents[i], 's');
    int so_far = 0;
    for (size_t d = 0; d < 6; ++d) {
      so_far += sum.digits[d] - '0';
      EXPECT_EQ(sum.answer[d] - '0', so_far % 10);
    }
    const auto majority = parts_of(domains[3].documents[i], 'm');
    EXPECT_EQ(majority.digits.size(), 7U);  // odd
    const auto ones = std::count(majority.digits.begin(), majority.digits.end(), '1');
    EXPECT_EQ(ones + std::count(majority.digits.begin(), majority.digits.end(), '0'), 7);
    EXPECT_EQ(majority.answer, ones >= 4 ? "1" : "0");
  }
}

TEST(SequenceTasks, AreThoseOfTheirSeedAndOfAllDigits) {
  const auto a = sequence_tasks({"copy"}, 200, 5, 1)[0].documents;
  EXPECT_EQ(a, sequence_tasks({"sum", "copy"}, 200, 5, 1)[1].documents);
  EXPECT_NE(a, sequence_tasks({"copy"}, 200, 5, 2)[0].documents);
  std::string all;
  for (const auto& document : a) all += document;
  for (char digit = '0'; digit <= '9'; ++digit) {
    // 2000 digits, each a tenth of them.
    EXPECT_NEAR(static_cast<double>(std::count(all.begin(), all.end(), digit)), 200, 60) << digit;
  }
}

TEST(SequenceTasks, AreDrawnDigitByDigit) {
  const auto domains = sequence_tasks({"majority", "sum"}, 3, 5, 8);
  ASSERT_EQ(domains.size(), 2U);
  EXPECT_EQ(domains[0].name, "majority");
  EXPECT_EQ(domains[1].name, "sum");
  for (const auto& domain : domains) {
    const bool bits = domain.name == "majority";
    std::mt19937_64 generator(derive_seed(8, domain.name));
    ASSERT_EQ(domain.documents.size(), 3U);
    for (const auto& document : domain.documents) {
      const auto question = parts_of(document, bits ? 'm' : 's');
      ASSERT_EQ(question.digits.size(), 5U);  // odd already
      for (const char digit : question.digits) {
        EXPECT_EQ(digit - '0', static_cast<int>(uniform_below(generator, bits ? 2 : 10)));
      }
    }
  }
}

TEST(SequenceTasks, RefuseWhatThereIsNot) {
  const auto refusal = [](const std::vector<std::string>& names, int64_t documents,
                          int64_t digits) {
    try {
      sequence_tasks(names, documents, digits, 1);
    } catch (const ArgumentError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(refusal({"sort"}, 1, 1),
            "there is no task \"sort\"; known: copy, reverse, sum, majority");
  EXPECT_EQ(refusal({"copy", "sum", "copy"}, 1, 1), "task \"copy\" is named twice");
  const std::string begin = "sequence_tasks: documents and digits must be at least 1; got ";
  EXPECT_EQ(refusal({"copy"}, 0, 1), begin + "0 and 1");
  EXPECT_EQ(refusal({"copy"}, 1, 0), begin + "1 and 0");
  EXPECT_EQ(refusal({"copy", "majority"}, 1, 1), "");
  EXPECT_EQ(refusal({}, 1, 1), "");
}

}  // namespace
}  // namespace moekit::data
