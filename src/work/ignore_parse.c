#include "work/ignore.h"

#include <errno.h>
#include <string.h>

/* Spaces at the end go, unless a backslash keeps the first of them. */
static size_t trimmed_len(struct span line)
{
	size_t end = 0;

	for (size_t i = 0; i < line.len; i++) {
		if (line.at[i] == '\\' && i + 1 < line.len)
			end = ++i + 1;
		else if (line.at[i] != ' ')
			end = i + 1;
	}
	return end;
}

static bool is_plain(struct span s)
{
	for (size_t i = 0; i < s.len; i++) {
		if (s.at[i] == '*' || s.at[i] == '?' || s.at[i] == '[' || s.at[i] == '\\')
			return false;
	}
	return true;
}

static enum ignore_shape shape_of(struct span p, bool anchored)
{
	if (is_plain(p))
		return IGNORE_LITERAL;
	if (anchored)
		return IGNORE_GLOB;
	if (p.at[0] == '*' && is_plain(span_of(p.at + 1, p.len - 1)))
		return IGNORE_SUFFIX;
	if (p.at[p.len - 1] == '*' && is_plain(span_of(p.at, p.len - 1)))
		return IGNORE_PREFIX;
	return IGNORE_GLOB;
}

int ignore_parse_line(struct span line, struct ignore_rule *ret)
{
	struct ignore_rule r = { .pattern = line };
	struct span *p = &r.pattern;

	if (p->len > 0 && p->at[p->len - 1] == '\r')
		p->len--;
	if (p->len > 0 && p->at[0] == '#')
		return -ENODATA;
	p->len = trimmed_len(*p);
	if (p->len > 0 && p->at[0] == '!') {
		r.negated = true;
		*p = span_of(p->at + 1, p->len - 1);
	}
	if (p->len > 0 && p->at[p->len - 1] == '/') {
		r.dir_only = true;
		p->len--;
	}
	if (p->len == 0)
		return -ENODATA;
	if (p->len > IGNORE_PATTERN_MAX)
		return -E2BIG;
	r.anchored = memchr(p->at, '/', p->len) != NULL;
	if (p->at[0] == '/')
		*p = span_of(p->at + 1, p->len - 1);
	r.shape = shape_of(*p, r.anchored);
	*ret = r;
	return 0;
}

/* ---- one byte against a bracket ---- */

/* Writes whether c belongs to the class. False for a name that is none. */
static bool class_has(struct span name, uint8_t c, bool *ret)
{
	bool upper = c >= 'A' && c <= 'Z', lower = c >= 'a' && c <= 'z';
	bool digit = c >= '0' && c <= '9', graph = c > 0x20 && c < 0x7f;
	const struct {
		const char *name;
		bool has;
	} classes[] = {
		{ "alnum", upper || lower || digit },
		{ "alpha", upper || lower },
		{ "blank", c == ' ' || c == '\t' },
		{ "cntrl", c < 0x20 || c == 0x7f },
		{ "digit", digit },
		{ "graph", graph },
		{ "lower", lower },
		{ "print", graph || c == ' ' },
		{ "punct", graph && !upper && !lower && !digit },
		{ "space", c == ' ' || (c >= '\t' && c <= '\r') },
		{ "upper", upper },
		{ "xdigit", digit || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F') },
	};

	for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
		if (span_is(name, classes[i].name)) {
			*ret = classes[i].has;
			return true;
		}
	}
	return false;
}

/* The length of a "[:name:]" at the front of p, 0 if there is none. */
static size_t class_len(struct span p)
{
	const uint8_t *end;

	if (p.len < 4 || p.at[0] != '[' || p.at[1] != ':')
		return 0;
	end = memchr(p.at + 2, ']', p.len - 2);
	if (end == NULL || end < p.at + 3 || end[-1] != ':')
		return 0;
	return (size_t)(end + 1 - p.at);
}

/* One plain byte of a bracket, "\" taken off; false at the end. */
static bool bracket_byte(struct span *p, uint8_t *ret)
{
	if (p->len > 0 && p->at[0] == '\\')
		*p = span_of(p->at + 1, p->len - 1);
	return take_u8(p, ret);
}

/* One item: a byte, a range or a class. False at the end of the pattern, and for no such class. */
static bool bracket_item(struct span *p, uint8_t c, bool *found)
{
	size_t named = class_len(*p);
	uint8_t low, high;
	bool has;

	if (named > 0) {
		if (!class_has(span_of(p->at + 2, named - 4), c, &has))
			return false;
		*found = *found || has;
		*p = span_of(p->at + named, p->len - named);
		return true;
	}
	if (!bracket_byte(p, &low))
		return false;
	high = low;
	if (p->len > 1 && p->at[0] == '-' && p->at[1] != ']') {
		*p = span_of(p->at + 1, p->len - 1);
		if (!bracket_byte(p, &high))
			return false;
	}
	if (c >= low && c <= high)
		*found = true;
	return true;
}

/* p stands behind "[". True and p behind "]" if c is meant; an open bracket means nothing. */
static bool bracket_match(struct span *p, uint8_t c)
{
	bool negated = p->len > 0 && (p->at[0] == '!' || p->at[0] == '^'), found = false;
	struct span in = *p;

	if (negated)
		in = span_of(in.at + 1, in.len - 1);
	for (bool first = true; first || in.len == 0 || in.at[0] != ']'; first = false) {
		if (!bracket_item(&in, c, &found))
			return false;
	}
	*p = span_of(in.at + 1, in.len - 1);
	return found != negated && c != '/';
}

