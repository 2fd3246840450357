/*
 * Responses of HTTP/1: the input's first byte says what was asked. What is read does not depend on
 * how the bytes are cut, and a head written again is read back as the same head.
 */
#include "http_dump.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TEXT_MAX = DUMP_BYTES_MAX };

static char whole[TEXT_MAX];
static char cut[TEXT_MAX];
static struct h1_reader reader;
static struct h1_reader second;

static void must(bool ok)
{
	if (!ok)
		abort();
}

static struct span dump(const struct h1_dump *d, struct span in, char *room)
{
	struct buf out;

	buf_init(&out, room, TEXT_MAX);
	h1_dump(d, in, &out);
	return buf_span(&out);
}

static void round_trip(const struct http_head *h, const struct http_rules *rules)
{
	static uint8_t bytes[4 * HTTP_HEAD_MAX];
	struct h1_event ev = { 0 };
	struct span in;
	struct buf out;
	struct buf a;
	struct buf b;

	must(h->status >= 100 && h->status <= 599 && h->framing <= HTTP_BODY_STREAM);
	buf_init(&out, bytes, sizeof(bytes));
	h1_put_response(&out, h, 0);
	must(buf_ok(&out));
	if (out.len > HTTP_HEAD_MAX)
		return;
	in = buf_span(&out);
	h1_reader_init(&second, rules);
	h1_reader_expect(&second, rules->to_head, rules->to_websocket);
	must(h1_read(&second, &in, &ev) == 0 && ev.kind == H1_HEAD);
	buf_init(&a, whole, TEXT_MAX);
	buf_init(&b, cut, TEXT_MAX);
	http_dump_head(h, &a);
	http_dump_head(ev.head, &b);
	/* what an answer to a HEAD says of its framing is not all carried on */
	must(span_equal(buf_span(&a), buf_span(&b)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct h1_dump d = { .rules = { .response = true } };
	struct span in;
	struct span first;
	struct h1_event ev;
	int r;

	if (size < 1)
		return 0;
	d.rules.to_head = data[0] & 1;
	d.rules.to_websocket = data[0] & 2;
	d.rules.body_max = data[0] & 4 ? 1000 : 0;
	d.eof = data[0] & 8;
	in = span_of(data + 1, size - 1);
	first = dump(&d, in, whole);
	d.seed = 1 + data[0];
	must(span_equal(first, dump(&d, in, cut)));
	d.seed = 0;
	d.piece = 1;
	must(span_equal(first, dump(&d, in, cut)));

	h1_reader_init(&reader, &d.rules);
	h1_reader_expect(&reader, d.rules.to_head, d.rules.to_websocket);
	while ((r = h1_read(&reader, &in, &ev)) == 0)
		if (ev.kind == H1_HEAD)
			round_trip(ev.head, &d.rules);
	must(r == -EAGAIN || reader.why != HTTP_FINE);
	return 0;
}
