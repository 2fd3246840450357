/*
 * A connection of HTTP/1 in both roles, with a caller that answers: pipelines, early answers, and
 * ends. The input's first byte picks the role and how the bytes are cut.
 */
#include "http_pair.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct pair_side s;
	static struct http_head h;
	struct http_conn_opts o = { .scheme = HTTP_TLS };
	size_t piece;
	uint32_t id;
	int r = 0;

	if (size < 1)
		return 0;
	o.client = data[0] & 1;
	o.connect = data[0] & 4;
	piece = (data[0] >> 4) + 1U;
	pair_side_open(&s, &o);
	s.hold = data[0] & 2;
	if (o.client) {
		pair_request(&h, data[0] & 4 ? "HEAD" : "GET", "/ws", HTTP_BODY_NONE, 0);
		h.flags |= data[0] & 8 ? HTTP_FLAG_WEBSOCKET : 0U;
		must(http_conn_open(s.conn, &h, &id) == 0);
	}
	for (size_t at = 1; at < size && r == 0; at += piece) {
		r = pair_inject(&s, 1, data + at, size - at < piece ? size - at : piece);
		must(s.most <= HTTP_WINDOW_BYTES && http_conn_streams(s.conn) <= 1);
		if (o.client && r == 0 && http_conn_can_open(s.conn))
			must(http_conn_open(s.conn, &h, &id) == 0);
	}
	(void)!http_conn_recv_eof(s.conn);
	pair_side_close(&s);
	return 0;
}
