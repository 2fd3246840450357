/*
 * Theory of operation: the file is read once, from front to back, and what may stay is written anew
 * as it goes: a header, a key and its value, each on a line of its own. Whether a key may stay is
 * told by its whole path, that of its table included: the first part has to be on the list, and no
 * part may look like a credential's name. A value that looks like one takes its key with it: what
 * was written of it is taken back.
 */
#include "agents/settings_parse.h"

#include <errno.h>
#include <string.h>

struct path {
	unsigned count;
	struct span parts[SETTINGS_PARTS_MAX];
};

struct toml {
	struct span in;
	size_t at;
	const char *const *keys;
	struct settings_out *out;
	struct path table;
	bool keep_table;
	unsigned line;
	unsigned depth;
	unsigned muted; /* in how many values that go as a whole */
};

/* A value's fate, beside a negative errno. */
enum { KEEP = 0, DROP = 1 };

enum { MASKED_MAX = 32 }; /* bytes: no vendor's prefix is longer */

static int peek(const struct toml *t)
{
	return t->at < t->in.len ? t->in.at[t->at] : -1;
}

static bool next_is(const struct toml *t, const char *text)
{
	size_t len = strlen(text);

	return t->in.len - t->at >= len && memcmp(t->in.at + t->at, text, len) == 0;
}

static void skip_blanks(struct toml *t)
{
	while (peek(t) == ' ' || peek(t) == '\t')
		t->at++;
}

static int skip_comment(struct toml *t)
{
	for (; peek(t) != '\n' && peek(t) >= 0; t->at++)
		if (peek(t) < 0x20 && peek(t) != '\t' && !next_is(t, "\r\n"))
			return -EBADMSG;
	return 0;
}

static bool skip_newline(struct toml *t)
{
	if (next_is(t, "\r\n"))
		t->at++;
	if (peek(t) != '\n')
		return false;
	t->at++;
	t->line++;
	return true;
}

/* Blanks, comments and line ends: between the values of an array, and between lines. */
static int skip_space(struct toml *t)
{
	for (;;) {
		skip_blanks(t);
		if (peek(t) == '#') {
			if (skip_comment(t) < 0)
				return -EBADMSG;
		} else if (!skip_newline(t)) {
			return 0;
		}
	}
}

/* --- keys --- */

static bool bare_key_byte(int c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c == '-';
}

/* A key with an escape in it could be any name: it is not read. */
static int take_part(struct toml *t, struct span *ret)
{
	int quote = peek(t);
	size_t from;

	if (quote == '"' || quote == '\'') {
		from = ++t->at;
		for (; peek(t) != quote; t->at++)
			if (peek(t) < 0x20 || peek(t) == '\\' || peek(t) == 0x7f)
				return -EBADMSG;
		*ret = span_of(t->in.at + from, t->at - from);
		t->at++;
	} else {
		from = t->at;
		while (bare_key_byte(peek(t)))
			t->at++;
		*ret = span_of(t->in.at + from, t->at - from);
	}
	return ret->len > 0 && ret->len <= SETTINGS_KEY_MAX ? 0 : -EBADMSG;
}

static int take_path(struct toml *t, struct path *p)
{
	for (;;) {
		skip_blanks(t);
		if (p->count == SETTINGS_PARTS_MAX || take_part(t, &p->parts[p->count]) < 0)
			return -EBADMSG;
		p->count++;
		skip_blanks(t);
		if (peek(t) != '.')
			return 0;
		t->at++;
	}
}

static bool bare(struct span part)
{
	for (size_t i = 0; i < part.len; i++)
		if (!bare_key_byte(part.at[i]))
			return false;
	return true;
}

/* Quotes as they are needed. No part holds both kinds: the one it was read in is not in it. */
static void put_path(struct buf *b, const struct path *p, unsigned from)
{
	for (unsigned i = from; i < p->count; i++) {
		const char *quote = bare(p->parts[i])                               ? ""
		                    : memchr(p->parts[i].at, '\'', p->parts[i].len) ? "\""
		                                                                    : "'";

		buf_put_str(b, i > from ? "." : "");
		buf_put_str(b, quote);
		buf_put_span(b, p->parts[i]);
		buf_put_str(b, quote);
	}
}

static bool may_stay(const struct toml *t, const struct path *p)
{
	unsigned i = 0;

	while (t->keys[i] && !span_is(p->parts[0], t->keys[i]))
		i++;
	if (!t->keys[i])
		return false;
	for (i = 0; i < p->count; i++)
		if (settings_parse_secret_key(p->parts[i]))
			return false;
	return true;
}

