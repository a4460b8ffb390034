/* error.h: error codes and messages.
 *
 * Every fallible function returns int: 0, or a negative code: -errno for the operating system, PF_E_... for ours.
 * Functions that open, load or parse take a last `struct pf_error *` (may be NULL); on failure its text names the
 * object (file and line, argument, device), the cause and the remedy. Thread-safe: nothing here has state. */
#ifndef PREFPGA_ERROR_H
#define PREFPGA_ERROR_H
#include "errors.def"
#ifdef __cplusplus
extern "C" {
#endif
#if defined(__GNUC__)
#define PF_API __attribute__((visibility("default")))
#define PF_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define PF_API
#define PF_PRINTF(text, first)
#endif

enum pf_error_code {
	PF_OK = 0,
#define PF_ERROR_ENUM(name, number, text) PF_E_##name = number,
	PF_ERRORS(PF_ERROR_ENUM)
#undef PF_ERROR_ENUM
};

struct pf_error {
	int  code;
	char text[1024];               /* always terminated; "" when code is 0 */
};

/* The general text of a code ("card memory exhausted", strerror for -errno). Never NULL, static storage */
PF_API const char *pf_error_text(int code);
/* Fills *error (if not NULL) and returns code, so that `return pf_fail(...)` is one line */
PF_API int pf_fail(struct pf_error *error, int code, const char *format, ...) PF_PRINTF(3, 4);
/* Puts "context: " before the text of an error that a callee has filled in. error may be NULL */
PF_API void pf_fail_in(struct pf_error *error, const char *format, ...) PF_PRINTF(2, 3);
#ifdef __cplusplus
}
#endif
#endif
