#include "agents/settings_parse.h"

#include <errno.h>
#include <string.h>

/* Where the reader stands. before is the last byte that is neither blank nor comment. */
struct jsonc {
	struct span in;
	size_t at;
	struct buf *out;
	bool comments;
	uint8_t before, before_comma;
	size_t comma_at; /* of the last comma, in out */
	unsigned depth;
	uint8_t open[SETTINGS_DEPTH_MAX];
};

static void blank(struct jsonc *j, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint8_t c = j->in.at[j->at++];

		buf_put_u8(j->out, c == '\n' || c == '\r' ? c : ' ');
	}
}

static int take_comment(struct jsonc *j)
{
	size_t left = j->in.len - j->at;
	const uint8_t *from = j->in.at + j->at;
	size_t len = 2;

	if (!j->comments || left < 2)
		return -EBADMSG;
	if (from[1] == '/') {
		while (len < left && from[len] != '\n')
			len++;
		blank(j, len);
		return 0;
	}
	if (from[1] != '*')
		return -EBADMSG;
	while (len + 1 < left && !(from[len] == '*' && from[len + 1] == '/'))
		len++;
	if (len + 1 >= left)
		return -EBADMSG;
	blank(j, len + 2);
	return 0;
}

static int take_string(struct jsonc *j)
{
	size_t end = j->at + 1;

	while (end < j->in.len && j->in.at[end] != '"') {
		if (j->in.at[end] < 0x20)
			return -EBADMSG;
		end += j->in.at[end] == '\\' ? 2 : 1;
	}
	if (end >= j->in.len)
		return -EBADMSG;
	buf_put(j->out, j->in.at + j->at, end + 1 - j->at);
	j->at = end + 1;
	j->before = '"';
	return 0;
}

/* A comma with nothing behind it belongs to people, not to JSON. */
static int take_close(struct jsonc *j, uint8_t c)
{
	if (j->depth == 0 || j->open[j->depth - 1] != (c == '}' ? '{' : '['))
		return -EBADMSG;
	if (j->before == ',') {
		if (!j->comments || memchr("[{,:", j->before_comma, 4) || j->before_comma == 0)
			return -EBADMSG;
		if (buf_ok(j->out))
			j->out->at[j->comma_at] = ' ';
	}
	j->depth--;
	return 0;
}

static int take_byte(struct jsonc *j)
{
	uint8_t c = j->in.at[j->at];

	if (c == '{' || c == '[') {
		if (j->depth == SETTINGS_DEPTH_MAX)
			return -EBADMSG;
		j->open[j->depth++] = c;
	}
	if ((c == '}' || c == ']') && take_close(j, c) < 0)
		return -EBADMSG;
	if (c == ',') {
		j->before_comma = j->before;
		j->comma_at = j->out->len;
	}
	if (!memchr(" \t\r\n", c, 4))
		j->before = c;
	buf_put_u8(j->out, c);
	j->at++;
	return 0;
}

int settings_jsonc_parse(struct span in, bool comments, struct buf *out)
{
	struct jsonc j = { .in = in, .out = out, .comments = comments };

	while (j.at < in.len) {
		uint8_t c = in.at[j.at];
		int r = c == '"' ? take_string(&j) : c == '/' ? take_comment(&j) : take_byte(&j);

		if (r < 0)
			return r;
	}
	if (j.depth > 0)
		return -EBADMSG;
	return buf_ok(out) ? 0 : -EMSGSIZE;
}
