/* TLS towards an upstream, whose end of it the test plays with OpenSSL. */
#include "vault/tls.h"

#include "test.h"

#include <errno.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>

struct rig {
	SSL_CTX *near_ctx, *far_ctx;
	SSL *far;
	BIO *in, *out; /* the far end's */
	struct tls *tls;
};

static X509 *own_cert(EVP_PKEY *key)
{
	X509 *c = X509_new();
	X509_EXTENSION *alt = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:a.test");

	CHECK(c && alt);
	CHECK(X509_set_version(c, 2) && ASN1_INTEGER_set(X509_get_serialNumber(c), 1) &&
	      X509_gmtime_adj(X509_getm_notBefore(c), -3600) &&
	      X509_gmtime_adj(X509_getm_notAfter(c), 3600) && X509_set_pubkey(c, key) &&
	      X509_add_ext(c, alt, -1) && X509_sign(c, key, EVP_sha256()));
	X509_EXTENSION_free(alt);
	return c;
}

static void receive(struct tls *t, struct span bytes)
{
	uint8_t *to;

	CHECK(tls_room(t, &to) >= bytes.len);
	if (bytes.len > 0)
		memcpy(to, bytes.at, bytes.len);
	tls_came(t, bytes.len);
}

static void move(struct rig *r)
{
	for (int i = 0; i < 8; i++) {
		struct span out = tls_output(r->tls);
		char *at;
		long len;

		if (out.len > 0) {
			CHECK_EQ(BIO_write(r->in, out.at, (int)out.len), (int)out.len);
			tls_sent(r->tls, out.len);
		}
		(void)SSL_do_handshake(r->far);
		len = BIO_get_mem_data(r->out, &at);
		receive(r->tls, span_of(at, (size_t)len));
		(void)BIO_reset(r->out);
		if (tls_handshake(r->tls) == 0 && SSL_is_init_finished(r->far) && len == 0)
			return;
	}
	CHECK(false);
}

static void begin(struct rig *r)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = own_cert(key);
	struct host_name name;
	struct err e = { 0 };

	CHECK_EQ(host_name_parse(span_str("a.test"), &name), 0);
	r->near_ctx = SSL_CTX_new(TLS_client_method());
	r->far_ctx = SSL_CTX_new(TLS_server_method());
	CHECK(r->near_ctx && r->far_ctx);
	CHECK_EQ(SSL_CTX_use_certificate(r->far_ctx, cert), 1);
	CHECK_EQ(SSL_CTX_use_PrivateKey(r->far_ctx, key), 1);
	CHECK_EQ(X509_STORE_add_cert(SSL_CTX_get_cert_store(r->near_ctx), cert), 1);
	SSL_CTX_set_verify(r->near_ctx, SSL_VERIFY_PEER, NULL);
	r->far = SSL_new(r->far_ctx);
	r->in = BIO_new(BIO_s_mem());
	r->out = BIO_new(BIO_s_mem());
	CHECK(r->far && r->in && r->out);
	BIO_set_mem_eof_return(r->in, -1);
	SSL_set_bio(r->far, r->in, r->out);
	SSL_set_accept_state(r->far);
	CHECK_OK(tls_new(r->near_ctx, &name, false, &r->tls, &e), &e);
	move(r);
	X509_free(cert);
	EVP_PKEY_free(key);
}

static void end(struct rig *r)
{
	tls_free(r->tls);
	SSL_free(r->far);
	SSL_CTX_free(r->near_ctx);
	SSL_CTX_free(r->far_ctx);
}

/* What is never all gone does not stay for ever: bytes go at the front while others come. */
TEST(L7_13_what_was_sent_is_forgotten)
{
	static uint8_t piece[40000];
	static uint8_t got[sizeof(piece)];
	struct rig r;
	size_t sum = 0;

	begin(&r);
	for (unsigned i = 0; i < 400; i++) {
		struct span out;
		int n;

		memset(piece, (int)i, sizeof(piece));
		CHECK_EQ(tls_write(r.tls, span_of(piece, sizeof(piece))), (int)sizeof(piece));
		out = tls_output(r.tls);
		CHECK(out.len < 3 * sizeof(piece));
		out.len -= i < 399 ? 1000 : 0;
		CHECK_EQ(BIO_write(r.in, out.at, (int)out.len), (int)out.len);
		tls_sent(r.tls, out.len);
		while ((n = SSL_read(r.far, got, sizeof(got))) > 0) {
			for (int k = 0; k < n; k++)
				CHECK_EQ(got[k], (uint8_t)((sum + (size_t)k) / sizeof(piece)));
			sum += (size_t)n;
		}
	}
	CHECK_EQ(sum, 400 * sizeof(piece));
	end(&r);
}

/* Each wants an answer, and none is read. */
TEST(what_comes_is_taken_in_any_pieces)
{
	static const size_t pieces[] = { 1, 4, 5, 6, 1000, 16401, TLS_IN_BYTES };
	static uint8_t sent[300000], got[sizeof(sent)];
	struct rig r;

	begin(&r);
	for (size_t i = 0; i < sizeof(sent); i++)
		sent[i] = (uint8_t)(i * 7 + i / 251);
	for (size_t p = 0; p < sizeof(pieces) / sizeof(pieces[0]); p++) {
		size_t len = pieces[p] < 1000 ? 40000 : sizeof(sent);
		size_t have = 0;
		struct span left;
		char *at;

		CHECK_EQ(SSL_write(r.far, sent, (int)len), (int)len);
		left = span_of(NULL, (size_t)BIO_get_mem_data(r.out, &at));
		left.at = (const uint8_t *)at;
		while (left.len > 0) {
			size_t most = left.len < pieces[p] ? left.len : pieces[p];
			uint8_t *to;
			size_t room = tls_room(r.tls, &to);
			int n;

			most = most < room ? most : room;
			receive(r.tls, span_of(left.at, most));
			left = span_of(left.at + most, left.len - most);
			/* not all that is there, at times: the next piece comes behind the rest */
			for (int i = 0; have < len && (i < 3 || tls_room(r.tls, &to) == 0); i++) {
				n = tls_read(r.tls, got + have, len - have);
				CHECK(n > 0 || n == -EAGAIN);
				if (n < 0)
					break;
				have += (size_t)n;
			}
		}
		while (have < len) {
			int n = tls_read(r.tls, got + have, len - have);

			CHECK(n > 0);
			have += (size_t)n;
		}
		CHECK(memcmp(sent, got, len) == 0);
		(void)BIO_reset(r.out);
	}
	end(&r);
}

TEST(key_updates_without_end)
{
	struct rig r;
	size_t most = 0;
	int n = -EAGAIN;

	begin(&r);
	for (unsigned i = 0; i < 40000 && n == -EAGAIN; i++) {
		uint8_t byte;
		char *at;
		long len;

		CHECK_EQ(SSL_key_update(r.far, SSL_KEY_UPDATE_REQUESTED), 1);
		CHECK_EQ(SSL_do_handshake(r.far), 1);
		len = BIO_get_mem_data(r.out, &at);
		receive(r.tls, span_of(at, (size_t)len));
		(void)BIO_reset(r.out);
		n = tls_read(r.tls, &byte, 1);
		if (tls_output(r.tls).len > most)
			most = tls_output(r.tls).len;
	}
	CHECK_EQ(n, -EPROTO);
	CHECK(most > TLS_OUT_MAX && most < TLS_OUT_MAX + 1000);
	end(&r);
}

TEST_MAIN()
