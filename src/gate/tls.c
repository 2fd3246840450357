#include "gate/tls.h"

#include "gate/ca_inner.h"
#include "gate/leaf.h"

#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>

/*
 * Theory of operation
 *
 * OpenSSL reads and writes through a BIO of ours: it takes from the span that the caller gave to
 * tls_read(), so nothing lies in between, and puts into one buffer that exists while there is
 * something in it. A full buffer makes OpenSSL wait, so no peer can make it grow, whatever it asks
 * to be answered.
 *
 * There is no resumption: a session would have to be bound to a name, kept, and forgotten. A full
 * handshake costs one signature on a curve that is fast.
 */

enum {
	TLS_OUT_SMALL = 4096,         /* a handshake's answer, a refusal */
	TLS_SESSION_BYTES = 32 << 10, /* OpenSSL's own, with a record half read */
};

struct tls_world {
	SSL_CTX *ctx;
	BIO_METHOD *method;
	struct leaf_cache *leaves;
	struct ca *ca;
};

struct tls {
	SSL *ssl;
	struct span *in; /* during tls_read() */
	uint8_t *out;
	size_t out_at, out_len, out_size;
	bool open, http2, closed, failed;
	const char *why;
	struct host_name name;
};

/* --- the BIO --- */

static int bio_read(BIO *bio, char *to, size_t len, size_t *ret)
{
	struct tls *t = BIO_get_data(bio);
	size_t n = t->in ? t->in->len : 0;

	BIO_clear_retry_flags(bio);
	n = n < len ? n : len;
	if (n == 0) {
		BIO_set_retry_read(bio);
		return 0;
	}
	memcpy(to, t->in->at, n);
	*t->in = span_of(t->in->at + n, t->in->len - n);
	*ret = n;
	return 1;
}

static bool have_room(struct tls *t, size_t more)
{
	size_t size = TLS_OUT_SMALL;
	uint8_t *at;

	if (t->out_at > 0) {
		memmove(t->out, t->out + t->out_at, t->out_len);
		t->out_at = 0;
	}
	if (more > TLS_OUT_MAX - t->out_len)
		return false;
	if (t->out_len + more > size)
		size = TLS_OUT_MAX;
	if (size <= t->out_size)
		return true;
	at = realloc(t->out, size);
	if (!at)
		return false;
	t->out = at;
	t->out_size = size;
	return true;
}

static int bio_write(BIO *bio, const char *from, size_t len, size_t *ret)
{
	struct tls *t = BIO_get_data(bio);

	BIO_clear_retry_flags(bio);
	if (t->out_size - t->out_at - t->out_len < len && !have_room(t, len)) {
		BIO_set_retry_write(bio);
		return 0;
	}
	memcpy(t->out + t->out_at + t->out_len, from, len);
	t->out_len += len;
	*ret = len;
	return 1;
}

static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
	(void)bio;
	(void)num;
	(void)ptr;
	return cmd == BIO_CTRL_FLUSH ? 1 : 0;
}

static int bio_create(BIO *bio)
{
	BIO_set_init(bio, 1);
	return 1;
}

static BIO_METHOD *make_method(void)
{
	BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "berm");

	if (m && BIO_meth_set_read_ex(m, bio_read) && BIO_meth_set_write_ex(m, bio_write) &&
	    BIO_meth_set_ctrl(m, bio_ctrl) && BIO_meth_set_create(m, bio_create))
		return m;
	BIO_meth_free(m);
	return NULL;
}

/* --- what all ends share --- */

