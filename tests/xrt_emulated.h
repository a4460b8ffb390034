/* xrt_emulated.h: what the files of test_xrt share, and their tests: backends xrt and opencl against XRT's own library
 * in software emulation. Cards come from it by number. One thread; a failure fails the test. */
#ifndef PF_TESTS_XRT_EMULATED_H
#define PF_TESTS_XRT_EMULATED_H
#include "tests/job.h"

extern const char *xrt_backend;            /* "xrt", "opencl" */
int is_opencl(void);

struct pf_device *open_card(unsigned index, const struct pf_device_options *options);
struct pf_device *open_first(const struct pf_device_options *options);
/* A job after the other, each waited for */
void work(struct pf_device *device, int rounds);

/* ---- xrt_several.c ---- */
void several_cards(void **state);
void one_card_more(void **state);
void cards_by_address(void **state);
void one_interface(void **state);

/* ---- xrt_memory.c ---- */
void more_memory_than_there_is(void **state);
void buffers_are_used_again(void **state);
void parts_stay_on_the_card(void **state);
void large_buffers(void **state);
void memory_of_the_caller(void **state);

/* ---- xrt_ends.c ---- */
void a_hanging_unit(void **state);
void many_opens_leave_nothing(void **state);
/* Modes of the program: their result is its exit code */
int survive_an_interrupt(void);
int work_to_the_end(void);
int lose_the_card(void);
#endif
