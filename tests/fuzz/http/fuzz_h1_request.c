/*
 * Requests of HTTP/1: the input's first byte picks the rules, the rest is the connection.
 * Contracts: what is read does not depend on how the bytes are cut; a head that was read and is
 * written again is read back as the same head; whatever is in it is what http.h promises.
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

static void check_head(const struct http_head *h)
{
	struct http_host host;
	uint8_t room[HTTP_TARGET_MAX];
	enum http_reason why = HTTP_FINE;
	uint32_t flags = 0;
	struct buf b;

	must(field_parse_method_ok(h->method) && !span_is(h->method, "TRACE"));
	must(h->host.port != 0 && h->status == 0 && !(h->flags & ~(unsigned)HTTP_FLAGS));
	if (h->host.kind != HTTP_HOST_IP6) {
		must(host_parse(span_of(h->host.text, h->host.len), &host) == 0);
		must(host.kind == h->host.kind && host.len == h->host.len);
	}
	if (h->path.len > 0 && h->path.at[0] == '/') {
		buf_init(&b, room, sizeof(room));
		must(path_parse(h->path, PATH_KEEP_SLASH, &b, &flags, &why) == 0);
		must(span_equal(buf_span(&b), h->path));
	}
	for (uint16_t i = 0; i < h->count; i++) {
		must(field_parse_name_ok(h->fields[i].name));
		must(field_parse_value_ok(h->fields[i].value));
		must(!field_parse_is_hop(h->fields[i].name));
	}
}

/* Written and read again; the paths of cookies apart, which become one field. */
static void round_trip(const struct http_head *h, const struct http_rules *rules)
{
	static uint8_t bytes[4 * HTTP_HEAD_MAX];
	struct h1_event ev = { 0 };
	struct span in;
	struct buf out;
	struct buf a;
	struct buf b;

	buf_init(&out, bytes, sizeof(bytes));
	h1_put_request(&out, h, 0);
	must(buf_ok(&out));
	if (out.len > HTTP_HEAD_MAX || http_head_find(h, "cookie").at)
		return;
	in = buf_span(&out);
	h1_reader_init(&second, rules);
	must(h1_read(&second, &in, &ev) == 0 && ev.kind == H1_HEAD);
	buf_init(&a, whole, TEXT_MAX);
	buf_init(&b, cut, TEXT_MAX);
	http_dump_head(h, &a);
	http_dump_head(ev.head, &b);
	must(span_equal(buf_span(&a), buf_span(&b)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct h1_dump d = { 0 };
	struct span in;
	struct span first;
	struct h1_event ev;
	int r;

	if (size < 1)
		return 0;
	d.rules.scheme = data[0] & 1 ? HTTP_TLS : HTTP_PLAIN;
	d.rules.keep_slash = data[0] & 2;
	d.rules.connect = data[0] & 4;
	d.eof = data[0] & 8;
	d.opaque = data[0] & 16;
	in = span_of(data + 1, size - 1);
	first = dump(&d, in, whole);
	d.seed = 1 + data[0];
	must(span_equal(first, dump(&d, in, cut)));
	d.seed = 0;
	d.piece = 1;
	must(span_equal(first, dump(&d, in, cut)));

	h1_reader_init(&reader, &d.rules);
	while ((r = h1_read(&reader, &in, &ev)) == 0) {
		if (ev.kind != H1_HEAD)
			continue;
		check_head(ev.head);
		round_trip(ev.head, &d.rules);
	}
	must(r == -EAGAIN || reader.why != HTTP_FINE);
	return 0;
}
