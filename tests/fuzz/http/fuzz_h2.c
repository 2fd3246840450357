/*
 * HTTP/2 sessions in both roles, from the peer's first byte on. The input's first byte picks the
 * role, how the bytes are cut, and whether what is read is consumed. Contracts: no more than the
 * window is held for a stream, no more streams are open than may be, output ends.
 */
#include "http_pair.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OUTPUTS_MAX = 100000 };

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void drain_output(struct pair_side *s)
{
	for (int i = 0; i < OUTPUTS_MAX; i++) {
		struct span out = http_conn_output(s->conn);

		if (out.len == 0)
			return;
		http_conn_sent(s->conn, out.len);
	}
	abort();
}

static void run(struct pair_side *s, const uint8_t *data, size_t size, size_t piece)
{
	uint64_t now = 1;

	while (size > 0) {
		size_t n = piece && piece < size ? piece : size;

		if (pair_inject(s, now, data, n) < 0)
			break;
		must(http_conn_streams(s->conn) <= HTTP2_STREAMS_MAX);
		must(s->most <= HTTP_WINDOW_BYTES);
		data += n;
		size -= n;
		now += 3;
	}
	drain_output(s);
	(void)!http_conn_recv_eof(s->conn);
	drain_output(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
	static const uint8_t settings[9] = { [3] = 4 };
	static struct pair_side s;
	static struct http_head h;
	struct http_conn_opts o = { .http2 = true, .scheme = HTTP_TLS };
	uint32_t id;

	if (size < 1)
		return 0;
	o.client = data[0] & 1;
	pair_side_open(&s, &o);
	s.hold = data[0] & 2;
	if (o.client) {
		static const char *const methods[] = { "GET", "HEAD", "GET" };

		for (int i = 0; i < 3; i++) {
			pair_request(&h, methods[i], "/", HTTP_BODY_NONE, 0);
			(void)!http_conn_open(s.conn, &h, &id);
		}
		drain_output(&s);
	} else if (data[0] & 4) {
		must(pair_inject(&s, 1, preface, sizeof(preface) - 1) == 0);
	}
	if (data[0] & 4)
		must(pair_inject(&s, 1, settings, sizeof(settings)) == 0);
	run(&s, data + 1, size - 1, data[0] >> 4);
	pair_side_close(&s);
	return 0;
}