static void note_removed(struct toml *t, const struct path *p)
{
	struct settings_out *o = t->out;

	if (t->muted > 0)
		return;
	o->removed_count++;
	for (unsigned i = 0; i < p->count; i++) {
		buf_put_str(&o->removed, i > 0 ? "." : "");
		buf_put_span(&o->removed, p->parts[i]);
	}
	buf_put_u8(&o->removed, 0);
}

/* --- values --- */

static int hex_digits(const struct toml *t, size_t at, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		int c = at + i < t->in.len ? t->in.at[at + i] : -1;

		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')))
			return -EBADMSG;
	}
	return 0;
}

/* t->at is at a backslash. In a text of several lines it may stand in front of a line's end. */
static int skip_escape(struct toml *t, bool lines)
{
	int c;

	t->at++;
	c = peek(t);
	if (c < 0)
		return -EBADMSG;
	if (lines && memchr(" \t\r\n", c, 4))
		return 0;
	if (!memchr("btnfr\"\\uU", c, 9))
		return -EBADMSG;
	t->at++;
	if (c == 'u' || c == 'U') {
		if (hex_digits(t, t->at, c == 'u' ? 4 : 8) < 0)
			return -EBADMSG;
		t->at += c == 'u' ? 4 : 8;
	}
	return 0;
}

static int skip_char(struct toml *t, int quote, bool lines)
{
	int c = peek(t);

	if (c < 0)
		return -EBADMSG;
	if (c == '\\' && quote == '"')
		return skip_escape(t, lines);
	if (lines && skip_newline(t))
		return 0;
	if ((c < 0x20 && c != '\t') || c == 0x7f)
		return -EBADMSG;
	t->at++;
	return 0;
}

/* Is one of the first letters spelled as a number? Then it may not look like what it is. */
static bool masked(struct span text)
{
	size_t len = text.len < MASKED_MAX ? text.len : MASKED_MAX;

	for (size_t i = 0; i + 1 < len; i++)
		if (text.at[i] == '\\' && (text.at[i + 1] == 'u' || text.at[i + 1] == 'U'))
			return true;
	return false;
}

static int take_text(struct toml *t)
{
	int quote = peek(t);
	const char *triple = quote == '"' ? "\"\"\"" : "'''";
	bool lines = next_is(t, triple);
	size_t from = t->at;
	size_t inner;
	struct span text;

	t->at += lines ? 3 : 1;
	inner = t->at;
	while (lines ? !next_is(t, triple) : peek(t) != quote)
		if (skip_char(t, quote, lines) < 0)
			return -EBADMSG;
	text = span_of(t->in.at + inner, t->at - inner);
	t->at += lines ? 3 : 1;
	if (settings_parse_secret_value(text) || (quote == '"' && masked(text)))
		return DROP;
	buf_put(&t->out->text, t->in.at + from, t->at - from);
	return KEEP;
}

/* Numbers, dates, true and false: bytes that cannot end the value early. */
static int take_bare(struct toml *t)
{
	size_t from = t->at;
	struct span word;

	while (bare_key_byte(peek(t)) || peek(t) == '.' || peek(t) == '+' || peek(t) == ':')
		t->at++;
	word = span_of(t->in.at + from, t->at - from);
	if (word.len == 0 || word.len > SETTINGS_KEY_MAX)
		return -EBADMSG;
	if (!span_is(word, "true") && !span_is(word, "false") && !span_is(word, "inf") &&
	    !span_is(word, "nan") && !memchr("+-0123456789", word.at[0], 12))
		return -EBADMSG;
	buf_put_span(&t->out->text, word);
	return KEEP;
}

static int take_value(struct toml *t, struct path *p);

/* An item that is dropped leaves no gap: its place in the text is taken back. */
static int take_array(struct toml *t, struct path *p)
{
	struct buf *b = &t->out->text;
	const char *gap = "";

	t->at++;
	buf_put_str(b, "[");
	for (;;) {
		size_t mark = b->len;
		int r;

		if (skip_space(t) < 0)
			return -EBADMSG;
		if (peek(t) == ']')
			break;
		buf_put_str(b, gap);
		r = take_value(t, p);
		if (r < 0)
			return r;
		if (r == DROP) {
			b->len = mark;
			note_removed(t, p);
		} else {
			gap = ", ";
		}
		if (skip_space(t) < 0)
			return -EBADMSG;
		if (peek(t) == ']')
			break;
		if (peek(t) != ',')
			return -EBADMSG;
		t->at++;
	}
	t->at++;
	buf_put_str(b, "]");
	return KEEP;
}

