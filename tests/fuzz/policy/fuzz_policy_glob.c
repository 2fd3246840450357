/*
 * Path patterns, value patterns and queries: pattern, path and query, each on a line. Contracts: a
 * pattern without stars matches itself alone; the fast matcher agrees with a slow one that only
 * recurses.
 */
#include "policy/glob.h"
#include "policy/query.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SLOW_MAX = 24 }; /* bytes, so that the slow one ends */

static void must(bool ok)
{
	if (!ok)
		abort();
}

static struct span rest(struct span s, size_t n)
{
	return span_of(s.at + n, s.len - n);
}

static bool slow(struct span p, struct span v)
{
	if (p.len == 0)
		return v.len == 0;
	if (p.at[0] == '*')
		return slow(rest(p, 1), v) || (v.len > 0 && slow(p, rest(v, 1)));
	return v.len > 0 && p.at[0] == v.at[0] && slow(rest(p, 1), rest(v, 1));
}

/* Segments behind a slash; done says that there is none left. */
static bool slow_path(struct span p, bool p_done, struct span v, bool v_done)
{
	const uint8_t *slash = p.len > 0 ? memchr(p.at, '/', p.len) : NULL;
	size_t n = slash ? (size_t)(slash - p.at) : p.len;
	struct span p_rest = slash ? rest(p, n + 1) : rest(p, p.len);
	const uint8_t *v_slash = v.len > 0 ? memchr(v.at, '/', v.len) : NULL;
	size_t m = v_slash ? (size_t)(v_slash - v.at) : v.len;
	struct span v_rest = v_slash ? rest(v, m + 1) : rest(v, v.len);

	if (p_done)
		return v_done;
	if (span_is(span_of(p.at, n), "**"))
		return slow_path(p_rest, !slash, v, v_done) ||
		       (!v_done && slow_path(p, false, v_rest, !v_slash));
	return !v_done && slow(span_of(p.at, n), span_of(v.at, m)) &&
	       slow_path(p_rest, !slash, v_rest, !v_slash);
}

static void check_query(struct span pattern, struct span query)
{
	struct span values[1] = { pattern };

	for (uint8_t mode = QUERY_SOME; mode < QUERY_MODES; mode++) {
		struct query_test t = { mode, span_str("q"), values,
			                mode == QUERY_MISSING ? 0 : 1 };
		bool denies = query_holds(&t, query, true);
		bool allows = query_holds(&t, query, false);

		must(denies || !allows); /* what allows must be certain, what denies need not be */
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span query = span_of(data, size > 4096 ? 4096 : size);
	struct span pattern;
	struct span path;
	const char *why;
	bool got;

	if (!take_until(&query, '\n', &pattern) || !take_until(&query, '\n', &path))
		return 0;
	check_query(pattern, query);
	if (pattern.len <= SLOW_MAX && path.len <= SLOW_MAX)
		must(glob_value_match(pattern, path) == slow(pattern, path));
	if (glob_parse_path(pattern, &why) < 0)
		return 0;
	got = glob_path_match(pattern, path);
	if (!memchr(pattern.at, '*', pattern.len) && span_equal(pattern, path))
		must(got);
	if (!memchr(pattern.at, '%', pattern.len) && !memchr(path.at, '%', path.len) &&
	    pattern.len <= SLOW_MAX && path.len <= SLOW_MAX)
		must(got == (path.len > 0 && path.at[0] == '/' &&
		             slow_path(rest(pattern, 1), false, rest(path, 1), false)));
	return 0;
}
