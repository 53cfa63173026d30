#include <gtest/gtest.h>
#include <png.h>

#include "moekit/core/error.h"
#include "moekit/report/page.h"

namespace moekit::report {
namespace {

TEST(Png, DecodesBackToThePixels) {
  const Bitmap bitmap{2, 2, 3, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}};
  const std::string bytes = encode_png(bitmap);
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  ASSERT_TRUE(png_image_begin_read_from_memory(&image, bytes.data(), bytes.size()));
  image.format = PNG_FORMAT_RGB;
  std::vector<uint8_t> pixels(PNG_IMAGE_SIZE(image));
  ASSERT_TRUE(png_image_finish_read(&image, nullptr, pixels.data(), 0, nullptr));
  EXPECT_EQ(pixels, bitmap.pixels);
  EXPECT_THROW(encode_png({2, 2, 1, {1}}), ArgumentError);
}

TEST(ContactSheet, PutsTilesSideBySideWithAPixelBetween) {
  const Bitmap tile{1, 1, 1, {9}};
  const auto sheet = contact_sheet({tile, tile, tile}, 2, 5);
  EXPECT_EQ(sheet.width, 3);
  EXPECT_EQ(sheet.height, 3);
  EXPECT_EQ(sheet.pixels, (std::vector<uint8_t>{9, 5, 9, 5, 5, 5, 9, 5, 5}));
  EXPECT_THROW(contact_sheet({}, 2), ArgumentError);
}

TEST(HeatMapSvg, HasACellForEachValueAndEscapesLabels) {
  const auto svg = heat_map_svg({"t", {"a<b"}, {"x", "y"}, {{0.25, 1.0}}, true});
  EXPECT_NE(svg.find("a&lt;b"), std::string::npos);
  EXPECT_NE(svg.find("fill-opacity=\"0.250\""), std::string::npos);
  EXPECT_NE(svg.find(">100<"), std::string::npos);
  EXPECT_THROW(heat_map_svg({"t", {"a"}, {"x", "y"}, {{0.25}}, true}), ArgumentError);
}

TEST(Render, IsOnePageWithoutOutsideAddressesAndSafeAgainstNames) {
  Page page;
  page.title = "</script><b>";
  page.tables.emplace_back("t", Table{{"h"}, {{"<i>"}}});
  page.models.push_back(
      {"m", "", {}, {{"c", "x", {1, 2}, {{"</script>", {1, 2}}}, false}}, {}, {}, "a = 1"});
  const std::string html = render(page);
  EXPECT_EQ(html.find("<i>"), std::string::npos);
  EXPECT_NE(html.find("<\\/script>"), std::string::npos);
  for (const char* outside : {"src=\"http", "href=\"http", "@import", "url(http"}) {
    EXPECT_EQ(html.find(outside), std::string::npos) << outside;
  }
}

}  // namespace
}  // namespace moekit::report
