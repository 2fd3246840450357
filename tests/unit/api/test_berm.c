/*
 * libberm over a supervisor without a machine (fake_sup.h): what each call does and refuses.
 */
#include "api_test.h"
#include "fake_sup.h"

#include "base/clock.h"
#include "failalloc.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

TEST(a_main_command_from_start_to_end)
{
	struct berm_result res = { .size = sizeof(res) };
	struct berm_command cmd = command(echo, BERM_STREAM_NULL, BERM_STREAM_PIPE);
	struct berm_config *c = config();
	struct berm_err err = { 0 };
	struct berm_sandbox *sb;
	struct berm *b;

	b = begin();
	OK(berm_config_set_command(c, &cmd, &err));
	OK(berm_start(b, c, &sb, &err));
	CHECK_EQ(strlen(berm_sandbox_id(sb)), 12);
	CHECK(berm_main(sb));
	OK(berm_wait_started(sb, LONG_MS, &err));
	expect_text(berm_main(sb), "hello world\n");
	expect_exit(berm_main(sb), 0);
	OK(berm_wait_ended(sb, LONG_MS, &res, &err));
	CHECK_EQ(res.reason, BERM_REASON_EXITED);
	CHECK_EQ(res.exit_code, 0);
	CHECK_EQ(res.level, BERM_LEVEL_EMULATED);
	CHECK_STR(res.engine, "qemu");
	CHECK_STR(berm_reason_name(res.reason), "exited");
	CHECK_EQ(fake_left(), 0);
	berm_process_free(berm_main(sb)); /* it is the sandbox's */
	berm_sandbox_free(sb);
	berm_config_free(c);
	berm_free(b);
}

TEST(commands_in_an_idle_sandbox)
{
	static const char *const three[] = { "exit", "3", NULL };
	struct berm_exit ex = { .size = sizeof(ex) };
	struct berm_err err = { 0 };
	struct berm_process *p[3];
	struct berm_sandbox *sb;
	struct berm *b;

	b = begin();
	sb = idle(b);
	CHECK(!berm_main(sb));
	p[0] = exec(sb, echo, BERM_STREAM_NULL, BERM_STREAM_PIPE);
	p[1] = exec(sb, three, BERM_STREAM_NULL, BERM_STREAM_NULL);
	p[2] = exec(sb, hang, BERM_STREAM_NULL, BERM_STREAM_NULL);
	expect_text(p[0], "hello world\n");
	expect_exit(p[0], 0);
	expect_exit(p[1], 3);
	BAD(-ETIMEDOUT, "not ended", berm_wait(p[2], 0, NULL, &err));
	OK(berm_signal(p[2], SIGTERM, &err));
	OK(berm_wait(p[2], LONG_MS, &ex, &err));
	CHECK_EQ(ex.signal, SIGTERM);
	CHECK_EQ(ex.code, 128 + SIGTERM);
	BAD(-ESRCH, "has ended", berm_signal(p[2], SIGTERM, &err));
	berm_process_free(p[1]);
	OK(berm_stop(sb, 0, LONG_MS, &err));
	OK(berm_stop(sb, 0, LONG_MS, &err)); /* and once more */
	BAD(-ESHUTDOWN, "stopped",
	    berm_exec(sb,
	              &(struct berm_command){ .size = sizeof(struct berm_command), .argv = echo },
	              &p[1], &err));
	berm_sandbox_free(sb); /* with the processes that are left */
	berm_free(b);
	CHECK_EQ(fake_left(), 0);
}

