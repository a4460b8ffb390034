# Images, the emulated card, XRT's own library against it, discovery.

prefpga_test(xclbin SOURCES xclbin.c scratch.c)
if(XRT_INCLUDE AND UUID_INCLUDE)      # XRT's own header as the oracle
  target_compile_definitions(test_xclbin PRIVATE PF_HAVE_XCLBIN_H)
  target_include_directories(test_xclbin SYSTEM PRIVATE "${XRT_INCLUDE}")
endif()
# what the images of a U200 hold, for emulation
set(card_images "${PROJECT_BINARY_DIR}/test_images")
file(MAKE_DIRECTORY "${card_images}")
set(card_image_files "")
foreach(image fused logits bf16 resident low mxint8 mxpolicy)
  string(REPLACE "-fused" "" file "${card_images}/prefpga-${image}.xclbin")
  add_custom_command(OUTPUT "${file}" VERBATIM DEPENDS prefpga-emit prefpga_emulated_kernels
    COMMAND prefpga-emit image --card u200 --image ${image} --library $<TARGET_FILE:prefpga_emulated_kernels> --out "${file}")
  list(APPEND card_image_files "${file}")
endforeach()
add_custom_target(card_images ALL DEPENDS ${card_image_files})
prefpga_test(image SOURCES image.c scratch.c ARGS "${PROJECT_BINARY_DIR}/prefpga-sw_emu.xclbin" "${card_images}")
target_link_options(test_image PRIVATE -Wl,--wrap=fsync)
add_dependencies(test_image image_prefpga-sw_emu card_images)
prefpga_test(xrt_wire SOURCES xrt_wire.c LIBS prefpga_xrtmodel)
prefpga_test(xrt_place SOURCES xrt_place.c scratch.c)
prefpga_test(xrt_reset SOURCES xrt_reset.c scratch.c)
if(XRT_INCLUDE AND UUID_INCLUDE AND PREFPGA_XRT)
  add_library(fake_xrt SHARED fake_xrt.c)
  prefpga_flags(fake_xrt)
  target_compile_options(fake_xrt PRIVATE -Wno-missing-prototypes)
  target_include_directories(fake_xrt PRIVATE "${PROJECT_SOURCE_DIR}")
  set_target_properties(fake_xrt PROPERTIES OUTPUT_NAME xrt_coreutil SUFFIX .so.2
                        LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/fake_xrt")
  prefpga_test(xrt_card SOURCES xrt_card.c job.c scratch.c LIBS ${CMAKE_DL_LIBS}
               ARGS "${PROJECT_BINARY_DIR}/prefpga-sw_emu.xclbin" LABELS quick threads)
  add_dependencies(test_xrt_card fake_xrt image_prefpga-sw_emu)
  set_property(TEST xrt_card APPEND PROPERTY ENVIRONMENT "LD_LIBRARY_PATH=${PROJECT_BINARY_DIR}/fake_xrt"
               "XCL_EMULATION_MODE=")
endif()
set(describe ../bitstreams/layout.c ../bitstreams/describe.c)
prefpga_test(xrt_layout SOURCES xrt_layout.c ${describe} LIBS prefpga_xrtmodel PkgConfig::JANSSON)
prefpga_test(xrt_model SOURCES xrt_model.c scratch.c ${describe} LIBS prefpga_xrtmodel PkgConfig::JANSSON
             ARGS $<TARGET_FILE:prefpga_emulated_kernels> LABELS quick threads)
foreach(test xrt_layout xrt_model)
  target_compile_definitions(test_${test} PRIVATE PREFPGA_VERSION="${PROJECT_VERSION}")
endforeach()
add_dependencies(test_xrt_model prefpga_emulated_kernels)
prefpga_test(discover SOURCES discover.c scratch.c)
prefpga_test(doctor SOURCES doctor.c scratch.c LIBS PkgConfig::JANSSON ARGS $<TARGET_FILE:prefpga_cli>
             "${CMAKE_CURRENT_SOURCE_DIR}/records/machines")
add_dependencies(test_doctor prefpga_cli)

add_test(NAME kernels_md COMMAND ${CMAKE_COMMAND} -E compare_files --ignore-eol
         "${PROJECT_SOURCE_DIR}/bitstreams/KERNELS.md" "${PROJECT_BINARY_DIR}/bitstreams/KERNELS.md")
set_tests_properties(kernels_md PROPERTIES LABELS quick)

# Under XRT's software emulation; a machine without XRT skips (77)
add_library(xrt_hang MODULE xrt_hang.c)
prefpga_flags(xrt_hang)
target_include_directories(xrt_hang PRIVATE "${PROJECT_SOURCE_DIR}")
prefpga_emulated_image(test_host_memory prefpga_emulated_kernels --host-memory)
prefpga_emulated_image(test_two_units prefpga_emulated_kernels --cus coef=2,logprob=2 --control hs)
set(but_coef "")                               # no unit of the others: kernel=0,...
foreach(entry IN LISTS PREFPGA_HLS_KERNELS)
  string(REGEX REPLACE ":.*" "=0" none ${entry})
  list(APPEND but_coef ${none})
endforeach()
list(REMOVE_ITEM but_coef coef=0)
list(JOIN but_coef "," but_coef)
prefpga_emulated_image(test_hanging xrt_hang --cus ${but_coef})

# XRT leaks in every program that opens a device, also in one that a test starts
set(emulated_environment "PREFPGA_TEST_TMP=${PROJECT_BINARY_DIR}/tmp"
                         "LSAN_OPTIONS=suppressions=${CMAKE_CURRENT_SOURCE_DIR}/xrt_leaks.supp")
# prefpga_emulated_test(name image target args...)
function(prefpga_emulated_test name image target)
  add_test(NAME ${name} WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}"
           COMMAND prefpga_cli emulate --timeout 240 --cards 2 --image "${PROJECT_BINARY_DIR}/${image}.xclbin" --
                   $<TARGET_FILE:${target}> ${ARGN})
  set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 LABELS quick TIMEOUT 300
                       ENVIRONMENT "${emulated_environment}" FAIL_REGULAR_EXPRESSION "${forgotten}")
