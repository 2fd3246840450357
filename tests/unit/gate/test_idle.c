/* What connections that do nothing cost: the bound that docs/internals/gate-tls.md states. */
#include "gate_rig.h"
#include "test.h"

#include <malloc.h>
#include <stdio.h>
#include <string.h>

enum {
	CONNECTIONS = 400,
	IDLE1_BYTES_MAX = 20 << 10,
	IDLE2_BYTES_MAX = 48 << 10,
	COUNTED_BYTES_MAX = 72 << 10
};

/* Those of OpenSSL and nghttp2 are among them. */
static size_t in_use(void)
{
	struct mallinfo2 m = mallinfo2();

	return m.uordblks + m.hblkhd;
}

/* Shakes hands with a client that is gone afterwards. */
static void shake(struct rig *g, struct intercept *c, SSL_CTX *ctx)
{
	uint8_t room[20000];
	SSL *ssl = SSL_new(ctx);
	struct span out;
	int n;

	SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	(void)SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
	               (void *)(uintptr_t) "api.test");
	SSL_set_connect_state(ssl);
	for (unsigned i = 0; i < 4; i++) {
		(void)SSL_do_handshake(ssl);
		while ((n = BIO_read(SSL_get_wbio(ssl), room, sizeof(room))) > 0) {
			struct span s = span_of(room, (size_t)n);

			intercept_recv(c, g->now_ms, &s);
			CHECK_EQ(s.len, 0);
		}
		while ((out = intercept_output(c, g->now_ms)).len > 0) {
			CHECK_EQ(BIO_write(SSL_get_rbio(ssl), out.at, (int)out.len), out.len);
			intercept_sent(c, g->now_ms, out.len);
		}
	}
	CHECK(SSL_is_init_finished(ssl));
	SSL_free(ssl);
}

static size_t cost(const char *alpn)
{
	static struct intercept *all[CONNECTIONS];
	struct rig *g = rig_new("    - { host: api.test, inspect: true }", "api.test", true, alpn);
	struct intercept_start start = { .flow = g, .tls = true, .name = &g->pin };
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	size_t before;
	size_t after;

	CHECK_EQ(SSL_CTX_set_alpn_protos(ctx, (const uint8_t *)alpn, (unsigned)strlen(alpn)), 0);
	rig_pump(g);
	start.now_ms = g->now_ms;
	start.real_s = g->real_s;
	before = in_use();
	for (unsigned i = 0; i < CONNECTIONS; i++) {
		CHECK_EQ(intercept_new(g->all, &start, &all[i], NULL), 0);
		shake(g, all[i], ctx);
	}
	after = in_use();
	/* what the gate thinks of them is no less than what they cost */
	CHECK(intercepts_stats(g->all)->held_bytes >= after - before);
	CHECK(intercepts_stats(g->all)->held_bytes <= CONNECTIONS * (uint64_t)COUNTED_BYTES_MAX);
	for (unsigned i = 0; i < CONNECTIONS; i++)
		intercept_free(all[i], g->now_ms);
	SSL_CTX_free(ctx);
	rig_free(g);
	return (after - before) / CONNECTIONS;
}

TEST(an_idle_connection_is_small)
{
	size_t one = cost("\x08http/1.1");
	size_t two = cost("\x02h2");

	if (one == 0)
		test_skip("the allocator does not count");
	printf("bytes of an idle connection: HTTP/1 %zu, HTTP/2 %zu\n", one, two);
	CHECK(one <= IDLE1_BYTES_MAX);
	CHECK(two <= IDLE2_BYTES_MAX);
}

TEST_MAIN()
