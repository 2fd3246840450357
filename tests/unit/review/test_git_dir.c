#include "guardpage.h"
#include "review/review_inner.h"
#include "test.h"

#include <string.h>

static const struct {
	const char *path, *git_dir; /* NULL: no repository that is looked for */
} paths[] = {
	{ ".git/objects/ab/cdef", ".git" },
	{ ".git/objects/pack/pack-1.pack", ".git" },
	{ "sub/.git/objects/ab/cdef", "sub/.git" },
	{ "objects/.git/objects/ab/cdef", "objects/.git" },
	{ ".git/modules/lib/objects/ab/cdef", ".git/modules/lib" },
	{ ".git/modules/libs/lib/objects/ab/cdef", ".git/modules/libs/lib" },
	{ ".git/modules/objects/objects/ab/cdef", ".git/modules/objects" },
	{ ".git/modules/a/objects/objects/ab/cdef", ".git/modules/a/objects" },
	{ ".git/modules/a/modules/b/objects/ab/cdef", ".git/modules/a/modules/b" },
	{ "d/e/.git/modules/a/objects/ab/cdef", "d/e/.git/modules/a" },
	{ ".git/modules/.git/objects/ab/cdef", ".git/modules/.git" },
	{ ".git/modules/objects/ab", NULL },
	{ ".git/modulesx/objects/ab", NULL },
	{ ".git/worktrees/w/objects/ab", NULL },
	{ ".git/x/objects/ab", NULL },
	{ ".git/objects", NULL },
	{ ".git/objectsx/ab", NULL },
	{ ".GIT/objects/ab/cdef", NULL },
	{ "bare.git/objects/ab/cdef", NULL },
	{ "objects/ab/cdef", NULL },
	{ ".git/HEAD", NULL },
	{ "", NULL },
};

TEST(p14_the_repository_of_an_object)
{
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		struct span in = guard_span(paths[i].path, strlen(paths[i].path));
		struct span got = { 0 };

		CHECK_EQ(review_git_dir(in, &got), paths[i].git_dir != NULL);
		if (paths[i].git_dir)
			CHECK_SPAN(got, paths[i].git_dir);
	}
}

TEST(p14_of_a_path_that_is_cut)
{
	static const char path[] = "a/.git/modules/b/objects/c/d";

	for (size_t n = 0; n < sizeof(path); n++) {
		struct span got;
		struct span in = guard_span(path, n);

		if (n > 0 && path[n - 1] == '/')
			continue; /* no path ends so */
		CHECK_EQ(review_git_dir(in, &got), n > strlen("a/.git/modules/b/objects/"));
	}
}

TEST_MAIN()