TEST(environments_are_what_was_said)
{
	static const char *const want[] = { "A=image\n", "B=config\n", "C=config\n", "" };
	static const char *const own[] = { "C=own", NULL };
	static const char *const names[] = { "A", "B", "C", "HOME" };
	struct berm_config *c = config();
	struct berm_err err = { 0 };
	struct berm_command cmd;
	struct berm_process *p;
	struct berm_sandbox *sb;
	struct berm *b;

	b = begin();
	(void)setenv("HOME", "/somewhere", 1);
	OK(berm_config_add_env(c, "B=nothing", &err));
	OK(berm_config_add_env(c, "C=config", &err));
	OK(berm_config_add_env(c, "B=config", &err));
	OK(berm_start(b, c, &sb, &err));
	for (int i = 0; i < 4; i++) {
		const char *const argv[] = { "env", names[i], NULL };

		p = exec(sb, argv, BERM_STREAM_NULL, BERM_STREAM_PIPE);
		expect_text(p, want[i]);
		cmd = command(argv, BERM_STREAM_NULL, BERM_STREAM_PIPE);
		cmd.env = own;
		OK(berm_exec(sb, &cmd, &p, &err));
		expect_text(p, i == 2 ? "C=own\n" : "");
	}
	berm_sandbox_free(sb);
	berm_config_free(c);
	berm_free(b);
	gone();
}

TEST(the_images_own_command)
{
	struct berm_command cmd = command(NULL, BERM_STREAM_NULL, BERM_STREAM_PIPE);
	struct berm_config *c = config();
	struct berm_err err = { 0 };
	struct berm_sandbox *sb;
	struct berm *b;

	b = begin();
	OK(berm_config_set_command(c, &cmd, &err));
	OK(berm_start(b, c, &sb, &err));
	expect_text(berm_main(sb), "image\n");
	berm_sandbox_free(sb);
	OK(berm_config_set_command(c, NULL, &err));
	OK(berm_start(b, c, &sb, &err));
	CHECK(!berm_main(sb));
	berm_sandbox_free(sb);
	berm_config_free(c);
	berm_free(b);
	gone();
}

TEST(bytes_go_in_and_come_back_through_pipes)
{
	enum { BYTES = 3 << 20 };
	struct berm_err err = { 0 };
	struct berm_process *p;
	struct berm_sandbox *sb;
	uint8_t *data = malloc(BYTES);
	uint8_t *back = malloc(BYTES);
	size_t in = 0;
	size_t out = 0;
	struct berm *b;

	b = begin();
	sb = idle(b);
	for (size_t i = 0; i < BYTES; i++)
		data[i] = fake_pattern(i);
	p = exec(sb, cat, BERM_STREAM_PIPE, BERM_STREAM_PIPE);
	while (out < BYTES) {
		ssize_t n = 0;

		if (in < BYTES)
			n = berm_write(p, data + in, BYTES - in, 0, &err);
		CHECK(n >= 0 || n == -EAGAIN);
		in += n > 0 ? (size_t)n : 0;
		if (in == BYTES)
			OK(berm_close_stdin(p, &err));
		n = berm_read(p, BERM_STDOUT, back + out, BYTES - out, in < BYTES ? 1 : LONG_MS,
		              &err);
		CHECK(n > 0 || n == -EAGAIN);
		out += n > 0 ? (size_t)n : 0;
	}
	CHECK(memcmp(data, back, BYTES) == 0);
	CHECK_EQ(berm_read(p, BERM_STDOUT, back, 1, LONG_MS, &err), 0);
	CHECK_EQ(berm_read(p, BERM_STDOUT, back, 1, 0, &err), 0); /* and stays at the end */
	BAD(-EPIPE, "no more", berm_write(p, data, 1, 0, &err));
	OK(berm_close_stdin(p, &err));
	expect_exit(p, 0);
	berm_sandbox_free(sb);
	berm_free(b);
	free(data);
	free(back);
	gone();
}

