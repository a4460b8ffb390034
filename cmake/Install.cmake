# What `cmake --install` puts where: library, public headers, program, pkg-config file, CMake package.
include(CMakePackageConfigHelpers)
install(TARGETS prefpga EXPORT prefpgaTargets
        LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}" RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
install(DIRECTORY include/prefpga DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" PATTERN internal EXCLUDE)
install(EXPORT prefpgaTargets NAMESPACE prefpga:: DESTINATION "${CMAKE_INSTALL_LIBDIR}/cmake/prefpga")
# relative to where the file lies, so that any --prefix works
file(RELATIVE_PATH PREFPGA_PC_PREFIX "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
configure_file(cmake/prefpga.pc.in prefpga.pc @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/prefpga.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
configure_package_config_file(cmake/prefpgaConfig.cmake.in prefpgaConfig.cmake
                              INSTALL_DESTINATION "${CMAKE_INSTALL_LIBDIR}/cmake/prefpga")
write_basic_package_version_file(prefpgaConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/prefpgaConfig.cmake" "${PROJECT_BINARY_DIR}/prefpgaConfigVersion.cmake"
        DESTINATION "${CMAKE_INSTALL_LIBDIR}/cmake/prefpga")
