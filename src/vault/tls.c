#include "vault/tls.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stddef.h>
#include <string.h>

/*
 * Theory of operation
 *
 * What comes lies where the caller received it, and OpenSSL takes it from there, through a BIO of
 * ours: a memory BIO would copy it twice, and clear its room before. What goes is little, and a
 * memory BIO holds it.
 */

enum { SENT_AT_ONCE = 16 << 10 };

struct tls {
	SSL *ssl;
	BIO_METHOD *method;
	BIO *out;           /* the ssl's */
	size_t chain_bytes; /* of the server's certificates, as they were sent */
	size_t in_at, in_len;
	size_t in_used;           /* of in, at any time */
	uint8_t in[TLS_IN_BYTES]; /* last: pages that nothing touches stay away */
};

static int bio_read(BIO *bio, char *to, size_t len, size_t *ret)
{
	struct tls *t = BIO_get_data(bio);
	size_t n = t->in_len < len ? t->in_len : len;

	BIO_clear_retry_flags(bio);
	if (n == 0) {
		BIO_set_retry_read(bio);
		return 0;
	}
	memcpy(to, t->in + t->in_at, n);
	t->in_at += n;
	t->in_len -= n;
	*ret = n;
	return 1;
}

static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
	(void)bio;
	(void)num;
	(void)ptr;
	return cmd == BIO_CTRL_FLUSH ? 1 : 0;
}

/* Its method is the connection's own, so that nothing is shared by all. */
static BIO *make_input(struct tls *t)
{
	BIO *bio;

	t->method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "berm");
	if (!t->method || !BIO_meth_set_read_ex(t->method, bio_read) ||
	    !BIO_meth_set_ctrl(t->method, bio_ctrl))
		return NULL;
	bio = BIO_new(t->method);
	if (!bio)
		return NULL;
	BIO_set_data(bio, t);
	BIO_set_init(bio, 1);
	return bio;
}

static bool set_name(SSL *ssl, const struct host_name *name)
{
	char text[POLICY_NAME_MAX + 1];

	memcpy(text, name->at, name->len);
	text[name->len] = 0;
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return SSL_set_tlsext_host_name(ssl, text) == 1 && SSL_set1_host(ssl, text) == 1;
}

static bool set_alpn(SSL *ssl, bool h2)
{
	static const unsigned char both[] = "\x02h2\x08http/1.1";
	const unsigned char *words = h2 ? both : both + 3;

	return SSL_set_alpn_protos(ssl, words, (unsigned)(sizeof(both) - 1 - (h2 ? 0 : 3))) == 0;
}

int tls_new(SSL_CTX *context, const struct host_name *name, bool h2, struct tls **ret,
            struct err *e)
{
	struct tls *t = malloc(sizeof(*t));
	BIO *in;

	if (!t)
		return err_set(e, -ENOMEM, "out of memory");
	memset(t, 0, offsetof(struct tls, in));
	t->ssl = SSL_new(context);
	in = make_input(t);
	t->out = BIO_new(BIO_s_mem());
	if (!t->ssl || !in || !t->out) {
		BIO_free(in);
		BIO_free(t->out);
		tls_free(t);
		return err_set(e, -ENOMEM, "out of memory");
	}
	SSL_set_bio(t->ssl, in, t->out);
	SSL_set_connect_state(t->ssl);
	if (!set_name(t->ssl, name) || !set_alpn(t->ssl, h2)) {
		tls_free(t);
		return err_set(e, -ENOMEM, "out of memory");
	}
	*ret = t;
	return 0;
}

void tls_free(struct tls *t)
{
	if (!t)
		return;
	SSL_free(t->ssl);
	BIO_meth_free(t->method);
	free(t);
}

size_t tls_room(struct tls *t, uint8_t **ret_at)
{
	if (t->in_at > 0) {
		memmove(t->in, t->in + t->in_at, t->in_len);
		t->in_at = 0;
	}
	*ret_at = t->in + t->in_len;
	return sizeof(t->in) - t->in_len;
}

