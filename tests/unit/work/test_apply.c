/* The interface itself; P1 to P13, K1 and K2 are in tests/integration/work. */
#include "test.h"

#include "base/fdio.h"
#include "failalloc.h"
#include "work/undo.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

struct scene {
	int root_fd, session_fd;
	struct apply_on on;
};

static void write_file(int dir, const char *name, const char *text)
{
	struct err e = { 0 };
	_own_fd_ int fd = -1;

	CHECK_OK(fd_openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC, 0644, &fd, &e), &e);
	CHECK_OK(fd_write_all(fd, text, strlen(text), &e), &e);
}

static void check_file(int dir, const char *name, const char *want)
{
	_own_free_ char *text = NULL;
	struct err e = { 0 };

	CHECK_OK(fd_read_file(dir, name, 4096, &text, NULL, &e), &e);
	CHECK_STR(text, want);
}

static void scene_open(struct scene *s)
{
	struct err e = { 0 };
	_own_fd_ int top = -1;

	CHECK_OK(fd_open(test_tmpdir(), O_RDONLY | O_DIRECTORY, 0, &top, &e), &e);
	CHECK_OK(fd_remove_tree(top, "tree", &e), &e);
	CHECK_OK(fd_remove_tree(top, "session", &e), &e);
	CHECK_EQ(mkdirat(top, "tree", 0755), 0);
	CHECK_EQ(mkdirat(top, "session", 0700), 0);
	CHECK_OK(fd_openat(top, "tree", O_RDONLY | O_DIRECTORY, 0, &s->root_fd, &e), &e);
	CHECK_OK(fd_openat(top, "session", O_RDONLY | O_DIRECTORY, 0, &s->session_fd, &e), &e);
	s->on = (struct apply_on){ .root_fd = s->root_fd,
		                   .session_fd = s->session_fd,
		                   .session = "0123456789ab" };
	CHECK_OK(apply_root_of(s->root_fd, &s->on.root, &e), &e);
	write_file(s->root_fd, "f", "old\n");
	CHECK_EQ(mkdirat(s->root_fd, "d", 0755), 0);
	write_file(s->root_fd, "d/g", "g\n");
}

static void scene_close(struct scene *s)
{
	(void)close(s->root_fd);
	(void)close(s->session_fd);
}

static struct apply_seen look(struct scene *s, const char *path)
{
	struct apply_seen got;
	struct err e = { 0 };

	CHECK_OK(apply_look(s->root_fd, path, &got, &e), &e);
	return got;
}

static struct apply_op put(struct scene *s, const char *path, const char *text)
{
	return (struct apply_op){ .what = APPLY_PUT,
		                  .kind = APPLY_FILE,
		                  .mode = 0644,
		                  .path = path,
		                  .content = { .bytes = text, .size = strlen(text) },
		                  .seen = look(s, path) };
}

TEST(look_tells_kinds)
{
	struct scene s;
	struct apply_seen a, b;

	scene_open(&s);
	CHECK_EQ(symlinkat("f", s.root_fd, "l"), 0);
	CHECK_EQ(symlinkat("d", s.root_fd, "ld"), 0);
	CHECK_EQ(look(&s, "f").kind, APPLY_FILE);
	CHECK_EQ(look(&s, "d").kind, APPLY_DIR);
	CHECK_EQ(look(&s, "l").kind, APPLY_LINK);
	CHECK_EQ(look(&s, "none").kind, APPLY_ABSENT);
	CHECK_EQ(look(&s, "none/x").kind, APPLY_ABSENT);
	CHECK_EQ(look(&s, "f/x").kind, APPLY_ABSENT);
	CHECK_EQ(look(&s, "ld/g").kind, APPLY_OTHER);
	a = look(&s, "f");
	CHECK(apply_same(&a, &a));
	write_file(s.root_fd, "f", "other\n");
	b = look(&s, "f");
	CHECK(!apply_same(&a, &b));
	scene_close(&s);
}

TEST(applies_from_memory_and_undoes)
{
	struct apply_result res;
	enum apply_recovered how;
	struct err e = { 0 };
	uint32_t last;
	struct scene s;

	scene_open(&s);
	{
		const struct apply_op ops[] = { put(&s, "f", "new\n"), put(&s, "d/h", "h\n") };

		CHECK_OK(apply_run(&s.on, ops, 2, APPLY_ALL, &res, &e), &e);
	}
	CHECK_EQ(res.end, APPLY_DONE);
	CHECK_EQ(res.generation, 1);
	CHECK_EQ(res.words[APPLY_APPLIED], 2);
	check_file(s.root_fd, "f", "new\n");
	check_file(s.root_fd, "d/h", "h\n");
	CHECK(!apply_interrupted(s.session_fd));
	CHECK_OK(apply_recover(&s.on, &how, &res, &e), &e);
	CHECK_EQ(how, APPLY_WAS_CLEAN);
	CHECK_OK(undo_last(s.session_fd, &last, &e), &e);
	CHECK_EQ(last, 1);
	CHECK_OK(undo_run(&s.on, 0, APPLY_ALL, &res, &e), &e);
	CHECK_EQ(res.end, APPLY_DONE);
	check_file(s.root_fd, "f", "old\n");
	CHECK_EQ(look(&s, "d/h").kind, APPLY_ABSENT);
	CHECK_OK(undo_last(s.session_fd, &last, &e), &e);
	CHECK_EQ(last, 0);
	scene_close(&s);
}

TEST(every_point_and_word_has_a_name)
{
	for (enum apply_point p = 0; p < AP_POINTS; p++) {
		CHECK(apply_point_name(p) && *apply_point_name(p));
		for (enum apply_point q = 0; q < p; q++)
			CHECK(strcmp(apply_point_name(p), apply_point_name(q)) != 0);
	}
	for (enum apply_word w = 0; w < APPLY_WORDS; w++)
		CHECK(apply_word_text(w) && *apply_word_text(w));
	CHECK(AP_POINTS >= 40);
}

/* A fd of each kind is open at most; none is left, whatever fails. */
static int open_fds(void)
{
	struct stat st;
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fstat(fd, &st) == 0 ? 1 : 0;
	return n;
}

TEST(every_allocation_may_fail)
{
	struct scene s;

	scene_open(&s);
	FAILALLOC_EACH()
	{
		const struct apply_op ops[] = {
			put(&s, "f", "new\n"),
			{ .what = APPLY_DELETE, .path = "d/g", .seen = look(&s, "d/g") },
			{ .what = APPLY_RMDIR, .path = "d", .seen = look(&s, "d") },
		};
		struct apply_result res;
		struct err e = { 0 };
		int before = open_fds();
		int r = apply_run(&s.on, ops, 3, APPLY_ALL, &res, &e);

		CHECK_EQ(open_fds(), before);
		if (failalloc_hit()) {
			/* of the very end, which is for recovery: both are whole */
			CHECK(r == -ENOMEM || r == -EUCLEAN || r == 0);
			if (r == -EUCLEAN) {
				enum apply_recovered how;

				CHECK_OK(apply_recover(&s.on, &how, &res, &e), &e);
			}
			if (r == -ENOMEM)
				check_file(s.root_fd, "f", "old\n");
			CHECK(!apply_interrupted(s.session_fd));
		}
		scene_close(&s);
		scene_open(&s);
	}
	scene_close(&s);
}

TEST_MAIN()