endfunction()
# Every buffer comes back before the device is closed. The card looks, because XRT's own leaks hide them from LSan
set(forgotten "buffers \\([0-9]+ bytes\\) never freed")
add_executable(test_xrt xrt.c xrt_several.c xrt_memory.c xrt_ends.c job.c scratch.c)
prefpga_flags(test_xrt)
target_include_directories(test_xrt PRIVATE "${PROJECT_SOURCE_DIR}")
target_link_libraries(test_xrt PRIVATE prefpga_static PkgConfig::CMOCKA)
add_dependencies(test_xrt image_test_host_memory prefpga-card-model image_prefpga-sw_emu image_test_two_units image_test_hanging)
foreach(backend xrt opencl)
  prefpga_emulated_test(${backend}_device test_two_units test_xrt ${backend})
  prefpga_emulated_test(${backend}_hang test_hanging test_xrt ${backend} hang)
  prefpga_emulated_test(${backend}_many test_two_units test_xrt ${backend} many)
  prefpga_emulated_test(${backend}_conformance prefpga-sw_emu test_conformance sim ${backend})
  prefpga_emulated_test(${backend}_conformance_hs test_two_units test_conformance sim ${backend})
endforeach()
# LSan dies of what XRT's OpenCL leaves behind when the program ends
set_tests_properties(opencl_device opencl_hang opencl_many opencl_conformance opencl_conformance_hs PROPERTIES
                     ENVIRONMENT "${emulated_environment};ASAN_OPTIONS=detect_leaks=0")
add_executable(xrt_forget xrt_forget.c)
prefpga_flags(xrt_forget)
target_link_libraries(xrt_forget PRIVATE ${CMAKE_DL_LIBS})
prefpga_emulated_test(xrt_forget test_two_units xrt_forget "${PROJECT_BINARY_DIR}/test_two_units.xclbin")
set_tests_properties(xrt_forget PROPERTIES FAIL_REGULAR_EXPRESSION "" PASS_REGULAR_EXPRESSION
                     "closed with 1 buffers \\(4096 bytes\\) never freed")
prefpga_test(xrt_session SOURCES xrt_session.c scratch.c
             ARGS $<TARGET_FILE:prefpga_cli> $<TARGET_FILE:test_xrt> "${PROJECT_BINARY_DIR}/prefpga-sw_emu.xclbin")
set_tests_properties(xrt_session PROPERTIES ENVIRONMENT "${emulated_environment}")
add_dependencies(test_xrt_session prefpga_cli test_xrt image_prefpga-sw_emu)
add_test(NAME devices WORKING_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}"
         COMMAND prefpga_cli devices --format json --pci-dump fuzz/corpus/pci_dump/cards)
set_tests_properties(devices PROPERTIES LABELS quick PASS_REGULAR_EXPRESSION "\"card\": \"u55c\"")
if(NOT PREFPGA_PCI)
  set_tests_properties(devices PROPERTIES DISABLED TRUE)
endif()

# several units of the fused head, with less than a block of tokens for each
prefpga_emulated_image(test_head_units prefpga_emulated_kernels --cus
  linear_logprob=3,linear_grad=2,linear_logprob_bf16=2,linear_grad_bf16=3,linear_logprob_mxint8=4)
prefpga_emulated_test(xrt_few_tokens test_head_units test_few_tokens xrt)

# buffers of class SMALL in memory of the host
prefpga_emulated_test(xrt_host_memory test_host_memory test_conformance sim xrt)

# a training on each of them gives the same weights
add_test(NAME training_devices COMMAND sh "${CMAKE_CURRENT_SOURCE_DIR}/training_devices.sh" $<TARGET_FILE:prefpga_cli>
         "${PROJECT_BINARY_DIR}/tmp/training_devices" sim sim:u250*2
         sim,sim:u250,fault:firewall@60+image@2/sim xrt opencl xrt:0,xrt:1
         fault:firewall@30/xrt xrt:0,fault:gone@40/xrt:1)
set_tests_properties(training_devices PROPERTIES SKIP_RETURN_CODE 77 LABELS "quick;no-sanitizer" TIMEOUT 300
                     ENVIRONMENT "${emulated_environment}")

# the recipes for CI: their steps are run
if(PYTHON3)
  add_test(NAME ci_recipes COMMAND "${PYTHON3}" "${CMAKE_CURRENT_SOURCE_DIR}/ci_recipes.py" "${PROJECT_SOURCE_DIR}"
                                   "${PROJECT_BINARY_DIR}" "${PROJECT_BINARY_DIR}/tmp/ci_recipes")
  set_tests_properties(ci_recipes PROPERTIES SKIP_RETURN_CODE 77 LABELS "quick;no-sanitizer" TIMEOUT 300
                       ENVIRONMENT "${emulated_environment}")
endif()

# a training with what a card's images hold, the one it needs chosen by itself; one after the other
foreach(test card_images card_images_low)
  add_test(NAME ${test} COMMAND sh "${CMAKE_CURRENT_SOURCE_DIR}/${test}.sh" $<TARGET_FILE:prefpga_cli> "${card_images}"
                                "${PROJECT_BINARY_DIR}/tmp/${test}")
  set_tests_properties(${test} PROPERTIES SKIP_RETURN_CODE 77 LABELS "quick;no-sanitizer" TIMEOUT 300
                       ENVIRONMENT "${emulated_environment}")
endforeach()
