#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "moekit/events/event_log.h"
#include "moekit/events/record_file.h"

namespace moekit::events {
namespace {
namespace fs = std::filesystem;

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  }
  return bytes;
}

// Written by tensorboard 2.21: the event below through its RecordWriter, and two more messages.
const char* const kRecord =
    "7700000000000000e6b4a6c309000000000000f83f10ac022a690a0b0a046c6f7373150000803e0a5a0a0575736167"
    "652a5109000000000000e0bf11000000000000f83f19000000000000f03f21000000000000d03f29000000000000d0"
    "3f3210000000000000e03f000000000000f83f3a10000000000000e83f000000000000d03f38da2916";
const char* const kStart = "09000000000000f83f10ac023a020801";
const char* const kVersion = "09000000000000f83f1a0d627261696e2e4576656e743a32";

Event example() {
  Event event{1.5, 300};
  event.figures.emplace();
  event.figures->scalars = {{"loss", 0.25F}};
  event.figures->histograms = {{"usage", {-0.5, 1.5, 1, 0.25, 0.25, {0.5, 1.5}, {0.75, 0.25}}}};
  return event;
}

TEST(MaskedCrc32c, IsThatOfTheStandardsExamplesMasked) {
  // RFC 3720, B.4: 32 zero bytes give 8a9136aa; "123456789" gives e3069283.
  EXPECT_EQ(masked_crc32c(std::string(32, '\0')), 0x0fd7fffaU);
  EXPECT_EQ(masked_crc32c("123456789"), 0xc78ab0e5U);
}

TEST(FrameRecord, GivesTensorBoardsBytes) {
  EXPECT_EQ(frame_record(encode(example())), from_hex(kRecord));
  EXPECT_EQ(encode({1.5, 300, {}, true}), from_hex(kStart));
  EXPECT_EQ(encode({1.5, 0, "brain.Event:2"}), from_hex(kVersion));
}

class EventsTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / concat("moekit-events-", ::getpid());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  fs::path write(const std::string& bytes) {
    write_file_atomic(folder_ / "file", bytes);
    return folder_ / "file";
  }
  fs::path folder_;
};

TEST_F(EventsTest, ReadsTensorBoardsBytes) {
  RecordReader reader(write(from_hex(kRecord)));
  const auto record = reader.next();
  ASSERT_TRUE(record);
  const auto event = decode(*record);
  ASSERT_TRUE(event);
  EXPECT_EQ(event->wall_time, 1.5);
  EXPECT_EQ(event->step, 300);
  EXPECT_EQ(event->figures, example().figures);
  EXPECT_FALSE(reader.next());
  EXPECT_EQ(reader.position(), reader.size());
  EXPECT_TRUE(decode(from_hex(kStart))->session_start);
  EXPECT_EQ(decode(from_hex(kVersion))->file_version, "brain.Event:2");
}

TEST_F(EventsTest, StopsAtATornOrDamagedRecord) {
  const std::string one = from_hex(kRecord);
  for (size_t cut = 0; cut < one.size(); ++cut) {
    RecordReader reader(write(one + one.substr(0, cut)));
    EXPECT_TRUE(reader.next()) << cut;
    EXPECT_FALSE(reader.next()) << cut;
    EXPECT_EQ(reader.position(), one.size());
  }
  for (size_t at = 0; at < one.size(); ++at) {
    std::string damaged = one;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    EXPECT_FALSE(RecordReader(write(damaged)).next()) << at;
  }
  const std::string huge(8, '\xff');  // a length that its CRC confirms and no file has
  std::string lying = huge;
  for (int i = 0; i < 4; ++i) {
    lying += static_cast<char>(static_cast<unsigned char>(masked_crc32c(huge) >> (8 * i)));
  }
  EXPECT_FALSE(RecordReader(write(lying + one)).next());
  EXPECT_FALSE(decode("\x2a\xff\xff"));
}

TEST(LoadHistogram, HasABarForEachExpert) {
  // Loads 0, 3, 1 of experts 0, 1, 2: sum 0*0 + 3*1 + 1*2 = 5, of squares 3*1 + 1*4 = 7.
  const Histogram wanted{0.5, 2.5, 4, 5, 7, {1.5, 2.5}, {3, 1}};
  EXPECT_EQ(load_histogram({0, 3, 1}), wanted);
  EXPECT_EQ(load_histogram({0, 3, 1, 0, 0}), wanted);
  const Histogram gap{-0.5, 2.5, 3, 4, 8, {0.5, 1.5, 2.5}, {1, 0, 2}};
  EXPECT_EQ(load_histogram({1, 0, 2}), gap);
  EXPECT_EQ(load_histogram({0, 0}), Histogram());
  EXPECT_EQ(load_histogram({}), Histogram());
}