void tls_came(struct tls *t, size_t n)
{
	assert(n <= sizeof(t->in) - t->in_at - t->in_len);
	t->in_len += n;
	if (t->in_at + t->in_len > t->in_used)
		t->in_used = t->in_at + t->in_len;
}

static bool waits(const struct tls *t, int r)
{
	int why = SSL_get_error(t->ssl, r);

	return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE;
}

static void note_chain(struct tls *t)
{
	STACK_OF(X509) *chain = SSL_get_peer_cert_chain(t->ssl);

	for (int i = 0; i < sk_X509_num(chain); i++) {
		int len = i2d_X509(sk_X509_value(chain, i), NULL);

		t->chain_bytes += len > 0 ? (size_t)len : 0;
	}
}

static size_t size_of(BIO *bio)
{
	BUF_MEM *mem = NULL;

	return BIO_get_mem_ptr(bio, &mem) == 1 && mem ? mem->max : 0;
}

size_t tls_bytes(const struct tls *t)
{
	return TLS_SESSION_BYTES + TLS_CHAIN_GROWTH * t->chain_bytes + t->in_used + size_of(t->out);
}

int tls_handshake(struct tls *t)
{
	int r;

	ERR_clear_error();
	r = SSL_do_handshake(t->ssl);
	if (r == 1) {
		note_chain(t);
		return 0;
	}
	if (waits(t, r))
		return -EAGAIN;
	ERR_clear_error();
	return SSL_get_verify_result(t->ssl) != X509_V_OK ? -EKEYREJECTED : -EPROTO;
}

bool tls_is_h2(const struct tls *t)
{
	const unsigned char *word;
	unsigned len;

	SSL_get0_alpn_selected(t->ssl, &word, &len);
	return len == 2 && memcmp(word, "h2", 2) == 0;
}

long tls_fault(const struct tls *t, const char **ret_words)
{
	long fault = SSL_get_verify_result(t->ssl);

	*ret_words = X509_verify_cert_error_string(fault);
	return fault;
}

int tls_read(struct tls *t, void *ret, size_t size)
{
	int r;

	ERR_clear_error();
	r = SSL_read(t->ssl, ret, size < INT_MAX ? (int)size : INT_MAX);
	if (tls_output(t).len > TLS_OUT_MAX)
		return -EPROTO;
	if (r > 0)
		return r;
	if (waits(t, r))
		return -EAGAIN;
	r = SSL_get_error(t->ssl, r) == SSL_ERROR_ZERO_RETURN ? 0 : -EPROTO;
	ERR_clear_error();
	return r;
}

int tls_write(struct tls *t, struct span bytes)
{
	int r;

	if (bytes.len == 0)
		return 0;
	ERR_clear_error();
	r = SSL_write(t->ssl, bytes.at, bytes.len < INT_MAX ? (int)bytes.len : INT_MAX);
	if (r > 0)
		return r;
	if (waits(t, r))
		return 0; /* a key update of the peer's first */
	ERR_clear_error();
	return -EPROTO;
}

void tls_close(struct tls *t)
{
	if (!SSL_in_init(t->ssl))
		(void)SSL_shutdown(t->ssl);
	ERR_clear_error();
}

struct span tls_output(struct tls *t)
{
	char *at;
	long len = BIO_get_mem_data(t->out, &at);

	return span_of(at, (size_t)len);
}

/* Reading is what makes room in it again: else it holds all since it was empty last. */
void tls_sent(struct tls *t, size_t n)
{
	char gone[SENT_AT_ONCE];

	while (n > 0) {
		size_t part = n < sizeof(gone) ? n : sizeof(gone);

		if (BIO_read(t->out, gone, (int)part) != (int)part)
			return; /* cannot be: so much was there */
		n -= part;
	}
}
