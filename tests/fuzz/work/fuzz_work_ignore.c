/*
 * Ignore patterns: a pattern and a path, each on a line. Contracts: what has no special byte
 * matches itself alone; the matcher agrees with a slow one that only recurses; what matches has the
 * first and the last byte that its rule demands.
 */
#include "work/ignore.h"
#include "work/path.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SLOW_MAX = 20 }; /* bytes, so that the slow one ends */

static void must(bool ok)
{
	if (!ok)
		abort();
}

static struct span rest(struct span s, size_t n)
{
	return span_of(s.at + n, s.len - n);
}

/* Stars, "?" and plain bytes; `start` says that what is before p is a slash or nothing. */
static bool slow(struct span p, bool start, struct span v)
{
	size_t run = 0;

	while (run < p.len && p.at[run] == '*')
		run++;
	if (run == 0) {
		if (p.len == 0 || v.len == 0)
			return p.len == v.len;
		if (p.at[0] != '?' ? p.at[0] != v.at[0] : v.at[0] == '/')
			return false;
		return slow(rest(p, 1), p.at[0] == '/', rest(v, 1));
	}
	if (run == 1 || !start || (run < p.len && p.at[run] != '/'))
		return slow(rest(p, run), false, v) ||
		       (v.len > 0 && v.at[0] != '/' && slow(p, start, rest(v, 1)));
	if (run == p.len || slow(rest(p, run + 1), true, v))
		return true;
	for (size_t i = 0; i < v.len; i++) {
		if (v.at[i] == '/' && slow(rest(p, run + 1), true, rest(v, i + 1)))
			return true;
	}
	return false;
}

static bool has_any(struct span s, const char *of)
{
	for (size_t i = 0; i < s.len; i++) {
		if (s.at[i] != 0 && strchr(of, s.at[i]) != NULL)
			return true;
	}
	return false;
}

static bool may_match(const struct ignore_rule *r, struct span last)
{
	uint8_t first, end;

	if (last.len == 0)
		return true; /* of no path that a set is asked about */
	return (!ignore_first_byte(r, &first) || first == last.at[0]) &&
	       (!ignore_last_byte(r, &end) || end == last.at[last.len - 1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = span_of(data, size), line, path;
	struct ignore_rule r;
	bool matched;

	if (!take_until(&in, '\n', &line) || ignore_parse_line(line, &r) < 0)
		return 0;
	if (!take_until(&in, '\n', &path) || path.len == 0)
		return 0;
	matched = ignore_match(&r, path, wpath_last(path), true);
	must(!matched || may_match(&r, wpath_last(path)));
	must(matched || !span_equal(r.pattern, path) || has_any(path, "*[\\"));
	if (!r.anchored || r.pattern.len > SLOW_MAX || path.len > SLOW_MAX ||
	    has_any(r.pattern, "[\\"))
		return 0;
	must(matched == slow(r.pattern, true, path));
	return 0;
}
