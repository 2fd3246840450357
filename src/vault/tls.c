#include "vault/tls.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>

enum { SENT_AT_ONCE = 16 << 10 };

struct tls {
	SSL *ssl;
	BIO *in, *out;      /* the ssl's */
	size_t chain_bytes; /* of the server's certificates, as they were sent */
};

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
	struct tls *t = calloc(1, sizeof(*t));

	if (!t)
		return err_set(e, -ENOMEM, "out of memory");
	t->ssl = SSL_new(context);
	t->in = BIO_new(BIO_s_mem());
	t->out = BIO_new(BIO_s_mem());
	if (!t->ssl || !t->in || !t->out) {
		BIO_free(t->in);
		BIO_free(t->out);
		SSL_free(t->ssl);
		free(t);
		return err_set(e, -ENOMEM, "out of memory");
	}
	(void)BIO_set_mem_eof_return(t->in, -1);
	SSL_set_bio(t->ssl, t->in, t->out);
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
	free(t);
}

int tls_feed(struct tls *t, struct span bytes)
{
	if (bytes.len == 0)
		return 0;
	return BIO_write(t->in, bytes.at, (int)bytes.len) == (int)bytes.len ? 0 : -ENOMEM;
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
	return TLS_SESSION_BYTES + TLS_CHAIN_GROWTH * t->chain_bytes + size_of(t->in) +
	       size_of(t->out);
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
