# Images, the emulated card, XRT's own library against it, discovery.

prefpga_test(xclbin SOURCES xclbin.c scratch.c)
if(XRT_INCLUDE AND UUID_INCLUDE)      # XRT's own header as the oracle
  target_compile_definitions(test_xclbin PRIVATE PF_HAVE_XCLBIN_H)
  target_include_directories(test_xclbin SYSTEM PRIVATE "${XRT_INCLUDE}")
endif()
prefpga_test(xrt_wire SOURCES xrt_wire.c LIBS prefpga_xrtmodel)
prefpga_test(xrt_place SOURCES xrt_place.c scratch.c)
prefpga_test(xrt_model SOURCES xrt_model.c scratch.c ../bitstreams/layout.c ../bitstreams/describe.c
             LIBS prefpga_xrtmodel PkgConfig::JANSSON ARGS $<TARGET_FILE:prefpga_emulated_kernels>)
target_compile_definitions(test_xrt_model PRIVATE PREFPGA_VERSION="${PROJECT_VERSION}")
add_dependencies(test_xrt_model prefpga_emulated_kernels)
prefpga_test(discover SOURCES discover.c scratch.c)

add_test(NAME kernels_md COMMAND ${CMAKE_COMMAND} -E compare_files --ignore-eol
         "${PROJECT_SOURCE_DIR}/bitstreams/KERNELS.md" "${PROJECT_BINARY_DIR}/bitstreams/KERNELS.md")
set_tests_properties(kernels_md PROPERTIES LABELS quick)
