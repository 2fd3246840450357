/*
 * api_test: what the tests of libberm say again and again. Each function has a `struct berm_err
 * err`.
 */
#pragma once

#include "base/clock.h"
#include "fake_sup.h"
#include "test.h"

#include <poll.h>
#include <string.h>

enum { LONG_MS = 30000 };

/* A call that must answer 0 or more. */
#define OK(call)                                                                                   \
	do {                                                                                       \
		long r_ = (call);                                                                  \
		if (r_ < 0)                                                                        \
			test_fail(__FILE__, __LINE__, "%s: %ld: %s", #call, r_, err.text);         \
	} while (0)

/* One that must fail with that code and these words. */
#define BAD(code_, words, call)                                                                    \
	do {                                                                                       \
		long r_;                                                                           \
		err = (struct berm_err){ 0 };                                                      \
		r_ = (call);                                                                       \
		if (r_ != (code_) || err.code != (code_) || !strstr(err.text, words))              \
			test_fail(__FILE__, __LINE__, "%s: %ld, %d '%s', not %d '%s'", #call, r_,  \
			          err.code, err.text, code_, words);                               \
	} while (0)

static const char *const echo[] = { "echo", "hello", "world", NULL };
static const char *const cat[] = { "cat", NULL };
static const char *const hang[] = { "hang", NULL };

/* What each test begins with: sandboxes are the test's own, fake_sup.h. */
static inline struct berm *begin(void)
{
	fake_install();
	return fake_berm();
}

static inline struct berm_config *config(void)
{
	struct berm_err err = { 0 };
	struct berm_config *c;

	OK(berm_config_new(&c, &err));
	return c;
}

static inline struct berm_command command(const char *const *argv, int in, int out)
{
	return (struct berm_command){
		.size = sizeof(struct berm_command),
		.argv = argv,
		.in.kind = in,
		.out.kind = out,
	};
}

/* A sandbox without a main command, running. */
static inline struct berm_sandbox *idle(struct berm *b)
{
	struct berm_config *c = config();
	struct berm_err err = { 0 };
	struct berm_sandbox *sb;

	OK(berm_start(b, c, &sb, &err));
	OK(berm_wait_started(sb, LONG_MS, &err));
	berm_config_free(c);
	return sb;
}

static inline struct berm_process *exec(struct berm_sandbox *sb, const char *const *argv, int in,
                                        int out)
{
	struct berm_command cmd = command(argv, in, out);
	struct berm_err err = { 0 };
	struct berm_process *p;

	OK(berm_exec(sb, &cmd, &p, &err));
	return p;
}

static inline void expect_text(struct berm_process *p, const char *want)
{
	struct berm_err err = { 0 };
	char text[256];
	size_t len = 0;
	ssize_t n;

	while ((n = berm_read(p, BERM_STDOUT, text + len, sizeof(text) - len, LONG_MS, &err)) > 0)
		len += (size_t)n;
	OK(n);
	CHECK_SPAN(span_of(text, len), want);
}

static inline void expect_exit(struct berm_process *p, int code)
{
	struct berm_exit ex = { .size = sizeof(ex) };
	struct berm_err err = { 0 };

	OK(berm_wait(p, LONG_MS, &ex, &err));
	CHECK_EQ(ex.code, code);
}

/* All sandboxes, with their directories. */
static inline void gone(void)
{
	for (uint64_t end = clock_mono_ms() + LONG_MS; fake_left() > 0;) {
		CHECK(clock_mono_ms() < end);
		(void)poll(NULL, 0, 1);
	}
}

/* What most tests end with. */
static inline void finish(struct berm *b, struct berm_sandbox *sb)
{
	berm_sandbox_free(sb);
	berm_free(b);
	gone();
}

/* The test program is its own supervisor. */
#define API_TEST_MAIN()                                                                            \
	int main(int argc, char **argv)                                                            \
	{                                                                                          \
		if (argc > 0 && strcmp(argv[0], "berm-supervisor") == 0)                           \
			return fake_supervisor(argc, argv);                                        \
		return test_main(argc, argv);                                                      \
	}
