#include "work/hunk_job.h"

#include <errno.h>
#include <git2.h>

static void patch_free(git_patch *p)
{
	git_patch_free(p);
}
OWN_DEFINE(git_patch, patch_free)

static int library(struct err *e)
{
	const git_error *why = git_error_last();

	return err_set(e, -EIO, "the texts cannot be compared: %s",
	               why != NULL ? why->message : "no reason given");
}

/* Git counts lines from 1; of no lines it names the one before. */
static uint32_t first_line(int start, int lines)
{
	return (uint32_t)(lines > 0 ? start - 1 : start);
}

static int take_hunk(git_patch *patch, size_t i, struct hunk *ret, struct err *e)
{
	const git_diff_hunk *h;

	if (git_patch_get_hunk(&h, NULL, patch, i) < 0)
		return library(e);
	*ret = (struct hunk){
		.old_at = first_line(h->old_start, h->old_lines),
		.old_lines = (uint32_t)h->old_lines,
		.new_at = first_line(h->new_start, h->new_lines),
		.new_lines = (uint32_t)h->new_lines,
	};
	return 0;
}

static int compare(struct span old, struct span new, struct hunk *ret_hunks, uint32_t *ret_count,
                   struct err *e)
{
	_own_(patch_free) git_patch *patch = NULL;
	git_diff_options o;
	size_t count;

	if (git_diff_options_init(&o, GIT_DIFF_OPTIONS_VERSION) < 0)
		return library(e);
	o.flags = GIT_DIFF_FORCE_TEXT | GIT_DIFF_INDENT_HEURISTIC;
	o.context_lines = 0;
	o.interhunk_lines = 0;
	if (git_patch_from_buffers(&patch, old.at, old.len, NULL, new.at, new.len, NULL, &o) < 0)
		return library(e);
	count = git_patch_num_hunks(patch);
	if (count > HUNK_COUNT_MAX)
		return err_set(e, -E2BIG, "over %d places differ", HUNK_COUNT_MAX);
	for (size_t i = 0; i < count; i++) {
		int r = take_hunk(patch, i, &ret_hunks[i], e);

		if (r < 0)
			return r;
	}
	*ret_count = (uint32_t)count;
	return 0;
}

int hunk_git(struct span old, struct span new, struct hunk *ret_hunks, uint32_t *ret_count,
             struct err *e)
{
	int r;

	if (git_libgit2_init() < 0)
		return library(e);
	r = compare(old, new, ret_hunks, ret_count, e);
	(void)git_libgit2_shutdown();
	return r;
}