TEST(who_does_not_read_stalls_the_command_and_nobody_else)
{
	static const char *const yes[] = { "yes", "1000000", NULL };
	struct berm_err err = { 0 };
	struct berm_process *slow;
	struct berm_sandbox *sb;
	uint8_t data[8192];
	uint64_t got = 0;
	struct berm *b;

	b = begin();
	sb = idle(b);
	slow = exec(sb, yes, BERM_STREAM_NULL, BERM_STREAM_PIPE);
	BAD(-ETIMEDOUT, "not ended", berm_wait(slow, 50, NULL, &err));
	expect_text(exec(sb, echo, BERM_STREAM_NULL, BERM_STREAM_PIPE), "hello world\n");
	for (;;) {
		ssize_t n = berm_read(slow, BERM_STDOUT, data, sizeof(data), LONG_MS, &err);

		OK(n);
		if (n == 0)
			break;
		for (ssize_t i = 0; i < n; i++)
			CHECK_EQ(data[i], fake_pattern(got + (uint64_t)i));
		got += (uint64_t)n;
	}
	CHECK_EQ(got, 1000000);
	expect_exit(slow, 0);
	finish(b, sb);
}

/* --- what fails --- */

TEST(a_command_that_cannot_start)
{
	static const char *const missing[] = { "missing", NULL };
	struct berm_command cmd = command(missing, BERM_STREAM_NULL, BERM_STREAM_PIPE);
	struct berm_result res = { .size = sizeof(res) };
	struct berm_config *c = config();
	struct berm_err err = { 0 };
	struct berm_process *p;
	struct berm_sandbox *sb;
	struct berm *b;

	b = begin();
	sb = idle(b);
	p = exec(sb, missing, BERM_STREAM_NULL, BERM_STREAM_PIPE);
	BAD(-ENOENT, "no such command in the guest: missing", berm_wait(p, LONG_MS, NULL, &err));
	expect_text(p, "");
	berm_sandbox_free(sb);

	OK(berm_config_set_command(c, &cmd, &err));
	OK(berm_start(b, c, &sb, &err));
	BAD(-ESHUTDOWN, "missing", berm_wait_started(sb, LONG_MS, &err));
	BAD(-ENOENT, "no such command", berm_wait(berm_main(sb), LONG_MS, NULL, &err));
	OK(berm_wait_ended(sb, LONG_MS, &res, &err));
	CHECK_EQ(res.reason, BERM_REASON_COMMAND);
	CHECK_EQ(res.exit_code, 127);
	berm_sandbox_free(sb);
	berm_config_free(c);
	berm_free(b);
	gone();
}

TEST(a_sandbox_that_does_not_start)
{
	struct berm_config *c = config();
	struct berm_err err = { 0 };
	struct berm_result res = { .size = sizeof(res) };
	struct berm_command cmd = command(echo, BERM_STREAM_NULL, BERM_STREAM_PIPE);
	struct berm_process *p = NULL;
	struct berm_sandbox *sb;
	struct berm *b;
	int r;

	b = begin();
	OK(berm_config_set_name(c, "no-start", &err));
	OK(berm_start(b, c, &sb, &err));
	r = berm_exec(sb, &cmd, &p, &err);
	CHECK(r == 0 || r == -ESHUTDOWN); /* the latter if it is known by now */
	BAD(-ESHUTDOWN, "it would not", berm_wait_started(sb, LONG_MS, &err));
	if (r == 0)
		BAD(-ESHUTDOWN, "it would not", berm_wait(p, LONG_MS, NULL, &err));
	OK(berm_wait_ended(sb, 0, &res, &err));
	CHECK_EQ(res.reason, BERM_REASON_NOT_STARTED);
	berm_sandbox_free(sb);
	berm_config_free(c);
	berm_free(b);
	gone();
}

