#include "session/review_open.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

bool review_item_beneath(const struct review_item *item, struct span path)
{
	return wpath_beneath(path, item->change->path, NULL) ||
	       wpath_beneath(path, item->change->from, NULL);
}

/* Adds the parts of `text`; ".." takes one away. False where that leads out. */
static bool add_parts(struct buf *b, struct span text)
{
	struct span part;

	while (take_until(&text, '/', &part)) {
		if (part.len == 0 || span_is(part, "."))
			continue;
		if (!span_is(part, "..")) {
			if (b->len > 0)
				buf_put_u8(b, '/');
			buf_put_span(b, part);
			continue;
		}
		if (b->len == 0)
			return false;
		b->len = wpath_parent(buf_span(b)).len;
	}
	return true;
}

/* What follows the workspace's own path; false if path is not in it. */
static bool take_root(const struct review_opened *o, const char *path, struct span *ret)
{
	const char *root = o->s.info.root;
	size_t len = strlen(root);

	if (len == 1 && root[0] == '/')
		len = 0;
	if (strncmp(root, path, len) != 0 || (path[len] != '\0' && path[len] != '/'))
		return false;
	*ret = span_str(path + len);
	return true;
}

static bool resolve(struct span from, const char *typed, char ret[REVIEW_PATH_ROOM])
{
	struct buf b;

	buf_init(&b, ret, REVIEW_PATH_ROOM);
	if (!add_parts(&b, from) || !add_parts(&b, span_str(typed)))
		return false;
	(void)buf_cstr(&b);
	return buf_ok(&b);
}

static bool is_listed(const struct review *r, const char *path)
{
	for (size_t i = 0; i < review_count(r); i++)
		if (review_item_beneath(review_at(r, i), span_str(path)))
			return true;
	return false;
}

static bool resolve_here(const struct review_opened *o, const char *typed,
                         char ret[REVIEW_PATH_ROOM])
{
	const struct span nowhere = { 0 };
	char second[REVIEW_PATH_ROOM];
	char cwd[PATH_MAX];
	struct span from;
	bool ok;

	if (!getcwd(cwd, sizeof(cwd)) || !take_root(o, cwd, &from))
		from = nowhere;
	ok = resolve(from, typed, ret);
	if (from.len == 0 || (ok && is_listed(o->review, ret)))
		return ok;
	if (!resolve(nowhere, typed, second) || !is_listed(o->review, second))
		return ok;
	memcpy(ret, second, sizeof(second));
	return true;
}

int review_path(const struct review_opened *o, const char *typed, char ret[REVIEW_PATH_ROOM],
                struct err *e)
{
	struct span rest;
	bool ok;

	if (typed[0] == '/')
		ok = take_root(o, typed, &rest) && resolve(rest, "", ret);
	else
		ok = resolve_here(o, typed, ret);
	if (ok)
		return 0;
	return err_set(e, -EINVAL, "'%.200s' is no path of the workspace", typed);
}
