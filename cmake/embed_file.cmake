# cmake -DOUTPUT=f.cpp -DNAMES=page_css,page_js -DFILES=a,b -P embed_file.cmake
# Writes functions returning the files' bytes as std::string_view.
set(code "#include \"moekit/report/assets.h\"\n\nnamespace moekit::report::assets {\n")
string(REPLACE "," ";" NAMES "${NAMES}")
string(REPLACE "," ";" FILES "${FILES}")
list(LENGTH NAMES count)
math(EXPR last "${count} - 1")
foreach(i RANGE ${last})
  list(GET NAMES ${i} name)
  list(GET FILES ${i} file)
  file(READ ${file} hex HEX)
  string(REGEX REPLACE "(................................)" "\\1\n" hex "${hex}")
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
  string(APPEND code
    "\nstd::string_view ${name}() {\n  static const unsigned char kBytes[] = {\n${bytes}};\n"
    "  return {reinterpret_cast<const char*>(kBytes), sizeof(kBytes)};\n}\n")
endforeach()
string(APPEND code "\n}  // namespace moekit::report::assets\n")
file(WRITE ${OUTPUT} "${code}")
