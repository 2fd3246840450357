#include "work/gitobj_parse.h"

#include <errno.h>
#include <string.h>

const char *gitobj_type_name(enum gitobj_type t)
{
	switch (t) {
	case GITOBJ_COMMIT:
		return "commit";
	case GITOBJ_TREE:
		return "tree";
	case GITOBJ_BLOB:
		return "blob";
	case GITOBJ_TAG:
		return "tag";
	case GITOBJ_OFS_DELTA:
	case GITOBJ_REF_DELTA:
		break;
	}
	return "";
}

bool gitobj_id_equal(const struct gitobj_id *a, const struct gitobj_id *b)
{
	return memcmp(a->b, b->b, GITOBJ_ID_BYTES) == 0;
}

static int nibble(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int gitobj_parse_hex(struct span hex, struct gitobj_id *ret)
{
	struct gitobj_id id;

	if (hex.len != GITOBJ_HEX_BYTES)
		return -EBADMSG;
	for (size_t i = 0; i < GITOBJ_ID_BYTES; i++) {
		int high = nibble(hex.at[2 * i]);
		int low = nibble(hex.at[2 * i + 1]);

		if (high < 0 || low < 0)
			return -EBADMSG;
		id.b[i] = (uint8_t)(high << 4 | low);
	}
	*ret = id;
	return 0;
}

void gitobj_put_hex(struct buf *out, const struct gitobj_id *id)
{
	static const char digits[] = "0123456789abcdef";
	char hex[GITOBJ_HEX_BYTES];

	for (size_t i = 0; i < GITOBJ_ID_BYTES; i++) {
		hex[2 * i] = digits[id->b[i] >> 4];
		hex[2 * i + 1] = digits[id->b[i] & 15];
	}
	buf_put(out, hex, sizeof(hex));
}

const char *gitobj_bad_text(enum gitobj_bad bad)
{
	static const char *const texts[GITOBJ_BAD_COUNT] = {
		[GITOBJ_BAD_NONE] = "is well",
		[GITOBJ_BAD_TREE_FORM] = "a tree is malformed",
		[GITOBJ_BAD_MODE] = "a tree has an entry with a mode that git does not write",
		[GITOBJ_BAD_NAME_EMPTY] = "a tree has an empty name",
		[GITOBJ_BAD_NAME_SLASH] = "a tree has a name with a slash",
		[GITOBJ_BAD_NAME_DOT] = "a tree has the name '.' or '..'",
		[GITOBJ_BAD_NAME_GIT] = "a tree has a name that git may take for '.git'",
		[GITOBJ_BAD_NAME_LONG] = "a tree has a name of over 255 bytes",
		[GITOBJ_BAD_MODULES_LINK] = "a tree has '.gitmodules' as a symbolic link",
		[GITOBJ_BAD_ORDER] = "a tree is not sorted",
		[GITOBJ_BAD_DUPLICATE] = "a tree has a name twice",
		[GITOBJ_BAD_NULL_ID] = "a tree has an entry without an id",
		[GITOBJ_BAD_COMMIT_TREE] = "a commit names no tree",
		[GITOBJ_BAD_COMMIT_PARENT] = "a commit has a malformed parent",
		[GITOBJ_BAD_COMMIT_PARENTS] = "a commit has over 256 parents",
		[GITOBJ_BAD_COMMIT_AUTHOR] = "a commit has a malformed author",
		[GITOBJ_BAD_COMMIT_COMMITTER] = "a commit has a malformed committer",
		[GITOBJ_BAD_COMMIT_HEADER] = "a commit has a malformed header",
	};

	return (unsigned)bad < GITOBJ_BAD_COUNT ? texts[bad] : "is refused";
}

static bool type_of(struct span name, enum gitobj_type *ret)
{
	for (int t = GITOBJ_COMMIT; t <= GITOBJ_TAG; t++) {
		if (span_is(name, gitobj_type_name((enum gitobj_type)t))) {
			*ret = (enum gitobj_type)t;
			return true;
		}
	}
	return false;
}

int gitobj_parse_loose_head(struct span *in, enum gitobj_type *ret_type, uint64_t *ret_len)
{
	size_t look = in->len < GITOBJ_LOOSE_HEAD_MAX ? in->len : GITOBJ_LOOSE_HEAD_MAX;
	const uint8_t *nul = look > 0 ? memchr(in->at, 0, look) : NULL;
	struct span head, word;
	enum gitobj_type type;
	uint64_t len;

	if (!nul)
		return look < GITOBJ_LOOSE_HEAD_MAX ? -EAGAIN : -EBADMSG;
	head = span_of(in->at, (size_t)(nul - in->at));
	if (!take_until(&head, ' ', &word) || !type_of(word, &type) || !span_to_u64(head, &len))
		return -EBADMSG;
	if (head.len > 1 && head.at[0] == '0')
		return -EBADMSG;
	in->len -= (size_t)(nul + 1 - in->at);
	in->at = nul + 1;
	*ret_type = type;
	*ret_len = len;
	return 0;
}

/* -- commits */

/* "name value\n" off the front, if it is of that name. */
static bool take_line(struct span *in, const char *name, struct span *ret)
{
	size_t n = strlen(name);
	struct span rest = *in;
	const uint8_t *end;

	if (rest.len <= n || memcmp(rest.at, name, n) != 0 || rest.at[n] != ' ')
		return false;
	rest = span_of(rest.at + n + 1, rest.len - n - 1);
	end = rest.len > 0 ? memchr(rest.at, '\n', rest.len) : NULL;
	if (!end)
		return false;
	*ret = span_of(rest.at, (size_t)(end - rest.at));
	*in = span_of(end + 1, rest.len - ret->len - 1);
	return true;
}

static bool digits_ok(struct span s, size_t max)
{
	if (s.len == 0 || s.len > max)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		if (s.at[i] < '0' || s.at[i] > '9')
			return false;
	}
	return true;
}

