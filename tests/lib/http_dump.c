#include "http_dump.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct state {
	const struct h1_dump *d;
	struct h1_reader reader;
	uint8_t body[DUMP_BODY_MAX];
	size_t body_len;
	struct buf *out;
	uint32_t random;
	bool closed;
	const uint8_t *start;
};

static void put_line(struct buf *out, const char *what, struct span name, struct span value)
{
	buf_put_str(out, what);
	buf_put_span(out, name);
	buf_put_str(out, ": ");
	buf_put_span(out, value);
	buf_put_u8(out, '\n');
}

void http_dump_head(const struct http_head *h, struct buf *out)
{
	if (h->status) {
		buf_printf(out, "response %u", h->status);
	} else {
		buf_put_str(out, "request ");
		buf_put_span(out, h->method);
		buf_printf(out, " %s ", h->scheme == HTTP_TLS ? "https" : "http");
		buf_put(out, h->host.text, h->host.len);
		buf_printf(out, " %u ", h->host.port);
		buf_put_span(out, h->path);
		buf_put_str(out, h->flags & HTTP_FLAG_QUERY ? " ?" : " -");
		buf_put_span(out, h->query);
	}
	buf_printf(out, " %u %u %" PRIu64 "\n", h->flags, h->framing, h->length);
	for (uint16_t i = 0; i < h->count; i++)
		put_line(out, "field ", h->fields[i].name, h->fields[i].value);
}

void http_dump_trailers(const struct http_trailers *t, struct buf *out)
{
	for (uint16_t i = 0; i < t->count; i++)
		put_line(out, "trailer ", t->fields[i].name, t->fields[i].value);
}

static void end_message(struct state *s, const uint8_t *at)
{
	if (s->body_len > 0) {
		buf_put_str(s->out, "body ");
		for (size_t i = 0; i < s->body_len; i++)
			buf_printf(s->out, "%02x", s->body[i]);
		buf_put_u8(s->out, '\n');
	}
	s->body_len = 0;
	buf_printf(s->out, "end %zu\n", (size_t)(at - s->start) + s->d->skip);
	if (s->reader.state == H1_WAIT)
		h1_reader_decide(&s->reader, s->d->opaque);
	else if (s->d->rules.response && !s->closed)
		h1_reader_expect(&s->reader, false, false);
}

static void show(struct state *s, const struct h1_event *ev, const uint8_t *at)
{
	switch (ev->kind) {
	case H1_HEAD:
		http_dump_head(ev->head, s->out);
		return;
	case H1_BODY:
		if (ev->bytes.len > sizeof(s->body) - s->body_len)
			return;
		memcpy(s->body + s->body_len, ev->bytes.at, ev->bytes.len);
		s->body_len += ev->bytes.len;
		return;
	case H1_TRAILER_FIELDS:
		http_dump_trailers(ev->trailers, s->out);
		return;
	case H1_END:
		end_message(s, at);
		return;
	}
	abort();
}

static size_t next_piece(struct state *s, size_t left)
{
	size_t n = s->d->piece;

	if (s->d->seed) {
		s->random = s->random * 1664525U + 1013904223U;
		n = 1 + (s->random >> 24) % (s->random & 0x400000 ? 7 : 200);
	}
	return n == 0 || n > left ? left : n;
}

void h1_dump(const struct h1_dump *d, struct span in, struct buf *out)
{
	struct state *s = calloc(1, sizeof(*s));
	struct h1_event ev;
	int r = -EAGAIN;

	if (!s)
		abort();
	*s = (struct state){ .d = d, .out = out, .random = d->seed, .start = in.at };
	h1_reader_init(&s->reader, &d->rules);
	if (d->rules.response)
		h1_reader_expect(&s->reader, d->rules.to_head, d->rules.to_websocket);
	while (r == -EAGAIN && in.len > 0) {
		size_t n = next_piece(s, in.len);
		struct span piece = span_of(in.at, n);

		while ((r = h1_read(&s->reader, &piece, &ev)) == 0)
			show(s, &ev, piece.at);
		if (r == -EAGAIN && piece.len > 0)
			abort(); /* it says it needs more, and did not take what there is */
		in = span_of(in.at + n, in.len - n);
	}
	if (d->eof && r == -EAGAIN) {
		s->closed = true;
		while ((r = h1_read_eof(&s->reader, &ev)) == 0)
			show(s, &ev, in.at);
		if (r == -EAGAIN)
			buf_put_str(out, "eof\n");
	} else if (r == -EAGAIN) {
		buf_put_str(out, "more\n");
	}
	if (r == -EBADMSG)
		buf_printf(out, "bad %s\n", http_reason_word(s->reader.why));
	free(s);
}