TEST(a_supervisor_that_is_killed)
{
	static const char *const die[] = { "die", NULL };
	struct berm_err err = { 0 };
	struct berm_process *p[2];
	struct berm_sandbox *sb;
	struct berm *b;

	b = begin();
	sb = idle(b);
	p[0] = exec(sb, hang, BERM_STREAM_PIPE, BERM_STREAM_PIPE);
	p[1] = exec(sb, die, BERM_STREAM_NULL, BERM_STREAM_NULL);
	BAD(-ENODATA, "supervisor has gone", berm_wait(p[1], LONG_MS, NULL, &err));
	BAD(-ENODATA, "supervisor has gone", berm_wait(p[0], LONG_MS, NULL, &err));
	BAD(-ENODATA, "supervisor has gone", berm_wait_ended(sb, LONG_MS, NULL, &err));
	BAD(-ENODATA, "supervisor has gone", berm_stop(sb, 0, LONG_MS, &err));
	BAD(-EPIPE, "no more", berm_write(p[0], "x", 1, LONG_MS, &err));
	berm_sandbox_free(sb);
	berm_free(b);
	b = fake_berm(); /* sweeps */
	CHECK_EQ(fake_left(), 0);
	berm_free(b);
}

TEST(a_supervisor_that_speaks_nonsense)
{
	static const char *const lie[] = { "lie", NULL };
	struct berm_err err = { 0 };
	struct berm_process *p;
	struct berm_sandbox *sb;
	struct berm *b;

	b = begin();
	sb = idle(b);
	p = exec(sb, lie, BERM_STREAM_NULL, BERM_STREAM_NULL);
	BAD(-EPROTO, "protocol", berm_wait(p, LONG_MS, NULL, &err));
	expect_text(exec(sb, echo, BERM_STREAM_NULL, BERM_STREAM_PIPE), "hello world\n");
	finish(b, sb);
}

TEST(installations_and_images_that_are_not_there)
{
	struct berm_config *c = config();
	struct berm_err err = { 0 };
	char id[BERM_IMAGE_ID_MAX];
	struct berm_sandbox *sb;
	struct berm *b = NULL;

	fake_install();
	BAD(-ENOENT, "no installation", berm_new("/nowhere", fake_state(), &b, &err));
	BAD(-ENOENT, "is in no installation of berm", berm_new(NULL, fake_state(), &b, &err));
	BAD(-EINVAL, "empty", berm_new(fake_prefix(), "", &b, &err));
	CHECK(berm_new(fake_prefix(), "/proc/nothing", &b, &err) < 0);
	CHECK(!b);
	b = fake_berm();
	OK(berm_find_image(b, NULL, id, &err));
	CHECK_STR(id, FAKE_IMAGE_ID);
	OK(berm_find_image(b, "001122334455", id, &err));
	BAD(-ENOENT, "no image 'other' here", berm_find_image(b, "other", id, &err));
	BAD(-EINVAL, "neither an image's name", berm_find_image(b, "UPPER CASE", id, &err));
	OK(berm_config_set_image(c, "other", &err));
	BAD(-ENOENT, "no image 'other' here", berm_start(b, c, &sb, &err));
	CHECK_EQ(fake_left(), 0);
	berm_config_free(c);
	berm_free(b);
}

