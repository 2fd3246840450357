/* ca_inner: the authority as leaf.c and tls.c see it, and the pieces of a certificate. */
#pragma once

#include "gate/ca.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdbool.h>

struct ca {
	EVP_PKEY *key;
	EVP_PKEY *leaf_key; /* of every leaf */
	X509 *cert;
	uint32_t name_hash;
	size_t pem_len;
	uint8_t pem[CA_PEM_MAX];
};

/* Makes an err of OpenSSL's last one, and forgets all of them. Returns -EIO or -ENOMEM. */
int ca_openssl_error(struct err *e, const char *what);

/* Each false: OpenSSL failed. */
_must_ bool ca_set_serial(X509 *cert); /* random, positive */
/* From CA_BACK_S before real_s on, for life_s. */
_must_ bool ca_set_times(X509 *cert, uint64_t real_s, uint64_t life_s);
/* value: a constant of ours, in OpenSSL's words */
_must_ bool ca_add_extension(X509 *cert, X509 *issuer, int nid, const char *value);
_must_ bool ca_add_name(X509_NAME *name, const char *field, struct span text);
