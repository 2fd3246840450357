#include "jail/cgroup_parse.h"

#include <errno.h>
#include <string.h>

static const char *const tree_names[CGROUP_TREES] = {
	[CGROUP_V2] = "",       [CGROUP_MEMORY] = "memory",   [CGROUP_CPU] = "cpu",
	[CGROUP_PIDS] = "pids", [CGROUP_FREEZER] = "freezer", [CGROUP_CPUACCT] = "cpuacct",
};

/* Which of our v1 trees a word names; CGROUP_TREES if none. */
static unsigned tree_of(struct span word)
{
	for (unsigned t = CGROUP_MEMORY; t < CGROUP_TREES; t++)
		if (span_is(word, tree_names[t]))
			return t;
	return CGROUP_TREES;
}

static bool take_line(struct span *in, struct span *ret_line)
{
	return take_until(in, '\n', ret_line) && ret_line->len <= CGROUP_LINE_MAX;
}

int cgroup_parse_self(struct span in, struct cgroup_self *ret)
{
	struct cgroup_self got = { 0 };
	struct span line;

	for (int n = 0; in.len > 0; n++) {
		struct span id;
		struct span names;
		struct span word;

		if (n == CGROUP_LINES_MAX || !take_line(&in, &line))
			return -EBADMSG;
		if (!take_until(&line, ':', &id) || id.len == 0)
			return -EBADMSG;
		/* an empty list of names is v2; it still has its colon */
		if (!take_until(&line, ':', &names) || line.len == 0 || line.at[0] != '/')
			return -EBADMSG;
		if (names.len == 0) {
			if (!span_is(id, "0"))
				return -EBADMSG;
			got.path[CGROUP_V2] = line;
			continue;
		}
		while (take_until(&names, ',', &word)) {
			unsigned t = tree_of(word);

			if (t < CGROUP_TREES)
				got.path[t] = line;
		}
	}
	*ret = got;
	return 0;
}

/* One line of mountinfo: notes the mount if it is one of ours. */
static bool note_mount(struct span line, struct cgroup_mounts *got)
{
	struct span word;
	struct span root;
	struct span point;
	struct span type;

	for (int i = 0; i < 3; i++) /* id, parent, device */
		if (!take_until(&line, ' ', &word))
			return false;
	if (!take_until(&line, ' ', &root) || !take_until(&line, ' ', &point) || point.len == 0)
		return false;
	do /* options and tags, any number, up to a lone dash */
		if (!take_until(&line, ' ', &word))
			return false;
	while (!span_is(word, "-"));
	if (!take_until(&line, ' ', &type))
		return false;
	if (span_is(type, "cgroup2")) {
		got->root[CGROUP_V2] = root;
		got->point[CGROUP_V2] = point;
		return true;
	}
	if (!span_is(type, "cgroup"))
		return true;
	if (!take_until(&line, ' ', &word)) /* source */
		return false;
	while (take_until(&line, ',', &word)) {
		unsigned t = tree_of(word);

		if (t == CGROUP_TREES)
			continue;
		got->root[t] = root;
		got->point[t] = point;
	}
	return true;
}

int cgroup_parse_mounts(struct span in, struct cgroup_mounts *ret)
{
	struct cgroup_mounts got = { 0 };
	struct span line;

	for (int n = 0; in.len > 0; n++)
		if (n == CGROUP_LINES_MAX || !take_line(&in, &line) || !note_mount(line, &got))
			return -EBADMSG;
	*ret = got;
	return 0;
}

static bool take_octal(struct span *s, uint8_t *ret)
{
	unsigned v = 0;

	for (int i = 0; i < 3; i++) {
		uint8_t c;

		if (!take_u8(s, &c) || c < '0' || c > '7')
			return false;
		v = v * 8 + (unsigned)(c - '0');
	}
	if (v == 0 || v > 255)
		return false;
	*ret = (uint8_t)v;
	return true;
}

bool cgroup_unescape(struct span in, struct buf *out)
{
	uint8_t c;

	while (take_u8(&in, &c)) {
		if (c == '\\' && !take_octal(&in, &c))
			return false;
		if (c == '\0')
			return false;
		buf_put_u8(out, c);
	}
	return buf_ok(out);
}

/* Is there a ".." among the components? */
static bool climbs(struct span path)
{
	struct span part;

	while (take_until(&path, '/', &part))
		if (span_is(part, ".."))
			return true;
	return false;
}

bool cgroup_join(struct span point, struct span root, struct span path, struct buf *out)
{
	if (root.len == 0 || root.at[0] != '/' || path.len == 0 || path.at[0] != '/')
		return false;
	if (climbs(path) || climbs(root) || memchr(path.at, '\0', path.len))
		return false;
	if (root.len > 1) { /* "/a" holds "/a" and "/a/b", not "/ab" */
		if (path.len < root.len || memcmp(path.at, root.at, root.len) != 0)
			return false;
		path = span_of(path.at + root.len, path.len - root.len);
		if (path.len > 0 && path.at[0] != '/')
			return false;
	}
	if (!cgroup_unescape(point, out))
		return false;
	if (path.len > 1)
		buf_put_span(out, path);
	return buf_ok(out);
}

bool cgroup_find_number(struct span in, const char *key, uint64_t *ret)
{
	struct span line;
	struct span word;

	while (take_until(&in, '\n', &line))
		if (take_until(&line, ' ', &word) && span_is(word, key))
			return span_to_u64(line, ret);
	return false;
}
