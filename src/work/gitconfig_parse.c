#include "work/gitconfig.h"

#include <errno.h>
#include <string.h>

enum { END = -1 };

void gitconfig_begin(struct gitconfig_reader *r, struct span text)
{
	memset(r, 0, sizeof(*r));
	r->in = text;
	r->line = 1;
	if (text.len >= 3 && memcmp(text.at, "\xef\xbb\xbf", 3) == 0)
		r->in = span_of(text.at + 3, text.len - 3);
}

/* ---- bytes ---- */

/* The next byte without taking it; "\r\n" is a newline. */
static int peek(const struct gitconfig_reader *r)
{
	if (r->in.len == 0)
		return END;
	if (r->in.at[0] == '\r' && r->in.len > 1 && r->in.at[1] == '\n')
		return '\n';
	return r->in.at[0];
}

static int take(struct gitconfig_reader *r)
{
	int c = peek(r);
	size_t n = c == '\n' && r->in.at[0] == '\r' ? 2 : 1;

	if (c == END)
		return END;
	if (c == '\n')
		r->line++;
	r->in = span_of(r->in.at + n, r->in.len - n);
	return c;
}

static bool is_blank(int c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static void skip_blanks(struct gitconfig_reader *r)
{
	while (is_blank(peek(r)))
		(void)take(r);
}

static void skip_line(struct gitconfig_reader *r)
{
	int c;

	do {
		c = take(r);
	} while (c != END && c != '\n');
}

static bool is_letter(int c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_name_byte(int c)
{
	return is_letter(c) || (c >= '0' && c <= '9') || c == '-';
}

static char lower(int c)
{
	return (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

/* Adds a byte to a text of at most max. NUL is nothing git could hand to a program. */
static int add(char *text, uint16_t *len, size_t max, int c)
{
	if (c == 0)
		return -EBADMSG;
	if (*len >= max)
		return -E2BIG;
	text[(*len)++] = (char)c;
	return 0;
}

/* ---- [section "sub"] ---- */

/* Behind the first quote, up to behind the last. */
static int take_quoted_sub(struct gitconfig_reader *r)
{
	for (;;) {
		int c = peek(r), got;

		if (c == '\\') {
			(void)take(r);
			c = peek(r);
		} else if (c == '"') {
			(void)take(r);
			return 0;
		}
		if (c == END || c == '\n')
			return -EBADMSG;
		(void)take(r);
		got = add(r->sub, &r->sub_len, sizeof(r->sub), c);
		if (got < 0)
			return got;
	}
}

/* The old way to write a subsection, whose case does not count: [section.sub] */
static int take_dotted_sub(struct gitconfig_reader *r)
{
	r->has_sub = true;
	while (is_name_byte(peek(r)) || peek(r) == '.') {
		int got = add(r->sub, &r->sub_len, sizeof(r->sub), lower(take(r)));

		if (got < 0)
			return got;
	}
	return 0;
}

static int take_sub(struct gitconfig_reader *r)
{
	if (peek(r) == '.') {
		(void)take(r);
		return take_dotted_sub(r);
	}
	if (!is_blank(peek(r)))
		return 0;
	skip_blanks(r);
	if (take(r) != '"')
		return -EBADMSG;
	r->has_sub = true;
	return take_quoted_sub(r);
}

/* Behind "[". */
static int take_header(struct gitconfig_reader *r)
{
	int got = 0;

	r->section_len = r->sub_len = 0;
	r->has_sub = false;
	while (got == 0 && is_name_byte(peek(r)))
		got = add(r->section, &r->section_len, sizeof(r->section), lower(take(r)));
	if (got == 0)
		got = take_sub(r);
	if (got == 0 && (r->section_len == 0 || take(r) != ']'))
		got = -EBADMSG;
	r->in_section = got == 0;
	return got;
}

/* ---- key = value ---- */

/* What stands behind a backslash in a value; END for what may not. */
static int unescaped(int c)
{
	switch (c) {
	case 't':
		return '\t';
	case 'b':
		return '\b';
	case 'n':
		return '\n';
	case '\\':
	case '"':
		return c;
	default:
		return END;
	}
}

/* One byte of a value that is not its end. quoted is turned over by a quote. */
static int take_value_byte(struct gitconfig_reader *r, bool *quoted)
{
	int c = take(r);

	if (c == '"') {
		*quoted = !*quoted;
		return 0;
	}
	if (c == '\\') {
		c = take(r);
		if (c == '\n')
			return 0;
		c = unescaped(c);
		if (c == END)
			return -EBADMSG;
	}
	return add(r->value, &r->value_len, sizeof(r->value), c);
}

/* Behind "=": to the end of the line. Blanks at both ends go, but those in quotes or escapes. */
static int take_value(struct gitconfig_reader *r)
{
	bool quoted = false;
	uint16_t end = 0;

	skip_blanks(r);
	for (;;) {
		int c = peek(r), got;
		bool blank = !quoted && is_blank(c);

		if (c == END || c == '\n' || (!quoted && (c == '#' || c == ';')))
			break;
		got = take_value_byte(r, &quoted);
		if (got < 0)
			return got;
		if (!blank)
			end = r->value_len;
		else if (end == 0)
			r->value_len = 0;
	}
	if (quoted)
		return -EBADMSG;
	r->value_len = end;
	skip_line(r);
	return 0;
}

static int take_item(struct gitconfig_reader *r, struct gitconfig_item *ret)
{
	unsigned line = r->line;
	bool has_value;
	int got = 0;

	r->key_len = r->value_len = 0;
	while (got == 0 && is_name_byte(peek(r)))
		got = add(r->key, &r->key_len, sizeof(r->key), lower(take(r)));
	skip_blanks(r);
	has_value = peek(r) == '=';
	if (got == 0 && has_value) {
		(void)take(r);
		got = take_value(r);
	} else if (got == 0 && peek(r) != END && take(r) != '\n') {
		got = -EBADMSG;
	}
	if (got < 0)
		return got;
	*ret = (struct gitconfig_item){
		.section = span_of(r->section, r->section_len),
		.sub = span_of(r->sub, r->sub_len),
		.key = span_of(r->key, r->key_len),
		.value = span_of(r->value, r->value_len),
		.has_sub = r->has_sub,
		.has_value = has_value,
		.line = line,
	};
	return 0;
}

int gitconfig_next(struct gitconfig_reader *r, struct gitconfig_item *ret)
{
	for (;;) {
		int c = peek(r), got = 0;

		if (c == END)
			return -ENODATA;
		if (is_blank(c) || c == '\n')
			(void)take(r);
		else if (c == '#' || c == ';')
			skip_line(r);
		else if (c == '[' && take(r) == '[')
			got = take_header(r);
		else if (r->in_section && is_letter(c))
			return take_item(r, ret);
		else
			got = -EBADMSG;
		if (got < 0)
			return got;
	}
}
