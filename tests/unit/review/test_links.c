#include "review/links.h"

#include "base/fdio.h"
#include "guardpage.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static struct class_list *installed(void)
{
	_own_free_ char *text = NULL;
	struct class_list *l;
	size_t len;
	struct err e;

	CHECK_OK(fd_read_file(AT_FDCWD, TEST_CLASSES, CLASS_LIST_MAX, &text, &len, &e), &e);
	CHECK_OK(class_list_new(&l, &e), &e);
	CHECK_OK(class_list_add(l, "classes.list", span_of(text, len), &e), &e);
	return l;
}

static const struct {
	const char *link, *target, *to; /* NULL: nowhere in the workspace */
} texts[] = {
	{ ".vscode", "ed", "ed" },
	{ ".vscode", "./ed//x/", "ed/x" },
	{ "a/.vscode", "../ed", "ed" },
	{ "a/.vscode", "ed", "a/ed" },
	{ "a/b/.envrc", "../../../x", NULL },
	{ ".envrc", "..", NULL },
	{ "a/.husky", "..", "" },
	{ ".envrc", "/home/u/project/e", "e" },
	{ ".envrc", "/home/u/projects/e", NULL },
	{ ".envrc", "/home/u/project", "" },
	{ ".envrc", "/home/u/project/../e", NULL },
	{ ".envrc", "", NULL },
};

TEST(where_a_text_leads)
{
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		uint8_t room[WPATH_MAX + 1];
		struct buf b;
		bool ok;

		buf_init(&b, room, sizeof(room));
		ok = review_links_resolve(span_str("/home/u/project"), span_str(texts[i].link),
		                          span_str(texts[i].target), &b);
		if (ok != (texts[i].to != NULL))
			test_fail(__FILE__, __LINE__, "%s -> %s: %d", texts[i].link,
			          texts[i].target, ok);
		if (ok)
			CHECK_STR(buf_cstr(&b), texts[i].to);
	}
}

static void expect(const struct review_links *l, const char *path, const char *const *names)
{
	uint8_t room[WPATH_MAX];
	size_t at = 0;
	struct buf b;

	buf_init(&b, room, sizeof(room));
	for (; *names; names++) {
		CHECK(review_links_next(l, span_str(path), &at, &b));
		CHECK_STR(buf_cstr(&b), *names);
	}
	CHECK(!review_links_next(l, span_str(path), &at, &b));
}

static void make_tree(int dir)
{
	CHECK(mkdirat(dir, "ed", 0755) == 0 && mkdirat(dir, "conf", 0755) == 0);
	CHECK(symlinkat("other", dir, ".vscode") == 0); /* by way of a plain name */
	CHECK(symlinkat("ed", dir, "other") == 0);
	CHECK(symlinkat("conf/mk", dir, "Makefile") == 0); /* nothing is there yet */
	CHECK(symlinkat("/etc", dir, ".envrc") == 0);
	CHECK(symlinkat(".idea", dir, ".idea") == 0); /* a loop */
}

TEST(links_of_a_tree_are_found_again)
{
	static const char *const met[] = { ".envrc", ".idea", ".vscode", "Makefile", "other" };
	struct class_list *classes = installed();
	struct review_links *l, *again;
	_own_fd_ int dir = -1;
	struct err e;

	CHECK_OK(fd_open(test_tmpdir(), O_RDONLY | O_DIRECTORY, 0, &dir, &e), &e);
	make_tree(dir);
	CHECK_OK(review_links_new(&l, &e), &e);
	for (size_t i = 0; i < sizeof(met) / sizeof(met[0]); i++)
		review_links_meet(l, classes, dir, span_str(met[i]));
	CHECK_OK(review_links_save(l, dir, &e), &e);
	CHECK_OK(review_links_load(dir, &again, &e), &e);
	CHECK(!review_links_more(again));
	expect(again, "ed/tasks.json", (const char *const[]){ ".vscode/tasks.json", NULL });
	expect(again, "ed", (const char *const[]){ ".vscode", NULL });
	expect(again, "conf/mk", (const char *const[]){ "Makefile", NULL });
	expect(again, "edit", (const char *const[]){ NULL });
	expect(again, "conf", (const char *const[]){ NULL });
	review_links_free(l);
	review_links_free(again);
	class_list_free(classes);
}

TEST(no_file_is_no_links_and_a_wrong_one_is_said)
{
	static const char whole[] = "BERMLNK1\1\0\0\0\0\0\0\0\6\0.envrc\1\0e";
	struct review_links *l;
	_own_fd_ int dir = -1;
	struct err e;

	CHECK_OK(fd_open(test_tmpdir(), O_RDONLY | O_DIRECTORY, 0, &dir, &e), &e);
	CHECK_OK(review_links_load(dir, &l, &e), &e);
	expect(l, "e", (const char *const[]){ NULL });
	review_links_free(l);
	for (size_t len = 0; len < sizeof(whole) - 1; len++) {
		CHECK_OK(fd_replace_file(dir, REVIEW_LINKS_NAME, whole, len, 0600, &e), &e);
		CHECK_EQ(review_links_load(dir, &l, &e), -EBADMSG);
	}
	CHECK_OK(fd_replace_file(dir, REVIEW_LINKS_NAME, whole, sizeof(whole) - 1, 0600, &e), &e);
	CHECK_OK(review_links_load(dir, &l, &e), &e);
	expect(l, "e", (const char *const[]){ ".envrc", NULL });
	review_links_free(l);
}

TEST(a_body_is_judged_to_its_last_byte)
{
	static const char *const bad[] = {
		"\0\0\1\0e",       /* no name */
		"\2\0..\1\0e",     /* no path */
		"\1\0a\2\0/e",     /* nor that */
		"\1\0a\1\0e\0",    /* and more */
		"\xff\xff\1\0a\0", /* longer than it is */
	};
	static const size_t sizes[] = { 5, 7, 7, 7, 6 };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct span body = span_of(guard_copy(bad[i], sizes[i]), sizes[i]);

		if (review_links_parse(body, 1))
			test_fail(__FILE__, __LINE__, "body %zu", i);
	}
}

TEST(more_than_fit_is_remembered)
{
	struct class_list *classes = installed();
	struct review_links *l, *again;
	_own_fd_ int dir = -1;
	struct err e;
	char name[256];

	CHECK_OK(fd_open(test_tmpdir(), O_RDONLY | O_DIRECTORY, 0, &dir, &e), &e);
	CHECK_OK(review_links_new(&l, &e), &e);
	memset(name, 'd', sizeof(name));
	for (int i = 0; i < 6000 && !review_links_more(l); i++) {
		(void)snprintf(name + 200, sizeof(name) - 200, "%d", i);
		CHECK(mkdirat(dir, name, 0755) == 0);
		(void)snprintf(name + 200, sizeof(name) - 200, "%d/.envrc", i);
		CHECK(symlinkat("../ed", dir, name) == 0);
		/* however often it is met, it is one */
		review_links_meet(l, classes, dir, span_str(name));
		review_links_meet(l, classes, dir, span_str(name));
		CHECK_EQ(review_links_count(l) + review_links_more(l), i + 1);
	}
	CHECK(review_links_more(l));
	CHECK_OK(review_links_save(l, dir, &e), &e);
	CHECK_OK(review_links_load(dir, &again, &e), &e);
	CHECK(review_links_more(again));
	review_links_free(l);
	review_links_free(again);
	class_list_free(classes);
}

TEST_MAIN()
