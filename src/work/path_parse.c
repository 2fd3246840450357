#include "work/path.h"

#include <errno.h>
#include <string.h>

static enum wpath_fault judge_name(struct span name)
{
	if (name.len == 0)
		return WPATH_SLASH;
	if (span_is(name, ".") || span_is(name, ".."))
		return WPATH_DOT;
	return name.len > WPATH_NAME_MAX ? WPATH_LONGNAME : WPATH_OK;
}

static enum wpath_fault judge(struct span path)
{
	enum wpath_fault fault = WPATH_OK;
	struct span rest = path, name;

	if (path.len == 0)
		return WPATH_OK;
	if (path.len > WPATH_MAX)
		return WPATH_LONG;
	if (memchr(path.at, 0, path.len))
		return WPATH_NUL;
	/* take_until() does not tell "a/" from "a" */
	if (path.at[path.len - 1] == '/')
		return WPATH_SLASH;
	for (unsigned depth = 1; fault == WPATH_OK && take_until(&rest, '/', &name); depth++) {
		fault = judge_name(name);
		if (fault == WPATH_OK && depth > WPATH_DEPTH_MAX)
			fault = WPATH_DEEP;
	}
	return fault;
}

int wpath_parse(struct span path, enum wpath_fault *ret_fault)
{
	enum wpath_fault fault = judge(path);

	if (fault == WPATH_OK)
		return 0;
	if (ret_fault)
		*ret_fault = fault;
	return -EBADMSG;
}

const char *wpath_fault_text(enum wpath_fault f)
{
	switch (f) {
	case WPATH_SLASH:
		return "has an empty part";
	case WPATH_DOT:
		return "has a part '.' or '..'";
	case WPATH_NUL:
		return "holds a NUL byte";
	case WPATH_LONG:
		return "is longer than 4095 bytes";
	case WPATH_LONGNAME:
		return "has a name longer than 255 bytes";
	case WPATH_DEEP:
		return "is more than 256 directories deep";
	case WPATH_OK:
		break;
	}
	return "is fine";
}

bool wpath_name_ok(struct span name)
{
	return judge_name(name) == WPATH_OK && !memchr(name.at, 0, name.len) &&
	       !memchr(name.at, '/', name.len);
}

bool wpath_next(struct span *rest, struct span *ret_name)
{
	return rest->len > 0 && take_until(rest, '/', ret_name);
}

/* Where the last part begins. */
static size_t last_at(struct span path)
{
	size_t at = path.len;

	while (at > 0 && path.at[at - 1] != '/')
		at--;
	return at;
}

struct span wpath_parent(struct span path)
{
	size_t at = last_at(path);

	return span_of(path.at, at > 0 ? at - 1 : 0);
}

struct span wpath_last(struct span path)
{
	size_t at = last_at(path);

	return path.len > 0 ? span_of(path.at + at, path.len - at) : path;
}

unsigned wpath_depth(struct span path)
{
	unsigned parts = path.len > 0 ? 1 : 0;

	for (size_t i = 0; i < path.len; i++)
		parts += path.at[i] == '/' ? 1 : 0;
	return parts;
}

/* The end before all, then the slash, then the bytes. */
static int rank(struct span s, size_t i)
{
	if (i >= s.len)
		return -2;
	return s.at[i] == '/' ? -1 : s.at[i];
}

int wpath_cmp(struct span a, struct span b)
{
	size_t i = 0;

	while (i < a.len && i < b.len && a.at[i] == b.at[i])
		i++;
	return rank(a, i) - rank(b, i);
}

int wpath_name_cmp(struct span a, struct span b)
{
	size_t both = a.len < b.len ? a.len : b.len;
	int order = both > 0 ? memcmp(a.at, b.at, both) : 0;

	if (order != 0)
		return order;
	return a.len == b.len ? 0 : a.len < b.len ? -1 : 1;
}

bool wpath_beneath(struct span dir, struct span path, struct span *ret_rest)
{
	struct span rest = path;

	if (dir.len > path.len || (dir.len > 0 && memcmp(dir.at, path.at, dir.len) != 0))
		return false;
	if (dir.len > 0) {
		rest = span_of(path.at + dir.len, path.len - dir.len);
		if (rest.len > 0 && rest.at[0] != '/')
			return false;
		if (rest.len > 0)
			rest = span_of(rest.at + 1, rest.len - 1);
	}
	if (ret_rest)
		*ret_rest = rest;
	return true;
}

void wpath_put(struct buf *out, struct span dir, struct span name)
{
	struct buf before = *out;

	buf_put_span(out, dir);
	if (dir.len > 0)
		buf_put_u8(out, '/');
	buf_put_span(out, name);
	if (!buf_ok(out)) {
		*out = before;
		out->over = true;
	}
}

bool wpath_is_invisible(struct span rest)
{
	const uint8_t *c = rest.at;

	if (rest.len < 3)
		return false;
	if (c[0] == 0xef)
		return c[1] == 0xbb && c[2] == 0xbf;
	if (c[0] != 0xe2)
		return false;
	if (c[1] == 0x80)
		return (c[2] >= 0x8c && c[2] <= 0x8f) || (c[2] >= 0xaa && c[2] <= 0xae);
	return c[1] == 0x81 && c[2] >= 0xaa && c[2] <= 0xaf;
}
