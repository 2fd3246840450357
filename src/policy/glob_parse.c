/*
 * Theory of operation: matching is greedy with one place to go back to, the latest star. That is
 * enough: what stands before the latest star already matches as early as it can, and the star can
 * take up whatever an earlier one might have taken. So nothing is exponential. A path is matched
 * the same way twice over: segments with "**" as the star, and bytes of one segment with "*".
 */
#include "policy/glob.h"

#include <errno.h>
#include <string.h>

bool glob_value_match(struct span pattern, struct span value)
{
	size_t p = 0;
	size_t v = 0;
	size_t star = SIZE_MAX; /* behind the latest star in pattern */
	size_t star_v = 0;      /* where in value what follows it was tried last */

	while (v < value.len) {
		if (p < pattern.len && pattern.at[p] == '*') {
			star = ++p;
			star_v = v;
		} else if (p < pattern.len && pattern.at[p] == value.at[v]) {
			p++;
			v++;
		} else if (star != SIZE_MAX) {
			p = star;
			v = ++star_v;
		} else {
			return false;
		}
	}
	while (p < pattern.len && pattern.at[p] == '*')
		p++;
	return p == pattern.len;
}

/* The segment that begins at *at; *at moves behind its slash, or beyond len after the last. */
static struct span segment(struct span s, size_t *at)
{
	size_t from = *at;
	const uint8_t *slash = from < s.len ? memchr(s.at + from, '/', s.len - from) : NULL;
	size_t to = slash ? (size_t)(slash - s.at) : s.len;

	*at = to + 1;
	return span_of(s.at + from, to - from);
}

enum { UNIT_ESCAPED = 256 };

static int upper_hex(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/*
 * One character of a segment. Some bytes may be written plainly or as %XX in a canonical path, and
 * a server takes both for the same, so they are one here. Other escapes are units of their own.
 */
static unsigned take_unit(struct span s, size_t *at)
{
	static const char either[] = "!$&'()*+,:=@";
	uint8_t c = s.at[*at];
	int high = s.len - *at > 2 ? upper_hex(s.at[*at + 1]) : -1;
	int low = s.len - *at > 2 ? upper_hex(s.at[*at + 2]) : -1;

	if (c != '%' || high < 0 || low < 0) {
		(*at)++;
		return c;
	}
	*at += 3;
	c = (uint8_t)(high << 4 | low);
	return c && strchr(either, c) ? c : UNIT_ESCAPED + c;
}

/* As glob_value_match(), by units. */
static bool segment_match(struct span pattern, struct span text)
{
	size_t p = 0;
	size_t v = 0;
	size_t star = SIZE_MAX;
	size_t star_v = 0;

	while (v < text.len) {
		size_t next_p = p;
		size_t next_v = v;

		if (p < pattern.len && pattern.at[p] == '*') {
			star = ++p;
			star_v = v;
		} else if (p < pattern.len &&
		           take_unit(pattern, &next_p) == take_unit(text, &next_v)) {
			p = next_p;
			v = next_v;
		} else if (star != SIZE_MAX) {
			(void)take_unit(text, &star_v);
			p = star;
			v = star_v;
		} else {
			return false;
		}
	}
	while (p < pattern.len && pattern.at[p] == '*')
		p++;
	return p == pattern.len;
}

bool glob_path_match(struct span pattern, struct span path)
{
	size_t p = 1;
	size_t v = 1;
	size_t star = SIZE_MAX;
	size_t star_v = 0;

	if (pattern.len == 0 || path.len == 0 || pattern.at[0] != '/' || path.at[0] != '/')
		return false;
	while (v <= path.len) {
		size_t next_p = p;
		size_t next_v = v;
		struct span want = { 0 };

		if (p <= pattern.len)
			want = segment(pattern, &next_p);
		if (p <= pattern.len && span_is(want, "**")) {
			star = next_p;
			star_v = v;
			p = next_p;
		} else if (p <= pattern.len && segment_match(want, segment(path, &next_v))) {
			p = next_p;
			v = next_v;
		} else if (star != SIZE_MAX) {
			(void)segment(path, &star_v);
			p = star;
			v = star_v;
		} else {
			return false;
		}
	}
	/* what is left of the pattern has to be stars, which may stand for nothing */
	while (p <= pattern.len)
		if (!span_is(segment(pattern, &p), "**"))
			return false;
	return true;
}

static bool is_unreserved(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c && strchr("-._~", c));
}

static const char *byte_fault(struct span pattern, size_t i)
{
	uint8_t c = pattern.at[i];
	int high;
	int low;

	if (c <= 0x20 || c >= 0x7f)
		return "has a byte that a path has only as %XX";
	if (c == '?')
		return "has a '?'; parameters have the key query:";
	if (c == '#')
		return "has a '#'; fragments are never sent";
	if (c == '\\')
		return "has a backslash; paths have '/' only";
	if (strchr("\"<>[]^`{|};", c))
		return "has a character that is always written as %XX in a path";
	if (c != '%')
		return NULL;
	if (pattern.len - i < 3)
		return "ends inside a %XX";
	high = upper_hex(pattern.at[i + 1]);
	low = upper_hex(pattern.at[i + 2]);
	if (high < 0 || low < 0)
		return "has a '%' without two upper-case hexadecimal digits behind it";
	if (is_unreserved((uint8_t)(high << 4 | low)))
		return "has a %XX for a character that is written plainly";
	return NULL;
}

static const char *segment_fault(struct span s, bool last)
{
	if (s.len == 0 && !last)
		return "has an empty segment";
	if (span_is(s, ".") || span_is(s, ".."))
		return "has a dot segment; paths are compared without";
	if (span_is(s, "**"))
		return NULL;
	for (size_t i = 0; i + 1 < s.len; i++)
		if (s.at[i] == '*' && s.at[i + 1] == '*')
			return "has '**' beside other text; it stands alone: /a/**";
	return NULL;
}

int glob_parse_path(struct span pattern, const char **ret_why)
{
	const char *why = NULL;
	size_t at = 1;

	if (pattern.len == 0 || pattern.at[0] != '/')
		why = "does not begin with '/'";
	else if (pattern.len > POLICY_PATTERN_MAX)
		why = "is longer than 256 bytes";
	for (size_t i = 0; !why && i < pattern.len; i++)
		why = byte_fault(pattern, i);
	while (!why && at <= pattern.len) {
		struct span s = segment(pattern, &at);

		why = segment_fault(s, at > pattern.len);
	}
	if (!why)
		return 0;
	*ret_why = why;
	return -EBADMSG;
}