TEST(bounds_are_told_when_they_are_set)
{
	struct berm_config *c = config();
	struct berm_err err = { 0 };
	char text[4200];

	BAD(-EINVAL, "64 MiB", berm_config_set_memory(c, 0, &err));
	BAD(-EINVAL, "64 MiB", berm_config_set_memory(c, (512 << 20) + 1, &err));
	BAD(-EINVAL, "64 MiB", berm_config_set_memory(c, UINT64_MAX, &err));
	BAD(-EINVAL, "16 MiB", berm_config_set_disk(c, 1, &err));
	BAD(-EINVAL, "1 to 32", berm_config_set_cpus(c, 33, &err));
	BAD(-EINVAL, "65536", berm_config_set_pids(c, 0, &err));
	BAD(-EINVAL, "366 days", berm_config_set_time_limit(c, UINT64_MAX, &err));
	BAD(-EINVAL, "366 days", berm_config_set_idle_limit(c, UINT64_MAX, &err));
	BAD(-EINVAL, "1024 TiB", berm_config_set_output_limit(c, UINT64_MAX, &err));
	BAD(-EINVAL, "BERM_ENGINE", berm_config_set_engine(c, 3, &err));
	BAD(-EINVAL, "BERM_ENGINE", berm_config_set_engine(c, -1, &err));
	BAD(-EINVAL, "BERM_LEVEL", berm_config_set_minimum_level(c, 0, &err));
	BAD(-EINVAL, "letter or digit", berm_config_set_name(c, "-x", &err));
	BAD(-EINVAL, "letter or digit", berm_config_set_hostname(c, "", &err));
	BAD(-EINVAL, "letter or digit", berm_config_set_snapshot(c, "a/b", &err));
	BAD(-EINVAL, "1 to 255", berm_config_set_image(c, "", &err));
	BAD(-EINVAL, "NAME=VALUE", berm_config_add_env(c, "novalue", &err));
	BAD(-EINVAL, "NULL", berm_config_add_env(c, NULL, &err));
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	BAD(-EINVAL, "4096", berm_config_add_warmup(c, text, &err));
	for (int i = 0; i < 16; i++)
		OK(berm_config_add_warmup(c, "true", &err));
	BAD(-E2BIG, "more than 16", berm_config_add_warmup(c, "true", &err));
	BAD(-EINVAL, "cold", berm_config_set_cold(c, 1, &err));
	OK(berm_config_set_host_cpu(c, 1, &err));
	BAD(-EINVAL, "config is NULL", berm_config_set_host_cpu(NULL, 1, &err));
	BAD(-EINVAL, "config is NULL", berm_config_set_cpus(NULL, 1, &err));
	CHECK_EQ(berm_config_set_cpus(c, 0, NULL), -EINVAL); /* nobody wants to know */
	berm_config_free(c);
	berm_config_free(NULL);
}

TEST(commands_are_judged)
{
	static const char *const none[] = { NULL };
	static const char *const empty[] = { "", NULL };
	static const char *const no_value[] = { "A", NULL };
	struct berm_err err = { 0 };
	struct berm_command good;
	struct berm_command c;
	struct berm_process *p;
	struct berm_sandbox *sb;
	struct berm *b;

	b = begin();
	sb = idle(b);
	good = command(echo, BERM_STREAM_NULL, BERM_STREAM_NULL);
#define REFUSED(code, words, ...)                                                                  \
	c = good;                                                                                  \
	__VA_ARGS__;                                                                               \
	BAD(code, words, berm_exec(sb, &c, &p, &err))
	REFUSED(-EINVAL, "argv is NULL", c.argv = NULL);
	REFUSED(-EINVAL, "names no command", c.argv = none);
	REFUSED(-EINVAL, "names no command", c.argv = empty);
	REFUSED(-EINVAL, "NAME=VALUE", c.env = no_value);
	REFUSED(-EINVAL, "must begin with '/'", c.workdir = "here");
	REFUSED(-EINVAL, "none of BERM_STREAM", c.in.kind = 7);
	REFUSED(-EBADF, "no open file", c.out = ((struct berm_stream){ BERM_STREAM_FD, 999 }));
	REFUSED(-EINVAL, "only BERM_TTY", c.flags = 2);
	REFUSED(-EINVAL, "size must be", c.size = 0);
	REFUSED(-EINVAL, "size must be", c.size = SIZE_MAX);
	BAD(-EINVAL, "is NULL", berm_exec(sb, NULL, &p, &err));
	BAD(-EINVAL, "is NULL", berm_exec(sb, &good, NULL, &err));
	BAD(-EINVAL, "is NULL", berm_exec(NULL, &good, &p, &err));
	BAD(-EINVAL, "is NULL", berm_wait(NULL, 0, NULL, &err));
	BAD(-EINVAL, "is NULL", berm_start(NULL, NULL, &sb, &err));
	BAD(-EINVAL, "is NULL", berm_start(b, NULL, &sb, &err));
	BAD(-EINVAL, "hour", berm_stop(sb, 3600001, 0, &err));
	p = exec(sb, hang, BERM_STREAM_NULL, BERM_STREAM_FD - 1);
	BAD(-EINVAL, "no BERM_STREAM_PIPE", berm_write(p, "x", 1, 0, &err));
	BAD(-EINVAL, "no BERM_STREAM_PIPE", berm_close_stdin(p, &err));
	BAD(-EINVAL, "no BERM_STREAM_PIPE", berm_read(p, BERM_STDERR, &c, 1, 0, &err));
	BAD(-EINVAL, "stdin is for", berm_read(p, BERM_STDIN, &c, 1, 0, &err));
	BAD(-EINVAL, "none of the command's", berm_read(p, 5, &c, 1, 0, &err));
	BAD(-EINVAL, "no room", berm_read(p, BERM_STDOUT, &c, 0, 0, &err));
	BAD(-EAGAIN, "nothing to read", berm_read(p, BERM_STDOUT, &c, 1, 0, &err));
	BAD(-EINVAL, "1 to 64", berm_signal(p, 65, &err));
	BAD(-EINVAL, "no terminal", berm_resize(p, 1, 1, &err));
	berm_process_free(NULL);
	berm_sandbox_free(NULL);
	berm_sandbox_free(sb);
	berm_free(b);
	berm_free(NULL);
	gone();
}

