#include "http/chars.h"
#include "http/h1.h"

#include <errno.h>
#include <string.h>

/*
 * Theory of operation
 *
 * Lines are gathered byte by byte, and each byte is judged as it comes: an LF only after a CR, a CR
 * only before an LF, no control byte, no line or head over its maximum. A complete line is parsed
 * at once. So the first fault in the order of the bytes is the answer, however they were cut.
 *
 * A name is folded to lower case where it stands in our copy; values, the target and the method
 * stay as they came and are spans into it. The trailers have room of their own behind the head, so
 * that the head's spans stay good until the message's end.
 */

enum {
	/* method, target, version, two spaces: within it a long target is still told apart */
	FIRST_LINE_MAX = HTTP_METHOD_MAX + 1 + HTTP_TARGET_MAX + 1 + 8,
	VERSION_BYTES = 8,
};

static int refuse(struct h1_reader *r, enum http_reason why)
{
	r->why = why;
	r->state = H1_BAD;
	return -EBADMSG;
}

static void begin_message(struct h1_reader *r)
{
	r->state = H1_FIRST;
	r->len = 0;
	r->line = 0;
	r->head_len = 0;
	r->left = 0;
	r->body = 0;
	r->close = false;
	r->trailers.count = 0;
	buf_init(&r->path, r->path_bytes, sizeof(r->path_bytes));
	memset(&r->chunk, 0, sizeof(r->chunk));
	head_parse_begin(&r->maker, &r->rules, &r->head, &r->path);
}

void h1_reader_init(struct h1_reader *r, const struct http_rules *rules)
{
	memset(r, 0, offsetof(struct h1_reader, path_bytes));
	r->rules = *rules;
	if (!rules->response)
		begin_message(r);
}

/* A final answer was read, or none was ever asked for. */
void h1_reader_expect(struct h1_reader *r, bool to_head, bool to_websocket)
{
	r->rules.to_head = to_head;
	r->rules.to_websocket = to_websocket;
	r->info_count = 0;
	begin_message(r);
}

void h1_reader_decide(struct h1_reader *r, bool opaque)
{
	if (r->state != H1_WAIT)
		return;
	if (opaque)
		r->state = H1_OPAQUE;
	else
		begin_message(r);
}

static bool read_version(struct h1_reader *r, struct span s, enum http_reason bad)
{
	if (s.len != VERSION_BYTES || memcmp(s.at, "HTTP/", 5) != 0 || s.at[5] < '0' ||
	    s.at[5] > '9' || s.at[6] != '.' || s.at[7] < '0' || s.at[7] > '9') {
		r->why = bad;
		return false;
	}
	if (s.at[5] != '1' || s.at[7] > '1') {
		r->why = HTTP_VERSION;
		return false;
	}
	r->version = s.at[7] == '1' ? HTTP_1_1 : HTTP_1_0;
	r->maker.version = r->version;
	return true;
}

/* Three parts, one space between them, none elsewhere. */
static bool read_request_line(struct h1_reader *r, struct span line)
{
	struct span method;
	struct span target;

	r->why = HTTP_REQUEST_LINE;
	if (!take_until(&line, ' ', &method) || !take_until(&line, ' ', &target) || line.len == 0 ||
	    target.len == 0)
		return false;
	if (!field_parse_method_ok(method)) {
		r->why = HTTP_METHOD;
		return false;
	}
	for (size_t i = 0; i < target.len; i++)
		if (target.at[i] <= ' ' || target.at[i] >= 0x7f) {
			r->why = HTTP_PATH_BYTE;
			return false;
		}
	if (!read_version(r, line, HTTP_REQUEST_LINE))
		return false;
	if (target.len > HTTP_TARGET_MAX) {
		r->why = HTTP_TARGET_TOO_LONG;
		return false;
	}
	r->head.method = method;
	r->maker.target = target;
	return true;
}

/* The reason phrase is nobody's business, and may be missing with its space. */
static bool read_status_line(struct h1_reader *r, struct span line)
{
	struct span version;
	struct span status;
	uint64_t code;

	r->why = HTTP_STATUS_LINE;
	if (!take_until(&line, ' ', &version) || !read_version(r, version, HTTP_STATUS_LINE))
		return false;
	r->why = HTTP_STATUS_LINE;
	if (line.len < 3 || (line.len > 3 && line.at[3] != ' '))
		return false;
	status = span_of(line.at, 3);
	if (!span_to_u64(status, &code) || code < 100 || code > 599) {
		r->why = HTTP_STATUS;
		return false;
	}
	r->head.status = (uint16_t)code;
	return true;
}

/* "name:value" into its parts; the name becomes lower case. */
static bool split_field(struct h1_reader *r, struct span line, struct span *ret_name,
                        struct span *ret_value)
{
	size_t n = 0;