/* "Name <mail> 1700000000 +0000": as fsck wants it. */
static bool ident_ok(struct span s)
{
	struct span name, mail, when;

	if (s.len > 0 && memchr(s.at, 0, s.len))
		return false;
	if (!take_until(&s, '<', &name) || name.len == 0 || name.at[name.len - 1] != ' ' ||
	    memchr(name.at, '>', name.len))
		return false;
	if (!take_until(&s, '>', &mail) || (mail.len > 0 && memchr(mail.at, '<', mail.len)))
		return false;
	if (s.len < 1 || s.at[0] != ' ')
		return false;
	s = span_of(s.at + 1, s.len - 1);
	if (!take_until(&s, ' ', &when) || !digits_ok(when, 18) ||
	    (when.at[0] == '0' && when.len > 1))
		return false;
	if (s.len != 5 || (s.at[0] != '+' && s.at[0] != '-'))
		return false;
	return digits_ok(span_of(s.at + 1, 4), 4);
}

static int commit_bad(enum gitobj_bad bad, enum gitobj_bad *ret_bad)
{
	*ret_bad = bad;
	return -EBADMSG;
}

/* The lines until the empty one: of signatures and the like, which nobody reads here. */
static bool skip_headers(struct span *in)
{
	struct span line;

	while (in->len > 0 && in->at[0] != '\n') {
		if (!memchr(in->at, '\n', in->len) || !take_until(in, '\n', &line) ||
		    memchr(line.at, 0, line.len))
			return false;
	}
	if (in->len > 0)
		*in = span_of(in->at + 1, in->len - 1);
	return true;
}

int gitobj_parse_commit(struct span in, struct gitobj_commit *ret, enum gitobj_bad *ret_bad)
{
	struct gitobj_commit c = { .parent_count = 0 };
	struct gitobj_id id;
	struct span line;

	if (!take_line(&in, "tree", &line) || gitobj_parse_hex(line, &c.tree) < 0)
		return commit_bad(GITOBJ_BAD_COMMIT_TREE, ret_bad);
	c.parents = span_of(in.at, 0);
	while (take_line(&in, "parent", &line)) {
		if (gitobj_parse_hex(line, &id) < 0)
			return commit_bad(GITOBJ_BAD_COMMIT_PARENT, ret_bad);
		if (c.parent_count == GITOBJ_PARENTS_MAX)
			return commit_bad(GITOBJ_BAD_COMMIT_PARENTS, ret_bad);
		c.parent_count++;
	}
	c.parents.len = (size_t)(in.at - c.parents.at);
	if (!take_line(&in, "author", &c.author) || !ident_ok(c.author))
		return commit_bad(GITOBJ_BAD_COMMIT_AUTHOR, ret_bad);
	if (!take_line(&in, "committer", &c.committer) || !ident_ok(c.committer))
		return commit_bad(GITOBJ_BAD_COMMIT_COMMITTER, ret_bad);
	if (!skip_headers(&in))
		return commit_bad(GITOBJ_BAD_COMMIT_HEADER, ret_bad);
	c.message = in;
	*ret = c;
	return 0;
}

int gitobj_parse_tag(struct span in, struct gitobj_id *ret, enum gitobj_type *ret_type)
{
	struct span object, word;
	struct gitobj_id id;

	if (!take_line(&in, "object", &object) || gitobj_parse_hex(object, &id) < 0 ||
	    !take_line(&in, "type", &word) || !type_of(word, ret_type))
		return -EBADMSG;
	*ret = id;
	return 0;
}

void gitobj_parent(const struct gitobj_commit *c, uint32_t i, struct gitobj_id *ret)
{
	enum { PREFIX = 7, LINE = PREFIX + GITOBJ_HEX_BYTES + 1 }; /* "parent ", and the newline */
	struct gitobj_id id = { { 0 } };

	if (i < c->parent_count && (size_t)(i + 1) * LINE <= c->parents.len)
		(void)!gitobj_parse_hex(
			span_of(c->parents.at + (size_t)i * LINE + PREFIX, GITOBJ_HEX_BYTES), &id);
	*ret = id;
}
