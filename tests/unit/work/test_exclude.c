#include "test.h"

#include "work/exclude.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char secrets[] = ".env\n.env.*\n!.env.example\n*.pem\n.ssh/\n";

static void make(const char *path, const char *text)
{
	char full[512];
	char *slash;
	int fd;

	(void)snprintf(full, sizeof(full), "%s/%s", test_tmpdir(), path);
	slash = full + strlen(test_tmpdir());
	while ((slash = strchr(slash + 1, '/')) != NULL) {
		*slash = '\0';
		(void)mkdir(full, 0755);
		*slash = '/';
	}
	fd = open(full, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
	CHECK(fd >= 0);
	CHECK_EQ(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	(void)close(fd);
}

static struct exclude *new_exclude(void)
{
	struct exclude *x;
	struct err e;

	CHECK_OK(exclude_new(&x, &e), &e);
	CHECK_OK(exclude_add(x, EXCLUDE_SECRET, "secret.ignore", span_str(secrets), &e), &e);
	CHECK_OK(exclude_add(x, EXCLUDE_COST, "cost.ignore", span_str("node_modules/\n"), &e), &e);
	return x;
}

static void begin(struct exclude *x)
{
	_own_fd_ int root = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct err e;

	CHECK_OK(exclude_begin(x, root, &e), &e);
}

/* Asks about one path as a walk does that comes by; directories are asked by a "/" at the end. */
static struct pack_answer judge(struct exclude *x, const char *path)
{
	size_t n = strlen(path);
	bool is_dir = path[n - 1] == '/';
	struct pack_answer got = { 0 };
	struct pack_entry entry;
	char parent[512], name[256];
	_own_fd_ int fd = -1;
	struct err e;

	entry.path = span_of(path, n - is_dir);
	entry.kind = is_dir ? WORK_DIR : WORK_FILE;
	(void)snprintf(parent, sizeof(parent), "%s/%.*s", test_tmpdir(),
	               (int)wpath_parent(entry.path).len, path);
	(void)snprintf(name, sizeof(name), "%.*s", (int)wpath_last(entry.path).len,
	               (const char *)wpath_last(entry.path).at);
	fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	entry.dir_fd = fd;
	entry.name = name;
	CHECK_OK(exclude_judge(x, &entry, &got, &e), &e);
	return got;
}

#define CHECK_SKIPPED(x_, path_, why_)                                                             \
	do {                                                                                       \
		struct pack_answer a_ = judge(x_, path_);                                          \
		CHECK_EQ(a_.verdict, PACK_SKIP);                                                   \
		CHECK_EQ(a_.why, why_);                                                            \
	} while (0)
#define CHECK_ENTERS(x_, path_) CHECK_EQ(judge(x_, path_).verdict, PACK_ENTER)

TEST(e1_secrets_stay_out_at_any_depth)
{
	_own_(exclude_free) struct exclude *x = new_exclude();
	struct pack_answer a;

	begin(x);
	a = judge(x, "a/b/c/key.pem");
	CHECK_EQ(a.why, PACK_WHY_SECRET);
	CHECK(span_is(a.rule, "secret.ignore:4: *.pem"));
	CHECK_SKIPPED(x, ".env", PACK_WHY_SECRET);
	CHECK_SKIPPED(x, ".env.prod", PACK_WHY_SECRET);
	CHECK_SKIPPED(x, ".ssh/", PACK_WHY_SECRET);
	CHECK_ENTERS(x, ".env.example");
	CHECK_ENTERS(x, "a/.ssh"); /* a file */
	CHECK(exclude_is_secret(x, span_str("x/.ssh/config"), false));
	CHECK(!exclude_is_secret(x, span_str("x/ssh/config"), false));
}

TEST(e3_a_workspace_takes_no_secret_back)
{
	_own_(exclude_free) struct exclude *x = new_exclude();

	make(".bermignore", "*.o\n!.env\n");
	begin(x);
	CHECK_SKIPPED(x, ".env", PACK_WHY_SECRET);
	CHECK_EQ(exclude_count_notes(x, EXCLUDE_NOTE_REFUSED), 1);
	CHECK_SKIPPED(x, "a.o", PACK_WHY_USER);
	CHECK_ENTERS(x, "a.c");
}

TEST(e4_the_user_takes_back_one_path)
{
	_own_(exclude_free) struct exclude *x = new_exclude();
	struct err e;

	CHECK_OK(exclude_take_back(x, span_str("a/.ssh/config"), &e), &e);
	CHECK_EQ(exclude_take_back(x, span_str("../x"), &e), -EINVAL);
	CHECK_EQ(exclude_take_back(x, span_str(""), &e), -EINVAL);
	begin(x);
	CHECK_ENTERS(x, "a/.ssh/");
	CHECK_ENTERS(x, "a/.ssh/config");
	CHECK_SKIPPED(x, "a/.ssh/id", PACK_WHY_SECRET);
	CHECK_SKIPPED(x, "b/.ssh/", PACK_WHY_SECRET);
	CHECK_EQ(exclude_count_notes(x, EXCLUDE_NOTE_TAKEN_BACK), 1);
}

TEST(e9_files_of_patterns_count_below_their_directory)
{
	_own_(exclude_free) struct exclude *x = new_exclude();
	struct err e;

	make(".bermignore", "*.o\n");
	make("sub/.bermignore", "!keep.o\n/top\n");
	make("sub/deep/.bermignore", "keep.o\n");
	CHECK_OK(exclude_add(x, EXCLUDE_USER, "--exclude", span_str("*.log\n!a.o\n"), &e), &e);
	begin(x);
	CHECK_ENTERS(x, "sub/");
	CHECK_ENTERS(x, "sub/deep/");
	CHECK_SKIPPED(x, "sub/deep/keep.o", PACK_WHY_USER);
	CHECK_ENTERS(x, "sub/keep.o");
	CHECK_SKIPPED(x, "sub/top", PACK_WHY_USER);
	CHECK_ENTERS(x, "sub2/");
	CHECK_SKIPPED(x, "sub2/keep.o", PACK_WHY_USER);
	CHECK_SKIPPED(x, "x.log", PACK_WHY_USER);
	CHECK_ENTERS(x, "a.o"); /* the user's flags beat the workspace's file */
}

TEST(e12_cost_is_noted_unless_asked_for)
{
	_own_(exclude_free) struct exclude *x = new_exclude();

	begin(x);
	CHECK_ENTERS(x, "a/node_modules/");
	CHECK_EQ(exclude_count_notes(x, EXCLUDE_NOTE_COST), 1);
	exclude_cost_too(x);
	CHECK_SKIPPED(x, "b/node_modules/", PACK_WHY_COST);
	CHECK_EQ(exclude_count_notes(x, EXCLUDE_NOTE_COST), 1);
}

TEST(a_pattern_file_that_is_a_link_is_not_followed)
{
	_own_(exclude_free) struct exclude *x = new_exclude();
	char link[512];

	make("all", "*\n");
	(void)snprintf(link, sizeof(link), "%s/.bermignore", test_tmpdir());
	CHECK_EQ(symlink("all", link), 0);
	begin(x);
	CHECK_ENTERS(x, "a");
	CHECK_EQ(exclude_count_notes(x, EXCLUDE_NOTE_BAD_FILE), 1);
}

TEST_MAIN()
