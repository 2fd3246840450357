#include "work/compare_inner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 256 << 10, FIRST_CHANGES = 64, FIRST_BLOCKS = 16 };

void compare_free(struct compare *c)
{
	if (c == NULL)
		return;
	for (size_t i = 0; i < c->block_count; i++)
		free(c->blocks[i]);
	free(c->blocks);
	free(c->changes);
	free(c);
}

size_t compare_count(const struct compare *c)
{
	return c->count;
}

const struct change *compare_at(const struct compare *c, size_t i)
{
	return &c->changes[i];
}

static int by_path(const void *a, const void *b)
{
	const struct change *x = a, *y = b;

	return wpath_cmp(x->path, y->path);
}

const struct change *compare_find(const struct compare *c, struct span path)
{
	struct change key = { .path = path };

	return c->count == 0 ? NULL
	                     : bsearch(&key, c->changes, c->count, sizeof(c->changes[0]), by_path);
}

/* Room for one more in an array that doubles. */
static int grow(void **items, size_t *cap, size_t count, size_t first, size_t size, struct err *e)
{
	size_t want = *cap == 0 ? first : *cap * 2;
	void *more;

	if (count < *cap)
		return 0;
	more = reallocarray(*items, want, size);
	if (more == NULL)
		return err_set(e, -ENOMEM, "no memory for the list of changes");
	*items = more;
	*cap = want;
	return 0;
}

static int new_block(struct compare *c, struct err *e)
{
	int r = grow((void **)&c->blocks, &c->blocks_cap, c->block_count, FIRST_BLOCKS,
	             sizeof(c->blocks[0]), e);
	char *block;

	if (r < 0)
		return r;
	block = malloc(BLOCK_BYTES);
	if (block == NULL)
		return err_set(e, -ENOMEM, "no memory for the list of changes");
	c->blocks[c->block_count++] = block;
	c->block_used = 0;
	return 0;
}

int compare_keep(struct compare *c, struct span s, struct span *ret, struct err *e)
{
	char *at;

	if (s.len == 0) {
		*ret = span_str("");
		return 0;
	}
	if (c->block_count == 0 || BLOCK_BYTES - c->block_used < s.len) {
		int r = new_block(c, e);

		if (r < 0)
			return r;
	}
	at = c->blocks[c->block_count - 1] + c->block_used;
	memcpy(at, s.at, s.len);
	c->block_used += s.len;
	*ret = span_of(at, s.len);
	return 0;
}

int compare_put(struct compare *c, const struct change *change, struct err *e)
{
	struct change kept = *change;
	bool same = change->path.at == change->from.at && change->path.len == change->from.len;
	int r;

	if (c->count >= COMPARE_CHANGES_MAX)
		return err_set(e, -E2BIG, "more than %d changes", COMPARE_CHANGES_MAX);
	r = grow((void **)&c->changes, &c->cap, c->count, FIRST_CHANGES, sizeof(c->changes[0]), e);
	if (r == 0)
		r = compare_keep(c, change->path, &kept.path, e);
	kept.from = kept.path;
	if (r == 0 && !same)
		r = compare_keep(c, change->from, &kept.from, e);
	if (r == 0)
		r = compare_keep(c, change->hint, &kept.hint, e);
	kept.place = span_equal(change->place, change->path) ? kept.path : kept.from;
	if (r == 0 && !span_equal(change->place, kept.place))
		r = compare_keep(c, change->place, &kept.place, e);
	if (r == 0)
		c->changes[c->count++] = kept;
	return r;
}

int compare_run(const struct compare_options *opt, struct compare **ret, struct err *e)
{
	_own_(compare_free) struct compare *c = calloc(1, sizeof(*c));
	int r;

	if (c == NULL)
		return err_set(e, -ENOMEM, "no memory for the list of changes");
	r = compare_walk(opt, c, e);
	if (r < 0)
		return r;
	if (c->count > 0)
		qsort(c->changes, c->count, sizeof(c->changes[0]), by_path);
	r = compare_pair_renames(opt, c, e);
	if (r < 0)
		return r;
	*ret = c;
	c = NULL;
	return 0;
}

const char *change_why_text(enum change_why why)
{
	switch (why) {
	case CHANGE_WHY_NONE:
		return "";
	case CHANGE_WHY_HOST_EDITED:
		return "it was changed here meanwhile";
	case CHANGE_WHY_HOST_DELETED:
		return "it was deleted here meanwhile";
	case CHANGE_WHY_HOST_RENAMED:
		return "its directory seems to have been renamed here";
	case CHANGE_WHY_HOST_CREATED:
		return "something else was made here meanwhile";
	case CHANGE_WHY_HOST_HIDDEN:
		return "there is one here that did not enter the guest";
	case CHANGE_WHY_HOST_WAY:
		return "a directory on the way to it is none any more";
	case CHANGE_WHY_GIT:
		return "inside a repository, of which commits alone come back";
	case CHANGE_WHY_PROPOSAL:
	case CHANGE_WHY_COUNT:
		break;
	}
	return "it cannot be taken";
}
