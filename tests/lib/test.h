/*
 * test: the harness of the unit tests.
 *
 *	#include "test.h"
 *
 *	TEST(adds)
 *	{
 *		CHECK_EQ(1 + 1, 2);
 *	}
 *
 *	TEST_MAIN()
 *
 * Each test runs in a process of its own, in the order of the file, with a deadline: a crash, a
 * leak the sanitizer reports or a hang is that test's failure and no other's. The first CHECK that
 * does not hold ends its test. Output is `ok name`, `FAIL name: why` or `SKIP name: why` a test,
 * and the last line is `N passed, N failed`. The program exits 0, 1 (any failed), or 77 (all were
 * skipped). Arguments are names of tests to run; TEST_NO_FORK=1 runs them in one process, for a
 * debugger.
 */
#pragma once

#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	TEST_DEADLINE_S = 60
}; /* far beyond any unit test, sanitizers and a busy machine included */

struct test_case {
	const char *name;
	void (*run)(void);
	struct test_case *next;
};

void test_register(struct test_case *t);
int test_main(int argc, char **argv);

/* The ends of a test; each is reached through a macro below. */
_Noreturn void test_fail(const char *file, int line, const char *fmt, ...) _printf_(3, 4);
_Noreturn void test_skip(const char *fmt, ...) _printf_(1, 2);

void test_check_eq(const char *file, int line, const char *what, long long a, long long b);
void test_check_str(const char *file, int line, const char *what, const char *a, const char *b);
void test_check_mem(const char *file, int line, const char *what, struct span a, struct span b);
void test_check_ok(const char *file, int line, const char *what, int r, const struct err *e);

/*
 * An empty directory of this test alone: made at the first call, removed with all in it when the
 * test ends, however it ends. The string belongs to the harness.
 */
const char *test_tmpdir(void);

#define TEST(name_)                                                                                \
	static void test_##name_(void);                                                            \
	__attribute__((constructor)) static void register_##name_(void)                            \
	{                                                                                          \
		static struct test_case t = { .name = #name_, .run = test_##name_ };               \
		test_register(&t);                                                                 \
	}                                                                                          \
	static void test_##name_(void)

#define TEST_MAIN()                                                                                \
	int main(int argc, char **argv)                                                            \
	{                                                                                          \
		return test_main(argc, argv);                                                      \
	}

#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond))                                                                       \
			test_fail(__FILE__, __LINE__, "%s", #cond);                                \
	} while (0)

/* Integers of any kind; both are shown when they differ. */
#define CHECK_EQ(a, b)                                                                             \
	test_check_eq(__FILE__, __LINE__, #a " == " #b, (long long)(a), (long long)(b))

/* NUL-ended strings; NULL equals only NULL. */
#define CHECK_STR(a, b) test_check_str(__FILE__, __LINE__, #a " is " #b, a, b)

/* Two spans; CHECK_SPAN takes a string for the second. */
#define CHECK_MEM(a, b)  test_check_mem(__FILE__, __LINE__, #a " is " #b, a, b)
#define CHECK_SPAN(a, s) test_check_mem(__FILE__, __LINE__, #a " is " #s, a, span_str(s))

/* A call that must answer 0 or more; e is shown when it does not. */
#define CHECK_OK(call, e) test_check_ok(__FILE__, __LINE__, #call, call, e)

/* Ends this test as skipped: only for what the machine cannot do, never for a missing package. */
#define TEST_SKIP(...) test_skip(__VA_ARGS__)
