#include "base/fdio.h"

#include "base/log.h"
#include "test.h"

#include <fcntl.h>
#include <string.h>

/* Runs nothing else: what follows goes to a file instead of stderr. */
static int catch_stderr(void)
{
	struct err e = { 0 };
	int fd = -1;
	int dir;

	CHECK_OK(fd_make_dirs(test_tmpdir(), &dir, &e), &e);
	CHECK_OK(fd_tmpfile(dir, 0600, &fd, &e), &e);
	(void)close(dir);
	CHECK(dup2(fd, STDERR_FILENO) == STDERR_FILENO);
	return fd;
}

static struct span caught(int fd, char *room, size_t size)
{
	ssize_t n = pread(fd, room, size, 0);

	CHECK(n >= 0);
	return span_of(room, (size_t)n);
}

TEST(a_line_names_the_program)
{
	int fd = catch_stderr();
	char room[256];

	log_init("berm-test");
	log_error("no image '%s'", "x");
	log_warn("slow");
	CHECK_SPAN(caught(fd, room, sizeof(room)),
	           "berm-test: no image 'x'\nberm-test: warning: slow\n");
	(void)close(fd);
}

/* A hostile name must neither move the cursor nor start a line of its own. */
TEST(outside_text_is_escaped)
{
	int fd = catch_stderr();
	char room[256];

	log_init("berm");
	log_error("bad '%s'", "a\nberm: all is well\x1b[1A\x9b");
	CHECK_SPAN(caught(fd, room, sizeof(room)),
	           "berm: bad 'a\\x0aberm: all is well\\x1b[1A\\x9b'\n");
	(void)close(fd);
}

TEST(a_long_line_is_cut_and_still_a_line)
{
	static char big[8192];
	static char room[16384];
	int fd = catch_stderr();
	struct span got;

	memset(big, '\x01', sizeof(big) - 1);
	log_error("%s", big);
	log_error("next");
	got = caught(fd, room, sizeof(room));
	CHECK(got.len > 1000 && got.len < 4200);
	CHECK(memcmp(got.at + got.len - 12, "\nberm: next\n", 12) == 0);
	(void)close(fd);
}

TEST(debug_is_silent_unless_asked_for)
{
	int fd = catch_stderr();
	char room[256];

	(void)unsetenv("BERM_DEBUG");
	log_init("berm");
	log_debug("one");
	CHECK_EQ(caught(fd, room, sizeof(room)).len, 0);
	(void)setenv("BERM_DEBUG", "1", 1);
	log_init("berm");
	log_debug("two");
	CHECK_SPAN(caught(fd, room, sizeof(room)), "berm: debug: two\n");
	(void)close(fd);
}

TEST_MAIN()
