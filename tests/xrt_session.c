/* `prefpga emulate`: what it hands on, what it ends, what it removes. argv: the program, the test of backend xrt, an
 * image for emulation. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "prefpga/emulation.h"
#include "tests/cmocka.h"
#include "tests/scratch.h"

static const char *program, *worker, *image;
static char output[65536];

/* Runs "<program> emulate <text>" in a shell; its exit code, what it printed in `output` */
static int emulate(const char *text)
{
	char line[4096];
	snprintf(line, sizeof line, "'%s' emulate %s 2>&1", program, text);
	FILE *in = popen(line, "r");
	assert_non_null(in);
	size_t length = fread(output, 1, sizeof output - 1, in);
	output[length] = '\0';
	int status = pclose(in);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void ends(const char *text, int code)
{
	int got = emulate(text);
	if (got != code)
		fail_msg("\"%s\" ended with %d, not %d, and printed: %s", text, got, code, output);
}

static void printed(const char *text)
{
	if (!strstr(output, text))
		fail_msg("\"%s\" was not printed, but: %s", text, output);
}

/* Waits until `gone` says so; the bound is far above what it takes and only ends a failing test */
static int wait_until(int (*gone)(const void *), const void *what)
{
	struct timespec pause = { 0, 5000000 };
	for (int i = 0; i < 4000; i++) {
		if (gone(what))
			return 1;
		nanosleep(&pause, NULL);
	}
	return 0;
}

static int no_process(const void *id)
{
	char path[64], state = 0;
	snprintf(path, sizeof path, "/proc/%ld/stat", *(const long *)id);
	FILE *in = fopen(path, "r");
	int fields = in ? fscanf(in, "%*d %*s %c", &state) : 0;
	if (in)
		fclose(in);
	return fields != 1 || state == 'Z';    /* nobody may be there to bury it */
}

static int no_file(const void *path)
{
	return access(path, F_OK) != 0;
}

static void exit_codes_pass(void **state)
{
	(void)state;
	ends("-- true", 0);
	ends("-- sh -c 'exit 5'", 5);
	ends("-- sh -c 'kill -9 $$'", 128 + SIGKILL);
	ends("-- /no/such/program", 127);
	ends("-- sh -c 'kill -15 $$'", 128 + SIGTERM);
	assert_null(strstr(output, "card died"));
}

static void the_environment_is_set(void **state)
{
	(void)state;
	setenv("XILINX_HLS", "/opt/somewhere", 1);
	ends("-- sh -c 'test -z \"$XILINX_HLS\" && test -d \"$EMCONFIG_PATH\" && "
	     "test -f \"$XILINX_XRT/lib/libxrt_swemu.so.2\" && "
	     "test \"$XCL_EMULATION_MODE\" = sw_emu && "
	     "test -d \"/tmp/$USER\"'", 0);
	unsetenv("XILINX_HLS");
}

static void time_limits_end_the_command(void **state)
{
	(void)state;
	ends("--timeout 0.2 -- sleep 600", 124);
	printed("ended after 0.2 seconds");
}

static void nothing_is_left(void **state)
{
	char folder[256];
	long id;
	(void)state;
	ends("-- sh -c 'sleep 600 & echo $! $EMCONFIG_PATH'", 0);
	assert_int_equal(sscanf(output, "%ld %255s", &id, folder), 2);
	assert_true(no_process(&id));
	assert_true(no_file(folder));
}

/* ---- sessions that died ---- */
static void make_session(const char *folder, int *lock)
{
	char path[512];
	snprintf(path, sizeof path, "%s/run", folder);
	mkdir(folder, 0700);
	mkdir(path, 0700);
	snprintf(path, sizeof path, "%s/run/file", folder);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	snprintf(path, sizeof path, "%s/lock", folder);
	*lock = open(path, O_CREAT | O_RDWR, 0600);
	assert_true(*lock >= 0);
}

static void dead_sessions_are_removed(void **state)
{
	char dead[128], live[128];
	int dead_lock, live_lock;
	(void)state;
	ends("-- true", 0);             /* makes the folder of all sessions */
	snprintf(dead, sizeof dead, "/tmp/prefpga-%lu/s0-dead%ld", (unsigned long)getuid(), (long)getpid());
	snprintf(live, sizeof live, "/tmp/prefpga-%lu/s0-live%ld", (unsigned long)getuid(), (long)getpid());
	make_session(dead, &dead_lock);
	close(dead_lock);
	make_session(live, &live_lock);
	assert_int_equal(flock(live_lock, LOCK_EX | LOCK_NB), 0);
	ends("-- true", 0);
	assert_true(no_file(dead));
	assert_false(no_file(live));
	close(live_lock);
	ends("-- true", 0);
	assert_true(no_file(live));
}

/* Starts a session of `argv`, which prints one line; its pid, and that line */
static pid_t start_line(char *const argv[], char line[512])
{
	int ends[2];
	assert_int_equal(pipe(ends), 0);
	pid_t child = fork();
	if (child == 0) {
		dup2(ends[1], 1);
		close(ends[0]);
		execv(program, argv);
		_exit(1);
	}
	close(ends[1]);
	FILE *in = fdopen(ends[0], "r");
	assert_non_null(fgets(line, 512, in));
	fclose(in);
	return child;
}

/* A session that sleeps; its pid, the command's, and the folder */
static pid_t start(long *command, char folder[256])
{
	char line[512];
	char *argv[] = { (char *)program, "emulate", "--", "sh", "-c", "echo $$ $EMCONFIG_PATH; exec sleep 600", NULL };
	pid_t child = start_line(argv, line);
	assert_int_equal(sscanf(line, "%ld %255s", command, folder), 2);
	return child;
}

/* A session whose command holds a card that has worked */
struct parties { pid_t session; long host, card; char folder[256]; };

static struct parties start_work(const char *backend)
{
	struct parties p;
	char line[512];
	char *argv[] = { (char *)program, "emulate",       "--timeout", "120", "--",
		         (char *)worker,  (char *)backend, "wait",      NULL };
	p.session = start_line(argv, line);
	if (sscanf(line, "works %ld %ld %255s", &p.host, &p.card, p.folder) != 3)
		fail_msg("%s: %s", backend, line);
	assert_true(p.card > 1);
	return p;
}

static void nothing_of(const struct parties *p)
{
	assert_true(wait_until(no_process, &p->host));
	assert_true(wait_until(no_process, &p->card));
	assert_true(wait_until(no_file, p->folder));
}

/* kill -9 of the host, of the card, of the session: no process, socket, run folder remains (the last one's folder goes
 * at the next start) */
static void whoever_is_killed(const char *backend)
{
	int status;
	struct parties p = start_work(backend);
	kill((pid_t)p.host, SIGKILL);
	assert_int_equal(waitpid(p.session, &status, 0), p.session);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 128 + SIGKILL);
	nothing_of(&p);
	p = start_work(backend);
	kill((pid_t)p.card, SIGKILL);
	assert_int_equal(waitpid(p.session, &status, 0), p.session);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) != 0);
	nothing_of(&p);
	p = start_work(backend);
	kill(p.session, SIGKILL);
	assert_int_equal(waitpid(p.session, &status, 0), p.session);
	assert_true(wait_until(no_process, &p.host));
	ends("-- true", 0);
	nothing_of(&p);
}