	r->why = HTTP_FIELD_FOLD;
	if (line.at[0] == ' ' || line.at[0] == '\t')
		return false;
	while (n < line.len && line.at[n] != ':') {
		uint8_t *at = &r->text[r->line + n];

		*at = char_lower(*at);
		n++;
	}
	r->why = HTTP_FIELD_NAME;
	if (n == line.len || n == 0)
		return false;
	r->why = HTTP_FIELD_SPACE;
	if (line.at[n - 1] == ' ' || line.at[n - 1] == '\t')
		return false;
	*ret_name = span_of(line.at, n);
	line = span_of(line.at + n + 1, line.len - n - 1);
	while (line.len > 0 && (line.at[0] == ' ' || line.at[0] == '\t')) {
		line.at++;
		line.len--;
	}
	while (line.len > 0 && (line.at[line.len - 1] == ' ' || line.at[line.len - 1] == '\t'))
		line.len--;
	*ret_value = line;
	return true;
}

static bool read_field(struct h1_reader *r, struct span line)
{
	struct span name;
	struct span value;

	if (!split_field(r, line, &name, &value))
		return false;
	if (r->state == H1_TRAILERS)
		return head_parse_trailer(&r->trailers, name, value, &r->why);
	r->why = HTTP_FIELD_NAME;
	if (head_parse_field(&r->maker, name, value))
		return true;
	r->why = r->maker.why;
	return false;
}

/* Where the body, or what is in its place, begins. */
static void begin_body(struct h1_reader *r)
{
	const struct http_head *h = &r->head;

	r->close = r->maker.close;
	r->head_len = r->len;
	if (h->framing == HTTP_BODY_STREAM && r->maker.until_close) {
		r->close = true;
		r->state = H1_UNTIL_CLOSE;
	} else if (h->framing == HTTP_BODY_STREAM) {
		r->state = H1_CHUNKS;
	} else if (h->framing == HTTP_BODY_LENGTH && h->length > 0) {
		r->left = h->length;
		r->state = H1_LENGTH;
	} else {
		r->state = H1_END_DUE;
	}
	if (h->status >= 100 && h->status < 200)
		r->state = h->status == 101 ? H1_OPAQUE : H1_IDLE;
}

/* One whole line without its CRLF. 1: the head or the trailers are complete. */
static int end_line(struct h1_reader *r)
{
	struct span line = span_of(r->text + r->line, r->len - r->line - 2);
	bool ok;

	if (r->state == H1_FIRST) {
		ok = r->rules.response ? read_status_line(r, line) : read_request_line(r, line);
		r->state = H1_FIELDS;
	} else if (line.len > 0) {
		ok = read_field(r, line);
	} else if (r->state == H1_TRAILERS) {
		return 1;
	} else {
		ok = head_parse_finish(&r->maker);
		if (ok)
			return 1;
		r->why = r->maker.why;
	}
	r->line = r->len;
	return ok ? 0 : refuse(r, r->why);
}

/* Judges one byte by what stands before it in its line. */
static enum http_reason judge_byte(const struct h1_reader *r, uint8_t c)
{
	bool after_cr = r->len > r->line && r->text[r->len - 1] == '\r';
	size_t room =
		r->state == H1_TRAILERS ? r->head_len + HTTP_TRAILER_BYTES_MAX : HTTP_HEAD_MAX;

	if (after_cr && c != '\n')
		return HTTP_BARE_CR;
	if (c == '\n' && !after_cr)
		return HTTP_BARE_LF;
	if (!char_is(c, CHAR_VALUE) && c != '\r' && c != '\n')
		return HTTP_CONTROL_BYTE;
	if (r->state == H1_FIRST && !r->rules.response && r->len - r->line >= FIRST_LINE_MAX &&
	    c != '\r' && c != '\n')
		return HTTP_TARGET_TOO_LONG;
	if (r->len >= room)
		return r->state == H1_TRAILERS ? HTTP_TRAILERS_TOO_LARGE : HTTP_HEAD_TOO_LARGE;
	return HTTP_FINE;
}

/* 1: the last line has been read. -EAGAIN: `in` is empty. */
static int read_lines(struct h1_reader *r, struct span *in)
{
	while (in->len > 0) {
		uint8_t c = in->at[0];
		enum http_reason why = judge_byte(r, c);
		int done;

		if (why != HTTP_FINE)
			return refuse(r, why);
		r->text[r->len++] = c;
		in->at++;
		in->len--;
		if (c != '\n')
			continue;
		done = end_line(r);
		if (done != 0)
			return done;
	}
	return -EAGAIN;
}

