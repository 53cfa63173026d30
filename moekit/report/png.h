#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace moekit::report {

/// An image of bytes, row-major, 1 (grey) or 3 (RGB) values a pixel.
struct Bitmap {
  std::int64_t width = 0;
  std::int64_t height = 0;
  std::int64_t channels = 1;
  std::vector<std::uint8_t> pixels;
};

/// @throws ArgumentError when sizes and pixels do not go together.
std::string encode_png(const Bitmap& bitmap);

/// "data:image/png;base64,..." for an <img>.
std::string png_data_uri(const Bitmap& bitmap);

/// Tiles of one size side by side, `columns` a row, with one pixel of `background` between them.
Bitmap contact_sheet(const std::vector<Bitmap>& tiles, std::int64_t columns,
                     std::uint8_t background = 128);

}  // namespace moekit::report
