/*
 * Paths, hosts and queries: what is canonical stays as it is, holds nothing that is refused, and
 * climbs nowhere.
 */
#include "http/http.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void check_path(struct span raw, unsigned options)
{
	uint8_t room[HTTP_TARGET_MAX];
	uint8_t again[HTTP_TARGET_MAX];
	enum http_reason why = HTTP_FINE;
	uint32_t flags = 0;
	struct buf a;
	struct buf b;

	buf_init(&a, room, sizeof(room));
	if (path_parse(raw, options, &a, &flags, &why) < 0) {
		must(why != HTTP_FINE && why < HTTP_REASON_COUNT && flags == 0);
		return;
	}
	must(a.len > 0 && a.at[0] == '/');
	for (size_t i = 0; i + 1 < a.len; i++) {
		struct span rest = span_of(a.at + i, a.len - i);

		must(rest.at[0] > ' ' && rest.at[0] < 0x7f && rest.at[0] != ';' &&
		     rest.at[0] != '\\' && rest.at[0] != '?' && rest.at[0] != '#');
		if (rest.at[0] == '/')
			must(rest.at[1] != '/');
		must(rest.len < 4 || memcmp(rest.at, "/../", 4) != 0);
		must(rest.len < 3 || memcmp(rest.at, "/./", 3) != 0);
	}
	buf_init(&b, again, sizeof(again));
	must(path_parse(buf_span(&a), options, &b, &flags, &why) == 0);
	must(span_equal(buf_span(&a), buf_span(&b)));
}

static void check_host(struct span text)
{
	struct http_host h;
	struct http_host again;
	uint8_t room[HTTP_HOST_MAX + 2];
	struct buf b;

	memset(&h, 0xa5, sizeof(h));
	if (host_parse(text, &h) < 0) {
		must(h.kind == 0xa5);
		return;
	}
	buf_init(&b, room, sizeof(room));
	if (h.kind == HTTP_HOST_IP6)
		buf_put_u8(&b, '[');
	buf_put(&b, h.text, h.len);
	if (h.kind == HTTP_HOST_IP6)
		buf_put_u8(&b, ']');
	must(buf_ok(&b) && host_parse(buf_span(&b), &again) == 0);
	again.port = h.port;
	must(host_parse_same(&h, &again) && memcmp(h.addr, again.addr, sizeof(h.addr)) == 0);
}

static void check_query(struct span q)
{
	uint8_t room[1024];
	enum http_reason why = HTTP_FINE;
	struct span name;
	struct span value;
	struct buf out;

	if (query_parse_check(q, &why) < 0)
		must(why == HTTP_QUERY || why == HTTP_FRAGMENT);
	while (query_parse_next(&q, &name, &value)) {
		buf_init(&out, room, sizeof(room));
		query_parse_decode(name, &out);
		query_parse_decode(value, &out);
		must(out.len <= name.len + value.len);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = span_of(data, size);

	check_path(in, 0);
	check_path(in, PATH_KEEP_SLASH);
	check_host(in);
	check_query(in);
	return 0;
}
