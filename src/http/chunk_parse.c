#include "http/chars.h"
#include "http/h1.h"

#include <errno.h>

/*
 * Theory of operation
 *
 * A byte at a time through the lines, whole pieces of data in between. Extensions are read by the
 * letter of RFC 9112 7.1.1, without the blanks it calls bad, and dropped: a parser that reads them
 * otherwise finds the end of the line elsewhere. They are bounded for one line and for one body,
 * or a sender could make us read a hundred bytes for each one it delivers.
 */

static bool refuse(struct chunk *c, enum http_reason why)
{
	c->why = why;
	return false;
}

static bool step_size(struct chunk *c, uint8_t byte)
{
	if (char_is(byte, CHAR_HEX)) {
		if (c->digits == HTTP_CHUNK_DIGITS_MAX)
			return refuse(c, HTTP_CHUNK_SIZE);
		c->digits++;
		c->left = c->left << 4 | char_hex(byte);
		return true;
	}
	if (c->digits == 0)
		return refuse(c, HTTP_CHUNK_SIZE);
	if (byte == '\r')
		c->state = CHUNK_SIZE_LF;
	else if (byte == ';')
		c->state = CHUNK_EXT;
	else
		return refuse(c, byte == '\n' ? HTTP_BARE_LF : HTTP_CHUNK_SIZE);
	return true;
}

/* Between extensions, or after a token. */
static bool step_after(struct chunk *c, uint8_t byte)
{
	if (byte == '\r')
		c->state = CHUNK_SIZE_LF;
	else if (byte == ';')
		c->state = CHUNK_EXT;
	else
		return refuse(c, byte == '\n' ? HTTP_BARE_LF : HTTP_CHUNK_EXTENSION);
	return true;
}

static bool step_quoted(struct chunk *c, uint8_t byte)
{
	if (!char_is(byte, CHAR_VALUE))
		return refuse(c, HTTP_CHUNK_EXTENSION);
	if (c->state == CHUNK_EXT_ESCAPED)
		c->state = CHUNK_EXT_QUOTED;
	else if (byte == '\\')
		c->state = CHUNK_EXT_ESCAPED;
	else if (byte == '"')
		c->state = CHUNK_EXT_AFTER;
	return true;
}

static bool step_ext(struct chunk *c, uint8_t byte)
{
	bool token = char_is(byte, CHAR_TOKEN);

	if (++c->line_bytes > HTTP_CHUNK_LINE_MAX || ++c->exts_bytes > HTTP_CHUNK_EXTS_MAX)
		return refuse(c, HTTP_CHUNK_EXTENSION);
	if (c->state == CHUNK_EXT_QUOTED || c->state == CHUNK_EXT_ESCAPED)
		return step_quoted(c, byte);
	if (c->state == CHUNK_EXT || (c->state == CHUNK_EXT_VALUE && byte != '"')) {
		if (!token)
			return refuse(c, HTTP_CHUNK_EXTENSION);
		c->state = c->state == CHUNK_EXT ? CHUNK_EXT_NAME : CHUNK_EXT_TOKEN;
		return true;
	}
	if (c->state == CHUNK_EXT_VALUE) {
		c->state = CHUNK_EXT_QUOTED;
		return true;
	}
	if (c->state == CHUNK_EXT_NAME && byte == '=') {
		c->state = CHUNK_EXT_VALUE;
		return true;
	}
	if (token && c->state != CHUNK_EXT_AFTER)
		return true;
	return step_after(c, byte);
}

static bool step(struct chunk *c, uint8_t byte)
{
	switch (c->state) {
	case CHUNK_SIZE:
		return step_size(c, byte);
	case CHUNK_SIZE_LF:
		if (byte != '\n')
			return refuse(c, HTTP_BARE_CR);
		c->state = c->left > 0 ? CHUNK_DATA : CHUNK_LAST;
		return true;
	case CHUNK_DATA_CR:
		c->state = CHUNK_DATA_LF;
		return byte == '\r' || refuse(c, HTTP_CHUNK_END);
	case CHUNK_DATA_LF:
		c->state = CHUNK_SIZE;
		c->digits = 0;
		c->left = 0;
		c->line_bytes = 0;
		return byte == '\n' || refuse(c, HTTP_CHUNK_END);
	default:
		return step_ext(c, byte);
	}
}

int chunk_parse(struct chunk *c, struct span *in, struct span *ret_data)
{
	while (c->state != CHUNK_LAST) {
		if (in->len == 0)
			return -EAGAIN;
		if (c->state == CHUNK_DATA) {
			size_t n = c->left < in->len ? (size_t)c->left : in->len;

			c->left -= n;
			if (c->left == 0)
				c->state = CHUNK_DATA_CR;
			return take_span(in, n, ret_data) ? 0 : -EAGAIN;
		}
		if (!step(c, in->at[0]))
			return -EBADMSG;
		in->at++;
		in->len--;
	}
	*ret_data = span_of(NULL, 0);
	return 0;
}
