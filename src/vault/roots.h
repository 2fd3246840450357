/*
 * roots: whom upstream certificates are verified against: the host's roots and those that were
 * added. There is no way to verify nothing.
 *
 * Files     the host's roots are read by roots_new(), before the jail closes. Their bytes are
 *           parsed when the first TLS connection is made: a sandbox that reads no request pays for
 *           no certificate
 */
#pragma once

#include "base/err.h"
#include "base/span.h"

#include <openssl/ssl.h>

struct roots;

/* path: PEM; a host without that file trusts only what is added. */
_must_ int roots_new(const char *path, struct roots **ret, struct err *e);
void roots_free(struct roots *r);
OWN_DEFINE(struct roots, roots_free)

/* Trusts these as well from now on. -EINVAL: no certificate in it, or one that is damaged. */
_must_ int roots_add(struct roots *r, struct span pem, struct err *e);

/* What a client connection is made from. Good until roots_add(). */
_must_ int roots_context(struct roots *r, SSL_CTX **ret, struct err *e);
