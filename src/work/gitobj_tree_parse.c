#include "work/gitobj_parse.h"
#include "work/path.h"

#include <errno.h>
#include <string.h>

enum {
	MODE_FILE = 0100644,
	MODE_PROGRAM = 0100755,
	MODE_LINK = 0120000,
	MODE_DIR = 040000,
	MODE_COMMIT = 0160000,
	FOLDED_MAX = GITOBJ_NAME_MAX,
};

bool gitobj_entry_type(const struct gitobj_entry *en, enum gitobj_type *ret)
{
	if (en->mode == MODE_COMMIT)
		return false;
	*ret = en->mode == MODE_DIR ? GITOBJ_TREE : GITOBJ_BLOB;
	return true;
}

/* -- names */

/* Small letters, without what HFS+ passes over. */
static struct span fold(struct span name, uint8_t room[FOLDED_MAX])
{
	size_t n = 0;

	for (size_t i = 0; i < name.len && n < FOLDED_MAX; i++) {
		uint8_t c = name.at[i];

		if (wpath_is_invisible(span_of(name.at + i, name.len - i)))
			i += 2;
		else
			room[n++] = c >= 'A' && c <= 'Z' ? (uint8_t)(c - 'A' + 'a') : c;
	}
	return span_of(room, n);
}

/* Up to a stream's colon, without the dots and spaces that NTFS drops. */
static struct span ntfs_form(struct span name)
{
	const uint8_t *colon = name.len > 0 ? memchr(name.at, ':', name.len) : NULL;

	if (colon)
		name.len = (size_t)(colon - name.at);
	while (name.len > 0 && (name.at[name.len - 1] == '.' || name.at[name.len - 1] == ' '))
		name.len--;
	return name;
}

/* Is the name, or a part of it between backslashes, one of the two? */
static bool names(struct span name, const char *full, const char *brief)
{
	uint8_t room[FOLDED_MAX];
	struct span folded = fold(name, room);
	struct span part;

	if (span_is(folded, full))
		return true;
	while (take_until(&folded, '\\', &part)) {
		part = ntfs_form(part);
		if (span_is(part, full) || span_is(part, brief))
			return true;
	}
	return false;
}

bool gitobj_is_git_name(struct span name)
{
	return names(name, ".git", "git~1");
}

/* -- entries */

static enum gitobj_bad judge_name(struct span name, uint32_t mode)
{
	if (name.len == 0)
		return GITOBJ_BAD_NAME_EMPTY;
	if (name.len > GITOBJ_NAME_MAX)
		return GITOBJ_BAD_NAME_LONG;
	if (memchr(name.at, '/', name.len))
		return GITOBJ_BAD_NAME_SLASH;
	if (span_is(name, ".") || span_is(name, ".."))
		return GITOBJ_BAD_NAME_DOT;
	if (gitobj_is_git_name(name))
		return GITOBJ_BAD_NAME_GIT;
	if (mode == MODE_LINK && names(name, ".gitmodules", "gitmod~1"))
		return GITOBJ_BAD_MODULES_LINK;
	return GITOBJ_BAD_NONE;
}

static bool parse_mode(struct span s, uint32_t *ret)
{
	static const struct {
		const char *text;
		uint32_t mode;
	} modes[] = { { "100644", MODE_FILE },
		      { "100755", MODE_PROGRAM },
		      { "120000", MODE_LINK },
		      { "40000", MODE_DIR },
		      { "160000", MODE_COMMIT } };

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (span_is(s, modes[i].text)) {
			*ret = modes[i].mode;
			return true;
		}
	}
	return false;
}

static int bad(enum gitobj_bad why, enum gitobj_bad *ret)
{
	*ret = why;
	return -EBADMSG;
}

int gitobj_parse_entry(struct span *in, struct gitobj_entry *ret, enum gitobj_bad *ret_bad)
{
	static const struct gitobj_id null;
	struct span rest = *in;
	struct gitobj_entry en;
	struct span mode;
	enum gitobj_bad why;
	const uint8_t *nul;

	if (rest.len == 0 || !memchr(rest.at, ' ', rest.len) || !take_until(&rest, ' ', &mode))
		return bad(GITOBJ_BAD_TREE_FORM, ret_bad);
	if (!parse_mode(mode, &en.mode))
		return bad(GITOBJ_BAD_MODE, ret_bad);
	nul = rest.len > 0 ? memchr(rest.at, 0, rest.len) : NULL;
	if (!nul)
		return bad(GITOBJ_BAD_TREE_FORM, ret_bad);
	en.name = span_of(rest.at, (size_t)(nul - rest.at));
	why = judge_name(en.name, en.mode);
	if (why != GITOBJ_BAD_NONE)
		return bad(why, ret_bad);
	rest = span_of(nul + 1, rest.len - en.name.len - 1);
	if (!take_bytes(&rest, en.id.b, GITOBJ_ID_BYTES))
		return bad(GITOBJ_BAD_TREE_FORM, ret_bad);
	if (memcmp(en.id.b, null.b, sizeof(null.b)) == 0)
		return bad(GITOBJ_BAD_NULL_ID, ret_bad);
	*in = rest;
	*ret = en;
	return 0;
}

/* -- order: by bytes, a directory as if it ended in a slash */

static int cmp(const struct gitobj_entry *a, const struct gitobj_entry *b)
{
	size_t n = a->name.len < b->name.len ? a->name.len : b->name.len;
	int way = memcmp(a->name.at, b->name.at, n);
	uint8_t x, y;

	if (way != 0)
		return way;
	x = a->name.len > n ? a->name.at[n] : a->mode == MODE_DIR ? '/' : 0;
	y = b->name.len > n ? b->name.at[n] : b->mode == MODE_DIR ? '/' : 0;
	return (int)x - (int)y;
}

static bool begins(struct span name, struct span with)
{
	return with.len <= name.len && memcmp(name.at, with.at, with.len) == 0;
}

/*
 * A file "a" and a directory "a" may be far apart, with "a.b" between them. What is between begins
 * with "a" in any case, so the files that can still meet their directory are a stack in which each
 * begins with the one below it, and so is longer: it has an end.
 */
struct files {
	struct span names[GITOBJ_NAME_MAX + 1];
	unsigned count;
};

static bool is_twice(struct files *f, const struct gitobj_entry *en)
{
	while (f->count > 0 && !begins(en->name, f->names[f->count - 1]))
		f->count--;
	if (f->count > 0 && f->names[f->count - 1].len == en->name.len)
		return true;
	if (en->mode != MODE_DIR)
		f->names[f->count++] = en->name;
	return false;
}

int gitobj_parse_tree(struct span in, enum gitobj_bad *ret_bad)
{
	struct gitobj_entry last = { .mode = 0 };
	struct files files;

	files.count = 0;
	while (in.len > 0) {
		struct gitobj_entry en;
		int r = gitobj_parse_entry(&in, &en, ret_bad);

		if (r < 0)
			return r;
		if (last.mode != 0 && span_equal(last.name, en.name))
			return bad(GITOBJ_BAD_DUPLICATE, ret_bad);
		if (last.mode != 0 && cmp(&last, &en) >= 0)
			return bad(GITOBJ_BAD_ORDER, ret_bad);
		if (is_twice(&files, &en))
			return bad(GITOBJ_BAD_DUPLICATE, ret_bad);
		last = en;
	}
	return 0;
}
