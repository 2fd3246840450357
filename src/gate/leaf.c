#include "gate/leaf.h"

#include "gate/ca_inner.h"

#include <errno.h>
#include <openssl/x509v3.h>
#include <string.h>

enum { COMMON_NAME_MAX = 64, X509_V3 = 2 }; /* ub-common-name: a longer name is in the SAN alone */

struct leaf {
	X509 *cert; /* NULL: the slot is free */
	uint64_t made_s;
	uint64_t used; /* the count of leaf_get() when it was last asked for */
	struct host_name name;
};

struct leaf_cache {
	const struct ca *ca;
	uint64_t uses, minted;
	struct leaf leaves[LEAF_CACHE_MAX];
};

int leaf_cache_new(const struct ca *ca, struct leaf_cache **ret, struct err *e)
{
	struct leaf_cache *lc = calloc(1, sizeof(*lc));

	if (!lc)
		return err_set(e, -ENOMEM, "out of memory");
	lc->ca = ca;
	*ret = lc;
	return 0;
}

void leaf_cache_free(struct leaf_cache *lc)
{
	if (!lc)
		return;
	for (unsigned i = 0; i < LEAF_CACHE_MAX; i++)
		X509_free(lc->leaves[i].cert);
	free(lc);
}

static bool add_san(X509 *cert, const struct host_name *name)
{
	GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
	GENERAL_NAME *one = GENERAL_NAME_new();
	ASN1_IA5STRING *text = ASN1_IA5STRING_new();
	bool ok = names && one && text && ASN1_STRING_set(text, name->at, name->len);

	if (ok) {
		GENERAL_NAME_set0_value(one, GEN_DNS, text);
		text = NULL;
		ok = sk_GENERAL_NAME_push(names, one) > 0;
	}
	if (ok) {
		one = NULL;
		ok = X509_add1_ext_i2d(cert, NID_subject_alt_name, names, 0, X509V3_ADD_APPEND) ==
		     1;
	}
	ASN1_IA5STRING_free(text);
	GENERAL_NAME_free(one);
	sk_GENERAL_NAME_pop_free(names, GENERAL_NAME_free);
	return ok;
}

static bool add_subject(X509 *cert, const struct host_name *name)
{
	X509_NAME *subject = X509_get_subject_name(cert);

	return ca_add_name(subject, "O", span_str("berm")) &&
	       (name->len > COMMON_NAME_MAX || ca_add_name(subject, "CN", host_span(name)));
}

static bool fill(X509 *cert, const struct ca *ca, const struct host_name *name, uint64_t real_s)
{
	return X509_set_version(cert, X509_V3) && ca_set_serial(cert) &&
	       ca_set_times(cert, real_s, LEAF_LIFE_S) && add_subject(cert, name) &&
	       X509_set_issuer_name(cert, X509_get_subject_name(ca->cert)) &&
	       X509_set_pubkey(cert, ca->leaf_key) &&
	       ca_add_extension(cert, ca->cert, NID_basic_constraints, "critical,CA:FALSE") &&
	       ca_add_extension(cert, ca->cert, NID_key_usage, "critical,digitalSignature") &&
	       ca_add_extension(cert, ca->cert, NID_ext_key_usage, "serverAuth") &&
	       ca_add_extension(cert, ca->cert, NID_subject_key_identifier, "hash") &&
	       ca_add_extension(cert, ca->cert, NID_authority_key_identifier, "keyid:always") &&
	       add_san(cert, name) && X509_sign(cert, ca->key, EVP_sha256()) > 0;
}

/* The one of that name; else a free slot; else the one that was not asked for longest. */
static struct leaf *pick(struct leaf_cache *lc, const struct host_name *name)
{
	struct leaf *best = &lc->leaves[0];

	for (unsigned i = 0; i < LEAF_CACHE_MAX; i++) {
		struct leaf *l = &lc->leaves[i];

		if (l->cert && span_equal(host_span(&l->name), host_span(name)))
			return l;
		if (l->used < best->used)
			best = l;
	}
	return best;
}

/* A clock that went back, as after a restored host, makes a new one too. */
static bool is_good(const struct leaf *l, const struct host_name *name, uint64_t real_s)
{
	return l->cert && span_equal(host_span(&l->name), host_span(name)) && real_s >= l->made_s &&
	       real_s - l->made_s < LEAF_RENEW_S;
}

int leaf_get(struct leaf_cache *lc, const struct host_name *name, uint64_t real_s, X509 **ret,
             struct err *e)
{
	struct leaf *l = pick(lc, name);
	X509 *cert;

	if (!is_good(l, name, real_s)) {
		cert = X509_new();
		if (!cert || !fill(cert, lc->ca, name, real_s)) {
			X509_free(cert);
			return ca_openssl_error(e, "a certificate for a host");
		}
		X509_free(l->cert);
		l->cert = cert;
		l->name = *name;
		l->made_s = real_s;
		lc->minted++;
	}
	l->used = ++lc->uses;
	*ret = l->cert;
	return 0;
}

uint64_t leaf_minted(const struct leaf_cache *lc)
{
	return lc->minted;
}