TEST(FiguresOf, NamesNumbersByTheirPlace) {
  const auto figures = figures_of(Json::parse(
      R"({"epoch": 2, "step": 7, "test": {"error": 0.5, "usage": [0.75, 0.25], "counts": [[1], [2]],
          "name": "x", "none": null}, "large": 1e300})"));
  const Figures wanted{{{"epoch", 2.0F},
                        {"test/error", 0.5F},
                        {"test/usage/0", 0.75F},
                        {"test/usage/1", 0.25F},
                        {"large", std::numeric_limits<float>::max()}},
                       {{"test/usage", load_histogram({0.75, 0.25})}}};
  EXPECT_EQ(figures, wanted);
  // A list too long for a chart each is still a histogram; endless nesting ends.
  const auto wide = figures_of({{"usage", std::vector<double>(100, 0.01)}});
  EXPECT_TRUE(wide.scalars.empty());
  ASSERT_EQ(wide.histograms.size(), 1U);
  EXPECT_EQ(wide.histograms[0].second.counts.size(), 100U);
  Json deep = 1;
  for (int i = 0; i < 1000; ++i) deep = Json{{"a", deep}};
  EXPECT_TRUE(figures_of(deep).scalars.empty());
}

Json line(int64_t step, double loss) {
  return {{"step", step}, {"loss", loss}, {"usage", {loss, 1 - loss}}};
}
const std::vector<Json> kLines = {line(10, 0.75), line(20, 0.5), line(30, 0.25)};

class EventLogTest : public EventsTest {
 protected:
  /// All events with figures, in the order TensorBoard reads them.
  std::vector<Event> events() const {
    std::vector<Event> out;
    for (const auto& file : list_event_files(folder_)) {
      RecordReader reader(file);
      bool first = true;
      while (const auto record = reader.next()) {
        const auto event = decode(*record);
        EXPECT_TRUE(event) << file;
        if (!event) break;
        EXPECT_EQ(event->file_version, first ? "brain.Event:2" : "") << file;
        first = false;
        if (event->figures) out.push_back(*event);
      }
      EXPECT_EQ(reader.position(), reader.size()) << file;
    }
    return out;
  }
  void expect_lines(size_t count) const {
    const auto found = events();
    ASSERT_EQ(found.size(), count);
    for (size_t i = 0; i < count; ++i) {
      EXPECT_EQ(found[i].step, kLines[i]["step"].get<int64_t>());
      EXPECT_EQ(*found[i].figures, figures_of(kLines[i]));
    }
  }
  /// The log of a run that was stopped after two lines.
  void write_two() {
    EventLog log(folder_, {});
    log.append(kLines[0]);
    log.append(kLines[1]);
  }
  fs::path first_file() const { return list_event_files(folder_).at(0); }
  std::vector<Json> first(size_t count) const { return {kLines.begin(), kLines.begin() + count}; }
};

TEST_F(EventLogTest, HoldsEachLineOnceHoweverTheRunWasStopped) {
  write_two();
  expect_lines(2);
  EXPECT_EQ(list_event_files(folder_).size(), 1U);
  {  // goes on where it stood
    EventLog log(folder_, first(2));
    log.append(kLines[2]);
  }
  expect_lines(3);
  ASSERT_EQ(list_event_files(folder_).size(), 2U);
  RecordReader reader(list_event_files(folder_)[1]);
  reader.next();
  const auto start = decode(reader.next().value());
  EXPECT_TRUE(start->session_start);
  EXPECT_EQ(start->step, 30);
  {  // the checkpoint is older than the last lines: both files are cut
    EventLog log(folder_, first(1));
    log.append(kLines[1]);
    log.append(kLines[2]);
  }
  expect_lines(3);
}

TEST_F(EventLogTest, GoesOnAfterACrashAtAnyByteOfARecord) {
  write_two();
  const std::string whole = read_file(first_file());
  for (size_t size = 0; size <= whole.size(); ++size) {
    for (const auto& file : list_event_files(folder_)) fs::remove(file);
    write_file_atomic(folder_ / "events.out.tfevents.1700000000.moekit", whole.substr(0, size));
    {
      EventLog log(folder_, first(2));
      log.append(kLines[2]);
    }
    expect_lines(3);
    if (testing::Test::HasFailure()) return;
  }
}

TEST_F(EventLogTest, WritesAnewWhatIsMissingOrOfOtherNumbers) {
  {
    EventLog log(folder_, first(2));  // there was no file
  }
  expect_lines(2);
  for (const auto& file : list_event_files(folder_)) fs::remove(file);
  {
    EventLog log(folder_, {});
    log.append(kLines[0]);
    log.append(line(20, 0.125));  // another run's
    log.append(kLines[2]);
  }
  { EventLog log(folder_, kLines); }
  expect_lines(3);
}

TEST_F(EventLogTest, LeavesOtherFilesAndNamesOfFilesInOrder) {
  const std::string others = "events.out.tfevents.1700000000.host";
  write_file_atomic(folder_ / others, "x");
  write_file_atomic(folder_ / "events.out.tfevents.9000000000.moekit", "");  // the clock was wrong
  EventLog log(folder_, {});
  log.append(kLines[0]);
  EXPECT_EQ(read_file(folder_ / others), "x");
  const auto files = list_event_files(folder_);
  ASSERT_FALSE(files.empty());
  expect_lines(1);
}

TEST_F(EventLogTest, RefusesALineWithoutStepAndAFolderThatIsNone) {
  EventLog log(folder_, {});
  EXPECT_THROW(log.append({{"loss", 1}}), FormatError);
  EXPECT_THROW(log.append({{"step", 1.5}}), FormatError);
  EventLog nowhere(folder_ / "none", {});
  EXPECT_THROW(nowhere.append(kLines[0]), IoError);
}

}  // namespace
}  // namespace moekit::events