/* A program built with an older or a newer header than the library. */
TEST(structs_may_be_of_other_versions)
{
	struct {
		struct berm_command c;
		uint64_t later;
	} newer = { .c = command(echo, BERM_STREAM_NULL, BERM_STREAM_PIPE) };
	struct {
		struct berm_exit ex;
		uint64_t later;
	} more = { .ex.size = sizeof(more), .later = 7 };
	struct berm_exit less = { .size = offsetof(struct berm_exit, signal), .signal = 99 };
	struct berm_err err = { 0 };
	struct berm_process *p;
	struct berm_sandbox *sb;
	struct berm *b;

	b = begin();
	sb = idle(b);
	newer.c.size = sizeof(newer);
	OK(berm_exec(sb, &newer.c, &p, &err));
	OK(berm_wait(p, LONG_MS, &more.ex, &err));
	CHECK_EQ(more.ex.code, 0);
	CHECK_EQ(more.later, 0);
	CHECK_EQ(more.ex.size, sizeof(more));
	OK(berm_wait(p, LONG_MS, &less, &err));
	CHECK_EQ(less.signal, 99); /* not known to the program, and not touched */
	less.size = 3;
	BAD(-EINVAL, "size must be", berm_wait(p, LONG_MS, &less, &err));
	newer.later = 1;
	BAD(-EINVAL, "does not know", berm_exec(sb, &newer.c, &p, &err));
	newer.c.size = offsetof(struct berm_command, flags);
	OK(berm_exec(sb, &newer.c, &p, &err));
	expect_text(p, "hello world\n");
	finish(b, sb);
}

TEST(names_are_unique_and_found)
{
	struct berm_config *c = config();
	struct berm_err err = { 0 };
	struct berm_sandbox *sb[3];
	struct berm *b;

	b = begin();
	OK(berm_config_set_name(c, "web", &err));
	OK(berm_start(b, c, &sb[0], &err));
	OK(berm_wait_started(sb[0], LONG_MS, &err));
	BAD(-EEXIST, "'web'", berm_start(b, c, &sb[1], &err));
	OK(berm_connect(b, "web", &sb[1], &err));
	CHECK_STR(berm_sandbox_id(sb[1]), berm_sandbox_id(sb[0]));
	OK(berm_connect(b, berm_sandbox_id(sb[0]), &sb[2], &err));
	expect_text(exec(sb[1], echo, BERM_STREAM_NULL, BERM_STREAM_PIPE), "hello world\n");
	berm_sandbox_free(sb[1]); /* does nothing to it */
	expect_text(exec(sb[0], echo, BERM_STREAM_NULL, BERM_STREAM_PIPE), "hello world\n");
	OK(berm_stop(sb[2], 0, LONG_MS, &err));
	OK(berm_wait_ended(sb[0], LONG_MS, NULL, &err));
	berm_sandbox_free(sb[2]);
	BAD(-ENOENT, "web", berm_connect(b, "web", &sb[1], &err));
	berm_sandbox_free(sb[0]);
	berm_config_free(c);
	berm_free(b);
}