/* ---- the whole ---- */

/* Where to go on when what follows a star did not match. */
struct match {
	struct span pattern;
	struct span path;
	size_t p, t;             /* how far both are */
	bool star, stars;        /* is there such a place? */
	size_t star_p, star_t;   /* behind a "*", which so far has taken up to star_t */
	size_t stars_p, stars_t; /* behind a double star and its slash */
};

static size_t run_of_stars(const struct match *m)
{
	size_t n = 0;

	while (m->p + n < m->pattern.len && m->pattern.at[m->p + n] == '*')
		n++;
	return n;
}

/* Notes a star, or a double one that has a part to itself. True if the rest is covered. */
static bool take_stars(struct match *m)
{
	size_t run = run_of_stars(m), end = m->p + run;
	bool alone = run > 1 && (m->p == 0 || m->pattern.at[m->p - 1] == '/') &&
	             (end == m->pattern.len || m->pattern.at[end] == '/');

	m->star = !alone;
	if (!alone) {
		m->p = m->star_p = end;
		m->star_t = m->t;
		return false;
	}
	if (end == m->pattern.len)
		return true;
	m->stars = true;
	m->p = m->stars_p = end + 1;
	m->stars_t = m->t;
	return false;
}

/* One byte of the path against what stands at p. */
static bool take_byte(struct match *m)
{
	struct span p = span_of(m->pattern.at + m->p, m->pattern.len - m->p);
	uint8_t c = m->path.at[m->t], want;
	bool same;

	if (!take_u8(&p, &want))
		return false;
	if (want == '?')
		same = c != '/';
	else if (want == '[')
		same = bracket_match(&p, c);
	else
		same = (want != '\\' || take_u8(&p, &want)) && want == c;
	if (!same)
		return false;
	m->p = m->pattern.len - p.len;
	m->t++;
	return true;
}

/* Gives the last star one byte more, or the last double star one part more. */
static bool go_back(struct match *m)
{
	if (m->star && m->star_t < m->path.len && m->path.at[m->star_t] != '/') {
		m->t = ++m->star_t;
		m->p = m->star_p;
		return true;
	}
	if (!m->stars)
		return false;
	while (m->stars_t < m->path.len && m->path.at[m->stars_t] != '/')
		m->stars_t++;
	if (m->stars_t >= m->path.len)
		return false;
	m->t = ++m->stars_t;
	m->p = m->stars_p;
	m->star = false;
	return true;
}

/*
 * The leftmost way to match what stands between two double stars leaves most for the rest, and so
 * within a part between two stars: only the last of each is ever gone back to.
 */
static bool match_whole(struct span pattern, struct span path)
{
	struct match m = { .pattern = pattern, .path = path };

	for (;;) {
		if (m.p < pattern.len && pattern.at[m.p] == '*') {
			if (take_stars(&m))
				return true;
			continue;
		}
		if (m.p == pattern.len && m.t == path.len)
			return true;
		if (m.t < path.len && take_byte(&m))
			continue;
		if (!go_back(&m))
			return false;
	}
}

bool ignore_match(const struct ignore_rule *r, struct span path, struct span last, bool is_dir)
{
	struct span p = r->pattern, v = r->anchored ? path : last;

	if (r->dir_only && !is_dir)
		return false;
	switch (r->shape) {
	case IGNORE_LITERAL:
		return span_equal(p, v);
	case IGNORE_SUFFIX:
		return v.len >= p.len - 1 &&
		       memcmp(v.at + v.len - (p.len - 1), p.at + 1, p.len - 1) == 0;
	case IGNORE_PREFIX:
		return v.len >= p.len - 1 && memcmp(v.at, p.at, p.len - 1) == 0;
	case IGNORE_GLOB:
		break;
	}
	return match_whole(p, v);
}

/* Of an anchored rule the first byte is one of the path's, and those say little. */
bool ignore_first_byte(const struct ignore_rule *r, uint8_t *ret)
{
	if (r->anchored || r->pattern.len == 0 || !is_plain(span_of(r->pattern.at, 1)))
		return false;
	*ret = r->pattern.at[0];
	return true;
}

/* A plain byte at the end that no backslash stands before is in no bracket that is closed. */
bool ignore_last_byte(const struct ignore_rule *r, uint8_t *ret)
{
	struct span p = r->pattern;

	if (p.len == 0 || !is_plain(span_of(p.at + p.len - 1, 1)) || p.at[p.len - 1] == ']')
		return false;
	if (p.len > 1 && p.at[p.len - 2] == '\\')
		return false;
	*ret = p.at[p.len - 1];
	return true;
}

bool ignore_leads(const struct ignore_rule *r, struct span path)
{
	for (size_t i = 1; r->anchored && i < r->pattern.len; i++) {
		struct span up_to = span_of(r->pattern.at, i);

		if (r->pattern.at[i] == '/' && r->pattern.at[i - 1] != '*' &&
		    match_whole(up_to, path))
			return true;
	}
	return false;
}