static void whoever_is_killed_nothing_remains(void **state)
{
	(void)state;
	whoever_is_killed("xrt");
	whoever_is_killed("opencl");
}

static void a_killed_session_ends_its_command(void **state)
{
	char folder[256];
	long command;
	int status;
	(void)state;
	pid_t session = start(&command, folder);
	kill(session, SIGKILL);
	assert_int_equal(waitpid(session, &status, 0), session);
	assert_true(wait_until(no_process, &command));
	ends("-- true", 0);
	assert_true(no_file(folder));
}

static void signals_go_on_to_the_command(void **state)
{
	char folder[256];
	long command;
	int status;
	(void)state;
	pid_t session = start(&command, folder);
	kill(session, SIGTERM);
	assert_int_equal(waitpid(session, &status, 0), session);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 128 + SIGTERM);
	assert_true(no_process(&command));
	assert_true(no_file(folder));
}

/* ---- the card ---- */
static void a_lost_card_is_an_error(void **state)
{
	char text[2048];
	(void)state;
	snprintf(text, sizeof text, "--timeout 120 -- '%s' xrt kill", worker);
	ends(text, 128 + SIGTERM);
	printed("card died");
}

static void the_card_survives_an_interrupt(void **state)
{
	char text[2048];
	(void)state;
	snprintf(text, sizeof text, "--timeout 120 -- '%s' xrt interrupt", worker);
	ends(text, 0);
}

static void what_is_missing_is_named(void **state)
{
	struct pf_emulation_options options = { .xrt = "/no/such/folder" };
	struct pf_emulation *emulation;
	struct pf_error error = { 0 };
	(void)state;
	assert_int_equal(pf_emulation_open(&options, &emulation, &error), PF_E_ABSENT);
	assert_non_null(strstr(error.text, "/no/such/folder"));
	assert_null(emulation);
	ends("--image /no/such.xclbin -- true", 1);
	printed("/no/such.xclbin");
}

/* The copy of an image that says it is for a card: m_mode, 16 bits at 332 of struct axlf (XRT's xclbin.h) */
static const char *for_a_card(void)
{
	static char bytes[64 << 20];
	FILE *in = fopen(image, "rb");
	assert_non_null(in);
	size_t length = fread(bytes, 1, sizeof bytes, in);
	fclose(in);
	assert_true(length > 334 && length < sizeof bytes && bytes[332] == 5);
	bytes[332] = 0;
	return scratch_bytes("card.xclbin", bytes, length);
}

/* By the name that the user gave, before anything is started */
static void other_images_are_refused(void **state)
{
	char text[4096];
	(void)state;
	scratch_open("xrt_session");
	snprintf(text, sizeof text, "--image '%s' -- echo started", scratch_text("garbage.xclbin", "no image"));
	ends(text, 1);
	printed("garbage.xclbin: 8 bytes are too few for an xclbin image");
	assert_null(strstr(output, "started"));
	snprintf(text, sizeof text, "--image '%s' -- echo started", for_a_card());
	ends(text, 1);
	printed("card.xclbin is built for cards");
	assert_null(strstr(output, "started"));
	snprintf(text, sizeof text, "--image '%s' -- echo started", image);
	ends(text, 0);
	printed("started");
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	program = argv[1];
	worker = argv[2];
	image = argv[3];
	if (emulate("-- true") == 77) {
		printf("skipped: %s", output);
		return 77;
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(exit_codes_pass), cmocka_unit_test(the_environment_is_set),
		cmocka_unit_test(time_limits_end_the_command), cmocka_unit_test(nothing_is_left),
		cmocka_unit_test(dead_sessions_are_removed),
		cmocka_unit_test(a_killed_session_ends_its_command),
		cmocka_unit_test(whoever_is_killed_nothing_remains),
		cmocka_unit_test(signals_go_on_to_the_command), cmocka_unit_test(a_lost_card_is_an_error),
		cmocka_unit_test(the_card_survives_an_interrupt),
		cmocka_unit_test(what_is_missing_is_named), cmocka_unit_test(other_images_are_refused),
	};
	return cmocka_run_group_tests_name("xrt_session", tests, NULL, NULL);
}