/* key = value, in a table or between braces. p: where it stands; the key's parts are put behind. */
static int take_pair(struct toml *t, struct path *p, bool wanted, const char *gap, bool *ret_kept)
{
	struct buf *b = &t->out->text;
	unsigned before = p->count;
	size_t mark = b->len;
	bool stays;
	int r;

	*ret_kept = false;
	if (take_path(t, p) < 0 || peek(t) != '=')
		return -EBADMSG;
	t->at++;
	skip_blanks(t);
	stays = wanted && may_stay(t, p);
	buf_put_str(b, gap);
	put_path(b, p, before);
	buf_put_str(b, " = ");
	t->muted += !stays;
	r = take_value(t, p);
	t->muted -= !stays;
	if (r < 0)
		return r;
	if (!stays || r == DROP) {
		b->len = mark;
		if (wanted)
			note_removed(t, p);
	} else {
		*ret_kept = true;
	}
	p->count = before;
	return 0;
}

static int take_braces(struct toml *t, struct path *p)
{
	struct buf *b = &t->out->text;
	const char *gap = " ";
	bool any = false;

	t->at++;
	buf_put_str(b, "{");
	skip_blanks(t);
	if (peek(t) == '}') {
		t->at++;
		buf_put_str(b, "}");
		return KEEP;
	}
	for (;;) {
		bool kept;

		if (take_pair(t, p, true, gap, &kept) < 0)
			return -EBADMSG;
		any |= kept;
		gap = any ? ", " : " ";
		skip_blanks(t);
		if (peek(t) == '}')
			break;
		if (peek(t) != ',')
			return -EBADMSG;
		t->at++;
	}
	t->at++;
	buf_put_str(b, any ? " }" : "}");
	return KEEP;
}

static int take_value(struct toml *t, struct path *p)
{
	int r;

	if (peek(t) == '"' || peek(t) == '\'')
		return take_text(t);
	if (peek(t) != '[' && peek(t) != '{')
		return take_bare(t);
	if (t->depth == SETTINGS_DEPTH_MAX)
		return -EBADMSG;
	t->depth++;
	r = peek(t) == '[' ? take_array(t, p) : take_braces(t, p);
	t->depth--;
	return r;
}

/* --- the file --- */

/* [a.b] or [[a.b]] */
static int take_header(struct toml *t)
{
	bool twice = next_is(t, "[[");
	struct path p = { 0 };

	t->at += twice ? 2 : 1;
	if (take_path(t, &p) < 0 || !next_is(t, twice ? "]]" : "]"))
		return -EBADMSG;
	t->at += twice ? 2 : 1;
	t->table = p;
	t->keep_table = may_stay(t, &p);
	if (!t->keep_table) {
		note_removed(t, &p);
		return 0;
	}
	buf_put_str(&t->out->text, twice ? "[[" : "[");
	put_path(&t->out->text, &p, 0);
	buf_put_str(&t->out->text, twice ? "]]\n" : "]\n");
	return 0;
}

static int take_line(struct toml *t)
{
	struct path p = t->table;
	bool kept = false;
	int r;

	if (peek(t) == '[')
		r = take_header(t);
	else
		r = take_pair(t, &p, t->keep_table, "", &kept);
	if (r < 0)
		return r;
	if (kept)
		buf_put_str(&t->out->text, "\n");
	skip_blanks(t);
	if (peek(t) == '#' && skip_comment(t) < 0)
		return -EBADMSG;
	return skip_newline(t) || peek(t) < 0 ? 0 : -EBADMSG;
}

int settings_toml_parse(struct span in, const char *const *keys, struct settings_out *out,
                        unsigned *ret_line)
{
	struct toml t = { .in = in, .keys = keys, .out = out, .keep_table = true, .line = 1 };
	int r = skip_space(&t);

	while (r == 0 && peek(&t) >= 0) {
		r = take_line(&t);
		if (r == 0)
			r = skip_space(&t);
	}
	if (r == 0 && !buf_ok(&out->text))
		r = -EMSGSIZE;
	if (r < 0)
		*ret_line = t.line;
	return r;
}