TEST(a_detached_sandbox_outlives_its_handle)
{
	struct berm_config *c = config();
	struct berm_err err = { 0 };
	struct berm_sandbox *sb;
	char id[BERM_ID_MAX];
	struct berm *b;

	b = begin();
	OK(berm_config_set_detached(c, 1, &err));
	OK(berm_start(b, c, &sb, &err));
	OK(berm_wait_started(sb, LONG_MS, &err));
	memcpy(id, berm_sandbox_id(sb), 13);
	berm_sandbox_free(sb);
	berm_free(b);
	b = fake_berm();
	OK(berm_connect(b, id, &sb, &err));
	expect_text(exec(sb, echo, BERM_STREAM_NULL, BERM_STREAM_PIPE), "hello world\n");
	OK(berm_stop(sb, 0, LONG_MS, &err));
	berm_sandbox_free(sb);
	berm_config_free(c);
	berm_free(b);
	CHECK_EQ(fake_left(), 0);
}

TEST(handles_hold_what_they_need)
{
	struct berm_err err = { 0 };
	struct berm_sandbox *sb;
	struct berm *b;

	b = begin();
	sb = idle(b);
	berm_free(b); /* before its sandbox */
	expect_text(exec(sb, echo, BERM_STREAM_NULL, BERM_STREAM_PIPE), "hello world\n");
	OK(berm_stop(sb, 0, LONG_MS, &err));
	berm_sandbox_free(sb);
}

TEST(stats_with_and_without_waiting)
{
	struct berm_stats st = { .size = sizeof(st) };
	struct berm_event ev = { .size = sizeof(ev) };
	struct berm_err err = { 0 };
	struct berm_sandbox *sb;
	struct berm *b;

	b = begin();
	sb = idle(b);
	OK(berm_get_stats(sb, LONG_MS, &st, &err));
	CHECK_EQ(st.wall_ms, 7);
	CHECK_EQ(st.cpu_ms, 9);
	CHECK_EQ(st.level, BERM_LEVEL_EMULATED);
	CHECK_STR(st.engine, "fake");
	CHECK_EQ(st.guest_known, 1);
	CHECK_EQ(st.guest_pids, 6);
	CHECK_EQ(berm_next_event(sb, &ev, &err), 1);
	CHECK_EQ(ev.kind, BERM_EVENT_STARTED);
	CHECK_EQ(berm_next_event(sb, &ev, &err), 0);
	st.wall_ms = 0;
	if (berm_get_stats(sb, 0, &st, &err) == -ETIMEDOUT) {
		struct pollfd p = { .fd = berm_event_fd(sb, &err), .events = POLLIN };

		do
			CHECK_EQ(poll(&p, 1, LONG_MS), 1);
		while (berm_next_event(sb, &ev, &err) == 0);
		CHECK_EQ(ev.kind, BERM_EVENT_STATS);
		OK(berm_get_stats(sb, 0, &st, &err));
	}
	CHECK_EQ(st.wall_ms, 7);
	OK(berm_stop(sb, 0, LONG_MS, &err));
	BAD(-ESHUTDOWN, "stopped", berm_get_stats(sb, LONG_MS, &st, &err));
	berm_sandbox_free(sb);
	berm_free(b);
}

TEST(a_sandbox_on_its_way_is_not_paused)
{
	struct berm_config *c = config();
	struct berm_err err = { 0 };
	struct berm_sandbox *sb;
	struct berm *b;

	b = begin();
	OK(berm_config_set_name(c, "slow-start", &err));
	OK(berm_start(b, c, &sb, &err));
	BAD(-EAGAIN, "not running yet", berm_pause(sb, LONG_MS, &err));
	berm_sandbox_free(sb);
	berm_config_free(c);
	berm_free(b);
}

