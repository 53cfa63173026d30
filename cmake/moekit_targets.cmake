# Settings and functions shared by all targets.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")  # the kernels ask for -O3 themselves

find_program(MOEKIT_CCACHE ccache)
if(MOEKIT_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # Precompiled headers carry times; without this, ccache would never hit.
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${MOEKIT_CCACHE})
  add_compile_options($<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>)
endif()

add_library(moekit_options INTERFACE)
target_compile_features(moekit_options INTERFACE cxx_std_20)
set(moekit_warnings -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion
    # GCC 12 warns of impossible sizes inside std::string when it inlines its constructors.
    $<$<CXX_COMPILER_ID:GNU>:-Wno-stringop-overflow>)
if(MOEKIT_WERROR)
  list(APPEND moekit_warnings -Werror)
endif()
target_compile_options(moekit_options INTERFACE "$<BUILD_INTERFACE:${moekit_warnings}>")
# GCC collects garbage in its heap again and again while a file grows it: letting it grow to 2 GB first
# costs some 100 to 250 MB a process (1.25 GB where libtorch is) and saves a sixth of the time.
target_compile_options(moekit_options INTERFACE
  $<BUILD_INTERFACE:$<$<CXX_COMPILER_ID:GNU>:--param=ggc-min-heapsize=2000000>>)
target_include_directories(moekit_options INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>
                                                    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
if(MOEKIT_SANITIZE)
  target_compile_options(moekit_options INTERFACE -fsanitize=${MOEKIT_SANITIZE}
                                                  -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(moekit_options INTERFACE -fsanitize=${MOEKIT_SANITIZE})
endif()

# A program with libtorch takes GNU ld 2 s of processor time to link, gold a quarter of a second.
include(CheckLinkerFlag)
check_linker_flag(CXX -fuse-ld=gold MOEKIT_HAS_GOLD)
if(MOEKIT_HAS_GOLD AND NOT MOEKIT_SANITIZE)
  target_link_options(moekit_options INTERFACE $<BUILD_INTERFACE:-fuse-ld=gold>)
endif()

if(MOEKIT_FUZZ)
  # vptr and function look into types that libtorch keeps to itself.
  target_compile_options(moekit_options INTERFACE -fsanitize=fuzzer-no-link
                                                  -fno-sanitize=vptr,function)
endif()

# libtorch as one target; its headers are not ours to warn about.
add_library(moekit_torch INTERFACE)
target_link_libraries(moekit_torch INTERFACE ${TORCH_LIBRARIES})
set(moekit_torch_includes ${TORCH_INCLUDE_DIRS})
list(REMOVE_ITEM moekit_torch_includes /usr/include)  # as -isystem it would hide the C library's
target_include_directories(moekit_torch SYSTEM INTERFACE ${moekit_torch_includes})

# The tests' own code is not optimized: two fifths of a test's compilation went into that, and what takes
# time when it runs lies in the library.
set(moekit_test_level -O0)
set(moekit_cold_level $<$<CONFIG:Release>:-O1>)

# One compilation of the libtorch headers that most sources need. All of <torch/torch.h> would double
# the time of every file: GCC instantiates its inline templates anew in each.
set(MOEKIT_PCH_SOURCE ${PROJECT_BINARY_DIR}/moekit_pch.cpp)
if(NOT EXISTS ${MOEKIT_PCH_SOURCE})
  file(WRITE ${MOEKIT_PCH_SOURCE} "")
endif()

# moekit_module(NAME [TORCH] [COLD] [BATCH n] SOURCES ... DEPENDS ...): a static library moekit_NAME with
# the alias moekit::NAME. TORCH links libtorch and takes the precompiled header. COLD: no loop in it
# takes long, and -O1 compiles in three quarters of the time. BATCH: see moekit_unity.
set_property(GLOBAL PROPERTY moekit_modules "")
function(moekit_module name)
  cmake_parse_arguments(arg "TORCH;COLD" "BATCH" "SOURCES;DEPENDS;PRIVATE" ${ARGN})
  set(target moekit_${name})
  add_library(${target} STATIC ${arg_SOURCES})
  add_library(moekit::${name} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  target_link_libraries(${target} PUBLIC moekit_options)
  foreach(dependency IN LISTS arg_DEPENDS)
    target_link_libraries(${target} PUBLIC ${dependency})
  endforeach()
  target_link_libraries(${target} PRIVATE ${arg_PRIVATE})
  if(arg_COLD)
    target_compile_options(${target} PRIVATE ${moekit_cold_level})
  endif()
  set(batch 6)
  if(arg_TORCH)
    set(batch 12)
    target_link_libraries(${target} PUBLIC moekit_torch)
    moekit_use_torch_pch(${target})
  endif()
  if(arg_BATCH)
    set(batch ${arg_BATCH})
  endif()
  moekit_unity(${target} ${batch})
  set_property(GLOBAL APPEND PROPERTY moekit_modules ${target})
endfunction()

# moekit_unity(TARGET BATCH): the inline templates of libtorch and nlohmann_json cost each compilation
# several seconds: so many sources are compiled together. A changed file compiles its batch anew, which
# shall take less than 30 s.
function(moekit_unity target batch)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ${MOEKIT_UNITY} UNITY_BUILD_BATCH_SIZE ${batch})
endfunction()

# moekit_use_torch_pch(TARGET [TEST]): TEST for what is compiled at the tests' level.
function(moekit_use_torch_pch target)
  cmake_parse_arguments(arg "TEST" "" "" ${ARGN})
  set(pch moekit_pch)
  set(level "")
  if(arg_TEST)
    set(pch moekit_test_pch)
    set(level ${moekit_test_level})
  endif()
  if(NOT TARGET ${pch})
    add_library(${pch} OBJECT ${MOEKIT_PCH_SOURCE})
    target_link_libraries(${pch} PRIVATE moekit_options moekit_torch)
    target_compile_options(${pch} PRIVATE ${level})
    # clang instantiates vectors of IValue earlier than GCC and wants it whole first.
    target_precompile_headers(${pch} PRIVATE $<$<CXX_COMPILER_ID:Clang>:<ATen/core/ivalue.h$<ANGLE-R>>
                              <torch/types.h> <torch/autograd.h>
                              <torch/nn/cloneable.h> <torch/nn/pimpl.h> <nlohmann/json.hpp>)
  endif()
  get_target_property(type ${target} TYPE)
  if(type STREQUAL "EXECUTABLE")  # -fPIE would not match the precompiled header's -fPIC
    set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
    target_compile_options(${target} PRIVATE -fPIC)
  endif()
  target_compile_options(${target} PRIVATE ${level})
  target_precompile_headers(${target} REUSE_FROM ${pch})
endfunction()
