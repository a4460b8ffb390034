# Flags and helpers that every room uses.

# prefpga_flags(target): warnings, sanitizers, and the numerics' rules: no contraction, no fast-math.
function(prefpga_flags target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes
                         -Wpointer-arith -Wno-unknown-pragmas -ffp-contract=off -fno-math-errno)
  target_compile_definitions(${target} PRIVATE _POSIX_C_SOURCE=200809L _DEFAULT_SOURCE _FILE_OFFSET_BITS=64)
  target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}/include")
  if(PREFPGA_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${PREFPGA_SANITIZE} -fno-omit-frame-pointer
                           -fno-sanitize-recover=all)
    target_link_options(${target} PRIVATE -fsanitize=${PREFPGA_SANITIZE})
  endif()
endfunction()

# prefpga_test(name SOURCES ... [LIBS ...] [ARGS ...] [LABELS ...] [TIMEOUT seconds]): one cmocka program, one ctest.
# Exit code 77 is a skip. Labels: quick (default, in `make test`), long (in `make test-all`), threads (under TSan).
function(prefpga_test name)
  cmake_parse_arguments(T "" "TIMEOUT" "SOURCES;LIBS;ARGS;LABELS" ${ARGN})
  add_executable(test_${name} ${T_SOURCES})
  prefpga_flags(test_${name})
  target_include_directories(test_${name} PRIVATE "${PROJECT_SOURCE_DIR}")
  target_link_libraries(test_${name} PRIVATE prefpga_static PkgConfig::CMOCKA ${T_LIBS})
  add_test(NAME ${name} COMMAND test_${name} ${T_ARGS} WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}")
  if(NOT T_LABELS)
    set(T_LABELS quick)
  endif()
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 900)
  endif()
  set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 LABELS "${T_LABELS}" TIMEOUT ${T_TIMEOUT}
                       ENVIRONMENT "PREFPGA_TEST_TMP=${PROJECT_BINARY_DIR}/tmp")
endfunction()