TEST(pausing_and_snapshots_are_asked_for)
{
	struct berm_err err = { 0 };
	struct berm_sandbox *sb;
	struct berm *b;

	b = begin();
	sb = idle(b);
	OK(berm_pause(sb, LONG_MS, &err));
	OK(berm_resume(sb, LONG_MS, &err));
	OK(berm_snapshot(sb, "new", LONG_MS, &err));
	BAD(-EEXIST, "make a snapshot: there is one", berm_snapshot(sb, "old", LONG_MS, &err));
	BAD(-EINVAL, "name", berm_snapshot(sb, "/", LONG_MS, &err));
	BAD(-EINVAL, "name", berm_snapshot(sb, NULL, LONG_MS, &err));
	BAD(-ETIMEDOUT, "in time", berm_snapshot(sb, "never", 50, &err));
	BAD(-ECONNRESET, "did not answer", berm_snapshot(sb, "cut", LONG_MS, &err));
	OK(berm_stop(sb, 0, LONG_MS, &err));
	BAD(-ESHUTDOWN, "stopped", berm_pause(sb, 0, &err));
	berm_sandbox_free(sb);
	berm_free(b);
}

/* Nothing pretends, and nobody is harmed by having been asked. */
TEST(what_a_supervisor_cannot_do_is_said)
{
	struct berm_config *c = config();
	struct berm_err err = { 0 };
	struct berm_sandbox *child[1];
	struct berm_sandbox *sb;
	struct berm *b;

	b = begin();
	OK(berm_config_set_name(c, "old-version", &err));
	OK(berm_start(b, c, &sb, &err));
	OK(berm_wait_started(sb, LONG_MS, &err));
	BAD(-ENOTSUP, "cannot pause", berm_pause(sb, LONG_MS, &err));
	BAD(-ENOTSUP, "cannot go on", berm_resume(sb, LONG_MS, &err));
	BAD(-ENOTSUP, "cannot make a snapshot", berm_snapshot(sb, "a", LONG_MS, &err));
	BAD(-ENOTSUP, "cannot fork", berm_fork(sb, 1, LONG_MS, child, &err));
	BAD(-EINVAL, "1 to 1024", berm_fork(sb, 0, LONG_MS, child, &err));
	BAD(-EINVAL, "1 to 1024", berm_fork(sb, 1, LONG_MS, NULL, &err));
	expect_text(exec(sb, echo, BERM_STREAM_NULL, BERM_STREAM_PIPE), "hello world\n");
	berm_sandbox_free(sb);
	berm_config_free(c);
	berm_free(b);
	gone();
}

TEST(out_of_memory_leaves_nothing)
{
	struct berm_command cmd = command(echo, BERM_STREAM_NULL, BERM_STREAM_PIPE);
	struct berm *b;

	fake_install();
	FAILALLOC_EACH()
	{
		struct berm_err err = { 0 };
		struct berm_config *c = NULL;
		struct berm_sandbox *sb = NULL;
		struct berm_process *p = NULL;
		bool hit;
		int r;

		b = NULL;
		r = berm_new(fake_prefix(), fake_state(), &b, &err);
		if (r == 0)
			r = berm_config_new(&c, &err);
		if (r == 0)
			r = berm_config_add_env(c, "A=b", &err);
		if (r == 0)
			r = berm_config_set_command(c, &cmd, &err);
		if (r == 0)
			r = berm_start(b, c, &sb, &err);
		if (r == 0)
			r = berm_exec(sb, &cmd, &p, &err);
		hit = failalloc_hit();
		if (r == -ENODATA) /* what could not be read was the word of its end, so */
			CHECK(hit);
		else if (r != -ESHUTDOWN) /* the main command ends by itself */
			CHECK_EQ(r, hit ? -ENOMEM : 0);
		berm_sandbox_free(sb);
		berm_config_free(c);
		berm_free(b);
		gone();
	}
}

API_TEST_MAIN()
