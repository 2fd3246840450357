#include "test.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/fdio.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum {
	EXIT_CHECK = 99, /* the test said why itself; sanitizers use other codes */
	EXIT_SKIP = 77,
	SHOWN_BYTES_MAX = 256, /* of a value that differs */
};

static struct {
	struct test_case *first;
	struct test_case *last;
	const char *name; /* of the test that runs */
	char tmpdir[128];
	unsigned count;
	unsigned passed, failed, skipped;
} state;

void test_register(struct test_case *t)
{
	if (state.last)
		state.last->next = t;
	else
		state.first = t;
	state.last = t;
}

_Noreturn void test_fail(const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	printf("FAIL %s: %s:%d: ", state.name, file, line);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	(void)fflush(stdout);
	_exit(EXIT_CHECK);
}

_Noreturn void test_skip(const char *fmt, ...)
{
	va_list ap;

	printf("SKIP %s: ", state.name);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	(void)fflush(stdout);
	_exit(EXIT_SKIP);
}

void test_check_eq(const char *file, int line, const char *what, long long a, long long b)
{
	if (a != b)
		test_fail(file, line, "%s: %lld (0x%llx) and %lld (0x%llx)", what, a,
		          (unsigned long long)a, b, (unsigned long long)b);
}

void test_check_mem(const char *file, int line, const char *what, struct span a, struct span b)
{
	char text_a[SHOWN_BYTES_MAX];
	char text_b[SHOWN_BYTES_MAX];
	struct buf buf_a;
	struct buf buf_b;

	if (span_equal(a, b))
		return;
	buf_init(&buf_a, text_a, sizeof(text_a) - 1);
	buf_init(&buf_b, text_b, sizeof(text_b) - 1);
	buf_put_escaped(&buf_a, a);
	buf_put_escaped(&buf_b, b);
	test_fail(file, line, "%s: %zu bytes '%.*s' and %zu bytes '%.*s'", what, a.len,
	          (int)buf_a.len, text_a, b.len, (int)buf_b.len, text_b);
}

void test_check_str(const char *file, int line, const char *what, const char *a, const char *b)
{
	if (!a && !b)
		return;
	if (!a || !b)
		test_fail(file, line, "%s: '%s' and '%s'", what, a ? a : "(NULL)",
		          b ? b : "(NULL)");
	test_check_mem(file, line, what, span_str(a), span_str(b));
}

void test_check_ok(const char *file, int line, const char *what, int r, const struct err *e)
{
	if (r < 0)
		test_fail(file, line, "%s: %d (%s): %s", what, r, strerror(-r), e ? e->text : "");
}

const char *test_tmpdir(void)
{
	if (mkdir(state.tmpdir, 0700) < 0 && errno != EEXIST)
		test_fail(__FILE__, __LINE__, "make '%s': %s", state.tmpdir, strerror(errno));
	return state.tmpdir;
}

static void name_tmpdir(void)
{
	const char *base = getenv("TMPDIR");

	(void)snprintf(state.tmpdir, sizeof(state.tmpdir), "%.80s/berm-test-%d-%u",
	               base && *base ? base : "/tmp", (int)getpid(), state.count++);
}

static void count_result(int status)
{
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		printf("ok %s\n", state.name);
		state.passed++;
		return;
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SKIP) {
		state.skipped++;
		return;
	}
	state.failed++;
	if (WIFSIGNALED(status))
		printf("FAIL %s: killed by signal %d (%s)\n", state.name, WTERMSIG(status),
		       strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status) != EXIT_CHECK)
		printf("FAIL %s: exited with %d\n", state.name, WEXITSTATUS(status));
}

/* Waits for the child or the deadline. What it left running in its process group ends with it. */
static int wait_child(pid_t pid)
{
	struct pollfd p = { .fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN };
	uint64_t end = clock_mono_ms() + TEST_DEADLINE_S * 1000;
	int status = 0;
	int r = 0;

	while (p.fd >= 0 && r <= 0 && clock_mono_ms() < end)
		r = poll(&p, 1, (int)(end - clock_mono_ms()));
	if (r <= 0)
		printf("%s: still running after %d s\n", state.name, TEST_DEADLINE_S);
	(void)kill(-pid, SIGKILL);
	(void)waitpid(pid, &status, 0);
	if (p.fd >= 0)
		(void)close(p.fd);
	return status;
}

static void remove_tmpdir(void)
{
	struct err e = { 0 };

	if (fd_remove_tree(AT_FDCWD, state.tmpdir, &e) == 0)
		return;
	printf("FAIL %s: leaves '%s' behind: %s\n", state.name, state.tmpdir, e.text);
	state.failed++;
}

static void run_one(const struct test_case *t)
{
	pid_t pid;

	state.name = t->name;
	name_tmpdir();
	(void)fflush(stdout);
	pid = fork();
	if (pid == 0) {
		(void)setpgid(0, 0);
		t->run();
		exit(0); /* through atexit: the leak check runs there */
	}
	if (pid < 0) {
		printf("FAIL %s: fork: %s\n", t->name, strerror(errno));
		state.failed++;
		return;
	}
	(void)setpgid(pid, pid);
	count_result(wait_child(pid));
	remove_tmpdir();
}

static void run_here(const struct test_case *t)
{
	state.name = t->name;
	name_tmpdir();
	t->run();
	count_result(0);
	remove_tmpdir();
}

static bool chosen(const char *name, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], name) == 0)
			return true;
	return argc < 2;
}

int test_main(int argc, char **argv)
{
	bool here = getenv("TEST_NO_FORK") != NULL;

	for (const struct test_case *t = state.first; t; t = t->next) {
		if (!chosen(t->name, argc, argv))
			continue;
		if (here)
			run_here(t);
		else
			run_one(t);
	}
	printf("%u passed, %u failed\n", state.passed, state.failed);
	if (state.failed > 0)
		return 1;
	if (state.passed > 0)
		return 0;
	return state.skipped > 0 ? EXIT_SKIP : 1;
}