static int read_head(struct h1_reader *r, struct span *in, struct h1_event *ret)
{
	int done = read_lines(r, in);

	if (done < 0)
		return done;
	begin_body(r);
	if (r->state == H1_IDLE) {
		if (++r->info_count > HTTP_INFO_MAX)
			return refuse(r, HTTP_UNASKED);
	}
	*ret = (struct h1_event){ .kind = H1_HEAD, .head = &r->head };
	return 0;
}

static int give_body(struct h1_reader *r, struct span bytes, struct h1_event *ret)
{
	r->body += bytes.len;
	if (r->rules.body_max && r->body > r->rules.body_max && r->state != H1_OPAQUE)
		return refuse(r, HTTP_BODY_TOO_LARGE);
	*ret = (struct h1_event){ .kind = H1_BODY, .bytes = bytes };
	return 0;
}

static int give_some(struct h1_reader *r, struct span *in, uint64_t most, struct h1_event *ret)
{
	struct span bytes;

	if (in->len == 0 || !take_span(in, most < in->len ? (size_t)most : in->len, &bytes))
		return -EAGAIN;
	return give_body(r, bytes, ret);
}

static int read_length(struct h1_reader *r, struct span *in, struct h1_event *ret)
{
	int got = give_some(r, in, r->left, ret);

	if (got < 0)
		return got;
	r->left -= ret->bytes.len;
	if (r->left == 0)
		r->state = H1_END_DUE;
	return 0;
}

static int read_chunks(struct h1_reader *r, struct span *in, struct h1_event *ret)
{
	struct span data;
	int got = chunk_parse(&r->chunk, in, &data);

	if (got == -EBADMSG)
		return refuse(r, r->chunk.why);
	if (got < 0)
		return got;
	if (data.len > 0)
		return give_body(r, data, ret);
	r->state = H1_TRAILERS;
	r->line = r->len;
	return h1_read(r, in, ret);
}

static int read_trailers(struct h1_reader *r, struct span *in, struct h1_event *ret)
{
	int done = read_lines(r, in);

	if (done < 0)
		return done;
	r->state = H1_END_DUE;
	if (r->trailers.count == 0)
		return h1_read(r, in, ret);
	*ret = (struct h1_event){ .kind = H1_TRAILER_FIELDS, .trailers = &r->trailers };
	return 0;
}

static int give_end(struct h1_reader *r, struct h1_event *ret)
{
	bool wait =
		(r->head.flags & HTTP_FLAG_WEBSOCKET) != 0 || span_is(r->head.method, "CONNECT");

	*ret = (struct h1_event){ .kind = H1_END };
	if (r->rules.response)
		r->state = H1_IDLE;
	else if (wait)
		r->state = H1_WAIT;
	else
		begin_message(r);
	return 0;
}

/* After a 1xx the real answer is still due; after a final one nothing is. */
static int read_idle(struct h1_reader *r, struct span *in, struct h1_event *ret)
{
	bool due = r->info_count > 0 && r->head.status < 200;

	if (in->len == 0)
		return -EAGAIN;
	if (!due)
		return refuse(r, HTTP_UNASKED);
	begin_message(r);
	return h1_read(r, in, ret);
}

int h1_read(struct h1_reader *r, struct span *in, struct h1_event *ret)
{
	switch ((enum h1_state)r->state) {
	case H1_IDLE:
		return read_idle(r, in, ret);
	case H1_FIRST:
	case H1_FIELDS:
		return read_head(r, in, ret);
	case H1_LENGTH:
		return read_length(r, in, ret);
	case H1_CHUNKS:
		return read_chunks(r, in, ret);
	case H1_TRAILERS:
		return read_trailers(r, in, ret);
	case H1_UNTIL_CLOSE:
	case H1_OPAQUE:
		return give_some(r, in, UINT64_MAX, ret);
	case H1_END_DUE:
		return give_end(r, ret);
	case H1_WAIT:
		return -EAGAIN;
	case H1_BAD:
		break;
	}
	return -EBADMSG;
}

int h1_read_eof(struct h1_reader *r, struct h1_event *ret)
{
	bool due = r->info_count > 0 && r->head.status < 200;

	if (r->state == H1_BAD)
		return -EBADMSG;
	if (r->state == H1_UNTIL_CLOSE || r->state == H1_OPAQUE) {
		*ret = (struct h1_event){ .kind = H1_END };
		r->state = H1_IDLE;
		r->head.status = 0;
		return 0;
	}
	if (r->state == H1_WAIT || (r->state == H1_IDLE && !due) ||
	    (r->state == H1_FIRST && r->len == 0 && !r->rules.response))
		return -EAGAIN;
	return refuse(r, HTTP_TRUNCATED);
}
