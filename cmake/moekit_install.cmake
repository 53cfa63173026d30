# Installs the libraries, headers, command and recipes, and what find_package(moekit) needs.
include(CMakePackageConfigHelpers)
get_property(modules GLOBAL PROPERTY moekit_modules)
install(TARGETS ${modules} moekit_options moekit_torch EXPORT moekitTargets
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS moekit RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS moekit_commands LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/moekit)
install(FILES ${moekit_library_folder}/keys.txt ${moekit_library_folder}/keys.md
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/moekit)
install(FILES ${PROJECT_BINARY_DIR}/shell/moekit
        DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
install(FILES ${PROJECT_BINARY_DIR}/shell/_moekit
        DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
install(DIRECTORY ${PROJECT_BINARY_DIR}/shell/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man1
        FILES_MATCHING PATTERN "*.1")
install(DIRECTORY ${PROJECT_SOURCE_DIR}/moekit DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN "*.h" PATTERN "*_impl.h" EXCLUDE)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/recipes DESTINATION ${CMAKE_INSTALL_DATADIR}/moekit)
set(moekit_cmake_dir ${CMAKE_INSTALL_LIBDIR}/cmake/moekit)
install(EXPORT moekitTargets NAMESPACE moekit:: DESTINATION ${moekit_cmake_dir})
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/moekitConfig.cmake.in
                              ${PROJECT_BINARY_DIR}/moekitConfig.cmake
                              INSTALL_DESTINATION ${moekit_cmake_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/moekitConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/moekitConfig.cmake
              ${PROJECT_BINARY_DIR}/moekitConfigVersion.cmake DESTINATION ${moekit_cmake_dir})
