#include "moekit/report/png.h"

#include <openssl/evp.h>
#include <png.h>

#include <algorithm>

#include "moekit/core/error.h"

namespace moekit::report {

std::string encode_png(const Bitmap& bitmap) {
  MOEKIT_CHECK(bitmap.width > 0 && bitmap.height > 0 &&
                   (bitmap.channels == 1 || bitmap.channels == 3) &&
                   static_cast<std::int64_t>(bitmap.pixels.size()) ==
                       bitmap.width * bitmap.height * bitmap.channels,
               "encode_png: ", bitmap.width, "x", bitmap.height, "x", bitmap.channels, " with ",
               bitmap.pixels.size(), " bytes");
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(bitmap.width);
  image.height = static_cast<png_uint_32>(bitmap.height);
  image.format = bitmap.channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
  png_alloc_size_t size = 0;
  if (!png_image_write_get_memory_size(image, size, 0, bitmap.pixels.data(), 0, nullptr)) {
    throw IoError(concat("encode_png: ", image.message));
  }
  std::string out(size, '\0');
  if (!png_image_write_to_memory(&image, out.data(), &size, 0, bitmap.pixels.data(), 0, nullptr)) {
    throw IoError(concat("encode_png: ", image.message));
  }
  out.resize(size);
  return out;
}

std::string png_data_uri(const Bitmap& bitmap) {
  const std::string png = encode_png(bitmap);
  std::string text(4 * ((png.size() + 2) / 3) + 1, '\0');
  const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                                     reinterpret_cast<const unsigned char*>(png.data()),
                                     static_cast<int>(png.size()));
  text.resize(static_cast<std::size_t>(length));
  return "data:image/png;base64," + text;
}

Bitmap contact_sheet(const std::vector<Bitmap>& tiles, std::int64_t columns,
                     std::uint8_t background) {
  MOEKIT_CHECK(!tiles.empty() && columns >= 1, "contact_sheet: needs tiles and columns");
  const Bitmap& first = tiles.front();
  const auto count = static_cast<std::int64_t>(tiles.size());
  const std::int64_t rows = (count + columns - 1) / columns;
  Bitmap sheet{std::min(columns, count) * (first.width + 1) - 1,
               rows * (first.height + 1) - 1,
               first.channels,
               {}};
  const std::int64_t channels = first.channels;
  sheet.pixels.assign(static_cast<std::size_t>(sheet.width * sheet.height * channels), background);
  for (std::int64_t t = 0; t < count; ++t) {
    const Bitmap& tile = tiles[static_cast<std::size_t>(t)];
    MOEKIT_CHECK(
        tile.width == first.width && tile.height == first.height && tile.channels == channels,
        "contact_sheet: tiles differ in size");
    const std::int64_t x = t % columns * (first.width + 1);
    const std::int64_t y = t / columns * (first.height + 1);
    for (std::int64_t row = 0; row < tile.height; ++row) {
      std::copy_n(tile.pixels.begin() + row * tile.width * channels, tile.width * channels,
                  sheet.pixels.begin() + ((y + row) * sheet.width + x) * channels);
    }
  }
  return sheet;
}

}  // namespace moekit::report
