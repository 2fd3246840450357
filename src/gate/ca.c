#include "gate/ca_inner.h"

#include "base/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

enum { SERIAL_BYTES = 16, X509_V3 = 2 };

int ca_openssl_error(struct err *e, const char *what)
{
	unsigned long code = ERR_peek_last_error();
	const char *reason = ERR_reason_error_string(code);

	ERR_clear_error();
	return err_set(e, ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE ? -ENOMEM : -EIO, "%s: %s",
	               what, reason ? reason : "failed");
}

bool ca_set_serial(X509 *cert)
{
	uint8_t bytes[SERIAL_BYTES];
	BIGNUM *n;
	bool ok;

	random_bytes(bytes, sizeof(bytes));
	bytes[0] = (uint8_t)((bytes[0] & 0x7f) | 0x40); /* positive, and always of one length */
	n = BN_bin2bn(bytes, sizeof(bytes), NULL);
	ok = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(cert));
	BN_free(n);
	return ok;
}

bool ca_set_times(X509 *cert, uint64_t real_s, uint64_t life_s)
{
	uint64_t from = real_s > CA_BACK_S ? real_s - CA_BACK_S : 0;

	return ASN1_TIME_set(X509_getm_notBefore(cert), (time_t)from) &&
	       ASN1_TIME_set(X509_getm_notAfter(cert), (time_t)(from + life_s));
}

bool ca_add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509_EXTENSION *ext;
	X509V3_CTX ctx;
	bool ok;

	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	ok = ext && X509_add_ext(cert, ext, -1);
	X509_EXTENSION_free(ext);
	return ok;
}

bool ca_add_name(X509_NAME *name, const char *field, struct span text)
{
	return X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8, text.at, (int)text.len, -1,
	                                  0);
}

/*
 * Two authorities with one name and two keys confuse verifiers. Such meet in a copy alone, whose
 * processes remember the one before; all others have one name, which their templates know.
 */
static bool set_subject(struct ca *ca, bool copy)
{
	char common[64] = "berm sandbox authority";
	uint32_t id;
	X509_NAME *name = X509_get_subject_name(ca->cert);

	if (copy) {
		random_bytes(&id, sizeof(id));
		(void)snprintf(common, sizeof(common), "berm sandbox authority %08" PRIx32, id);
	}
	return ca_add_name(name, "O", span_str("berm")) &&
	       ca_add_name(name, "CN", span_str(common)) && X509_set_issuer_name(ca->cert, name);
}

static bool make_cert(struct ca *ca, uint64_t real_s, bool copy)
{
	ca->cert = X509_new();
	return ca->cert && X509_set_version(ca->cert, X509_V3) && ca_set_serial(ca->cert) &&
	       ca_set_times(ca->cert, real_s, CA_LIFE_S) && set_subject(ca, copy) &&
	       X509_set_pubkey(ca->cert, ca->key) &&
	       ca_add_extension(ca->cert, ca->cert, NID_basic_constraints,
	                        "critical,CA:TRUE,pathlen:0") &&
	       ca_add_extension(ca->cert, ca->cert, NID_key_usage,
	                        "critical,keyCertSign,cRLSign") &&
	       ca_add_extension(ca->cert, ca->cert, NID_subject_key_identifier, "hash") &&
	       X509_sign(ca->cert, ca->key, EVP_sha256()) > 0;
}

static bool make_pem(struct ca *ca)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *at = NULL;
	long len = 0;
	bool ok;

	if (bio && PEM_write_bio_X509(bio, ca->cert))
		len = BIO_get_mem_data(bio, &at);
	ok = len > 0 && (size_t)len <= sizeof(ca->pem);
	if (ok) {
		memcpy(ca->pem, at, (size_t)len);
		ca->pem_len = (size_t)len;
	}
	BIO_free(bio);
	return ok;
}

static bool make_hash(struct ca *ca)
{
	int ok = 0;

	ca->name_hash =
		(uint32_t)X509_NAME_hash_ex(X509_get_subject_name(ca->cert), NULL, NULL, &ok);
	return ok == 1;
}

int ca_new(uint64_t real_s, bool copy, struct ca **ret, struct err *e)
{
	_own_(ca_free) struct ca *ca = calloc(1, sizeof(*ca));

	if (!ca)
		return err_set(e, -ENOMEM, "out of memory");
	if (!OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL))
		return ca_openssl_error(e, "OpenSSL");
	ca->key = EVP_EC_gen("P-256");
	ca->leaf_key = EVP_EC_gen("P-256");
	if (!ca->key || !ca->leaf_key)
		return ca_openssl_error(e, "a key for the sandbox's authority");
	if (!make_cert(ca, real_s, copy) || !make_pem(ca) || !make_hash(ca))
		return ca_openssl_error(e, "the certificate of the sandbox's authority");
	*ret = steal_ptr(&ca);
	return 0;
}

void ca_free(struct ca *ca)
{
	if (!ca)
		return;
	X509_free(ca->cert);
	EVP_PKEY_free(ca->leaf_key);
	EVP_PKEY_free(ca->key);
	free(ca);
}

struct span ca_pem(const struct ca *ca)
{
	return span_of(ca->pem, ca->pem_len);
}

uint32_t ca_name_hash(const struct ca *ca)
{
	return ca->name_hash;
}
