#include "vault/roots.h"

#include "base/fdio.h"
#include "vault/limits.h"
#include "vault/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <string.h>

enum { ROOTS_ADDED_MAX = 16 };

struct text {
	char *at;
	size_t len;
};

struct roots {
	SSL_CTX *context; /* NULL: to be made */
	struct text host;
	unsigned added_count;
	struct text added[ROOTS_ADDED_MAX];
};

int roots_new(const char *path, struct roots **ret, struct err *e)
{
	_own_(roots_free) struct roots *r = calloc(1, sizeof(*r));
	int got;

	if (!r)
		return err_set(e, -ENOMEM, "out of memory");
	got = fd_read_file(AT_FDCWD, path, VAULT_ROOTS_MAX, &r->host.at, &r->host.len, e);
	if (got == -ENOENT)
		err_clear(e);
	else if (got < 0)
		return err_wrap(e, "the host's root certificates");
	*ret = steal_ptr(&r);
	return 0;
}

void roots_free(struct roots *r)
{
	if (!r)
		return;
	SSL_CTX_free(r->context);
	free(r->host.at);
	for (unsigned i = 0; i < r->added_count; i++)
		free(r->added[i].at);
	free(r);
}

/* store may be NULL: then they are only read. Returns how many there are, or -EINVAL. */
static int read_all(const struct text *t, X509_STORE *store, bool strict)
{
	BIO *bio = BIO_new_mem_buf(t->at, (int)t->len);
	int count = 0;
	bool bad = false;

	if (!bio)
		return -ENOMEM;
	for (;;) {
		X509 *one = PEM_read_bio_X509(bio, NULL, NULL, NULL);

		if (!one) {
			unsigned long why = ERR_peek_last_error();

			bad = ERR_GET_REASON(why) != PEM_R_NO_START_LINE;
			break;
		}
		if (store)
			(void)X509_STORE_add_cert(store, one); /* one that is there is no fault */
		X509_free(one);
		count++;
	}
	ERR_clear_error();
	BIO_free(bio);
	return bad && strict ? -EINVAL : count;
}

int roots_add(struct roots *r, struct span pem, struct err *e)
{
	struct text t = { .len = pem.len };
	int count;

	if (r->added_count == ROOTS_ADDED_MAX)
		return err_set(e, -ENOSPC, "more than %d files of roots", ROOTS_ADDED_MAX);
	t.at = malloc(pem.len + 1);
	if (!t.at)
		return err_set(e, -ENOMEM, "out of memory");
	memcpy(t.at, pem.at, pem.len);
	count = read_all(&t, NULL, true);
	if (count <= 0) {
		free(t.at);
		return err_set(e, -EINVAL,
		               count < 0 ? "a root certificate is damaged"
		                         : "there is no certificate in it (PEM)");
	}
	r->added[r->added_count++] = t;
	SSL_CTX_free(r->context);
	r->context = NULL;
	return 0;
}

static bool set_up(SSL_CTX *c)
{
	if (SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION) != 1)
		return false;
	SSL_CTX_set_verify(c, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_max_cert_list(c, TLS_CHAIN_MAX);
	(void)SSL_CTX_set_mode(c, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
	                                  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	(void)SSL_CTX_set_options(c, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	/* no tickets kept: what a server may know of two connections is that they are two */
	(void)SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
	return true;
}

int roots_context(struct roots *r, SSL_CTX **ret, struct err *e)
{
	SSL_CTX *c;

	if (!r->context) {
		c = SSL_CTX_new(TLS_client_method());
		if (!c || !set_up(c)) {
			SSL_CTX_free(c);
			return err_set(e, -ENOMEM, "TLS cannot be set up");
		}
		if (r->host.len > 0)
			(void)read_all(&r->host, SSL_CTX_get_cert_store(c), false);
		for (unsigned i = 0; i < r->added_count; i++)
			(void)read_all(&r->added[i], SSL_CTX_get_cert_store(c), false);
		r->context = c;
	}
	*ret = r->context;
	return 0;
}