/* The server chooses: HTTP/2 if it is offered. Another protocol is none of ours. */
static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                       const unsigned char *in, unsigned int in_len, void *arg)
{
	static const unsigned char ours[] = "\x02h2\x08http/1.1";
	unsigned char *found;

	(void)ssl;
	(void)arg;
	if (SSL_select_next_proto(&found, out_len, ours, sizeof(ours) - 1, in, in_len) !=
	    OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = found;
	return SSL_TLSEXT_ERR_OK;
}

/* OpenSSL reads the hello again; should it find another name than we did, nothing is served. */
static int check_name(SSL *ssl, int *alert, void *arg)
{
	const struct tls *t = SSL_get_app_data(ssl);
	const char *text = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	struct host_name name;

	(void)arg;
	if (text && host_name_parse(span_str(text), &name) == 0 &&
	    span_equal(host_span(&name), host_span(&t->name)))
		return SSL_TLSEXT_ERR_OK;
	*alert = SSL_AD_UNRECOGNIZED_NAME;
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static bool set_up(SSL_CTX *ctx)
{
	static const char ciphers[] = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
				      "ECDHE-ECDSA-CHACHA20-POLY1305";

	/* a gigabyte costs a sixth less with the shorter key, and it never leaves this machine */
	static const char suites[] = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
				     "TLS_CHACHA20_POLY1305_SHA256";

	(void)SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA |
	                                       SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET |
	                                       SSL_OP_NO_COMPRESSION);
	(void)SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
	                                    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	(void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_alpn_select_cb(ctx, select_alpn, NULL);
	SSL_CTX_set_tlsext_servername_callback(ctx, check_name);
	return SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) &&
	       SSL_CTX_set_cipher_list(ctx, ciphers) && SSL_CTX_set_ciphersuites(ctx, suites) &&
	       SSL_CTX_set_num_tickets(ctx, 0) && SSL_CTX_set_max_early_data(ctx, 0);
}

int tls_world_new(struct ca *ca, struct tls_world **ret, struct err *e)
{
	_own_(tls_world_free) struct tls_world *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return err_set(e, -ENOMEM, "out of memory");
	w->ca = ca;
	w->method = make_method();
	w->ctx = SSL_CTX_new(TLS_server_method());
	if (!w->method || !w->ctx || !set_up(w->ctx))
		return ca_openssl_error(e, "TLS towards the guest");
	r = leaf_cache_new(ca, &w->leaves, e);
	if (r < 0)
		return r;
	*ret = steal_ptr(&w);
	return 0;
}

void tls_world_free(struct tls_world *w)
{
	if (!w)
		return;
	leaf_cache_free(w->leaves);
	SSL_CTX_free(w->ctx);
	BIO_meth_free(w->method);
	free(w);
}

uint64_t tls_world_minted(const struct tls_world *w)
{
	return leaf_minted(w->leaves);
}

/* --- one end --- */

static bool make_ssl(struct tls_world *w, struct tls *t, X509 *leaf)
{
	BIO *bio;

	t->ssl = SSL_new(w->ctx);
	if (!t->ssl || !SSL_set_app_data(t->ssl, t) || SSL_use_certificate(t->ssl, leaf) != 1 ||
	    SSL_use_PrivateKey(t->ssl, w->ca->leaf_key) != 1)
		return false;
	bio = BIO_new(w->method);
	if (!bio)
		return false;
	BIO_set_data(bio, t);
	SSL_set_bio(t->ssl, bio, bio);
	SSL_set_accept_state(t->ssl);
	return true;
}

int tls_new(struct tls_world *w, const struct host_name *name, uint64_t real_s, struct tls **ret,
            struct err *e)
{
	_own_(tls_free) struct tls *t = calloc(1, sizeof(*t));
	X509 *leaf;
	int r;

	if (!t)
		return err_set(e, -ENOMEM, "out of memory");
	r = leaf_get(w->leaves, name, real_s, &leaf, e);
	if (r < 0)
		return r;
	t->name = *name;
	t->why = "nothing failed";
	if (!make_ssl(w, t, leaf))
		return ca_openssl_error(e, "TLS towards the guest");
	*ret = steal_ptr(&t);
	return 0;
}

void tls_free(struct tls *t)
{
	if (!t)
		return;
	SSL_free(t->ssl);
	if (t->out)
		free(t->out);
	free(t);
}

size_t tls_bytes(const struct tls *t)
{
	return sizeof(*t) + TLS_SESSION_BYTES + t->out_size;
}

bool tls_is_open(const struct tls *t)
{
	return t->open;
}

bool tls_is_http2(const struct tls *t)
{
	return t->http2;
}

const char *tls_why(const struct tls *t)
{
	return t->why;
}

static enum tls_read fail(struct tls *t)
{
	const char *why = ERR_reason_error_string(ERR_peek_error());

	ERR_clear_error();
	t->failed = true;
	t->why = why ? why : "failed";
	return TLS_FAILED;
}

static enum tls_read judge(struct tls *t, int r)
{
	switch (SSL_get_error(t->ssl, r)) {
	case SSL_ERROR_WANT_READ:
		return TLS_MORE;
	case SSL_ERROR_WANT_WRITE:
		return TLS_FULL;
	case SSL_ERROR_ZERO_RETURN:
		return TLS_CLOSED;
	default:
		return fail(t);
	}
}

static void note_open(struct tls *t)
{
	const unsigned char *alpn;
	unsigned len;

	SSL_get0_alpn_selected(t->ssl, &alpn, &len);
	t->open = true;
	t->http2 = len == 2 && memcmp(alpn, "h2", 2) == 0;
}

enum tls_read tls_read(struct tls *t, struct span *in, uint8_t *to, size_t *ret_len)
{
	enum tls_read got = TLS_BYTES;
	int r;

	if (t->failed)
		return TLS_FAILED;
	ERR_clear_error();
	t->in = in;
	if (!t->open) {
		r = SSL_do_handshake(t->ssl);
		if (r == 1)
			note_open(t);
		else
			got = judge(t, r);
	}
	if (got == TLS_BYTES) {
		r = SSL_read_ex(t->ssl, to, TLS_RECORD_MAX, ret_len);
		if (r != 1)
			got = judge(t, r);
	}
	t->in = NULL;
	return got;
}

size_t tls_write(struct tls *t, struct span plain)
{
	size_t len = plain.len < TLS_RECORD_MAX ? plain.len : TLS_RECORD_MAX;
	size_t n = 0;
	int r;

	if (t->failed || !t->open || t->closed || len == 0 ||
	    TLS_OUT_MAX - t->out_len < TLS_RECORD_ROOM)
		return 0;
	ERR_clear_error();
	r = SSL_write_ex(t->ssl, plain.at, len, &n);
	if (r != 1) {
		if (judge(t, r) == TLS_FAILED)
			t->failed = true;
		n = 0;
	}
	return n;
}

void tls_close(struct tls *t)
{
	if (t->open && !t->closed && !t->failed)
		(void)SSL_shutdown(t->ssl);
	t->closed = true;
	ERR_clear_error();
}

struct span tls_output(const struct tls *t)
{
	return t->out_len > 0 ? span_of(t->out + t->out_at, t->out_len) : span_of(NULL, 0);
}

void tls_sent(struct tls *t, size_t n)
{
	assert(n <= t->out_len);
	t->out_at += n;
	t->out_len -= n;
	if (t->out_len > 0)
		return;
	free(t->out);
	t->out = NULL;
	t->out_at = t->out_size = 0;
}
