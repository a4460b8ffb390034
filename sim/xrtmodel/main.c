/* The device process of XRT's software emulation: stands where Vitis has its genericpciemodel.
 *
 * XRT forks and executes it without arguments when an image is loaded, and listens on
 * /tmp/$USER/$EMULATION_SOCKETID. It serves until the host closes the device or is gone.
 * `prefpga emulate` arranges all of that. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "server.h"

enum { CONNECT_TRIES = 3000, CONNECT_PAUSE_NS = 10000000 };    /* 30 s: XRT listens after fork */

/* Dies from a signal, because XRT takes an orderly exit for a call that is still to be answered */
static _Noreturn void die(const char *why)
{
	fprintf(stderr, "prefpga card model: %s\n", why);
	fflush(stderr);
	signal(SIGABRT, SIG_DFL);
	raise(SIGKILL);
	abort();
}

static void fatal(const char *why)
{
	die(why);
}

static void pause_ns(long ns)
{
	struct timespec time = { 0, ns };
	nanosleep(&time, NULL);
}

static int connect_host(void)
{
	const char *user = getenv("USER"), *id = getenv("EMULATION_SOCKETID");
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int length = snprintf(address.sun_path, sizeof address.sun_path, "/tmp/%s%s%s",
	                      user ? user : "", user ? "/" : "", id ? id : "xcl_sock");
	if (length < 0 || (size_t)length >= sizeof address.sun_path)
		die("the socket's path is too long: shorten $USER");
	for (int i = 0; i < CONNECT_TRIES; i++) {
		int host = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (host < 0)
			die(strerror(errno));
		if (connect(host, (struct sockaddr *)&address, sizeof address) == 0)
			return host;
		close(host);
		pause_ns(CONNECT_PAUSE_NS);
	}
	die("no host listens; run the program under `prefpga emulate`");
}

/* 1: done; 0: the host is gone */
static int receive(int host, void *data, size_t bytes)
{
	for (uint8_t *at = data; bytes;) {
		ssize_t got = read(host, at, bytes);
		if (got <= 0 && !(got < 0 && errno == EINTR))
			return 0;
		if (got > 0) {
			at += got;
			bytes -= (size_t)got;
		}
	}
	return 1;
}

static int transmit(int host, const void *data, size_t bytes)
{
	for (const uint8_t *at = data; bytes;) {
		ssize_t put = send(host, at, bytes, MSG_NOSIGNAL);
		if (put < 0 && errno != EINTR)
			return 0;
		if (put > 0) {
			at += put;
			bytes -= (size_t)put;
		}
	}
	return 1;
}

struct buffer { uint8_t *data; size_t size; };

static int receive_body(int host, struct buffer *body, uint64_t length)
{
	if (length + 1 > body->size) {
		uint8_t *data = realloc(body->data, length + 1);
		if (!data)
			die("out of memory for a request");
		*body = (struct buffer) { data, length + 1 };
	}
	return receive(host, body->data, length);
}

static void serve(int host, struct pf_emu_server *server)
{
	struct buffer body = { NULL, 0 };
	struct pf_wire_reply reply = { 0 };
	uint8_t head[PF_WIRE_HEAD];
	while (!server->over && receive(host, head, sizeof head)) {
		struct pf_wire_message message;
		struct pf_error error = { 0 };
		uint32_t api;
		uint64_t length;
		if (pf_wire_head(head, &api, &length) != 0)
			die("malformed request; is this XRT's socket?");
		if (!receive_body(host, &body, length))
			break;
		if (pf_wire_parse(body.data, length, &message) != 0)
			die("malformed request body");
		if (pf_emu_answer(server, api, &message, &reply, &error) != 0)
			die(error.text);
		if (!transmit(host, reply.data, reply.used))
			break;
	}
	free(body.data);
	free(reply.data);
}

/* A host that closes the device gives back what it allocated. XRT leaks memory of its own in every program, so no leak
 * checker sees a forgotten buffer; this does */
static void report_kept(const struct pf_emu_server *server)
{
	uint64_t bytes;
	const size_t count = server->over ? pf_emu_kept(server->memory, &bytes) : 0;
	if (count)
		fprintf(stderr, "prefpga card model: the device was closed with %zu buffers (%llu bytes) never freed\n",
		        count, (unsigned long long)bytes);
}

/* The card outlives Ctrl-C, so that the host can save its work; it ends with its socket */
static void ignore_signals(void)
{
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
}

int main(void)
{
	struct pf_emu_server server;
	ignore_signals();
	int host = connect_host();
	if (pf_emu_server_open(&server, fatal) != 0)
		die("cannot reserve address space for the card's memory");
	serve(host, &server);
	report_kept(&server);
	close(host);
	if (server.cus && pf_emu_cus_busy(server.cus))
		_exit(0);                      /* a kernel hangs and cannot be stopped */
	pf_emu_server_close(&server);
	return 0;
}
