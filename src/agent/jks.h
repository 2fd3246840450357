/*
 * jks: one certificate more in a Java trust store (JKS, as Debian and JDKs up to 17 have it). Pure.
 *
 * Layout    magic FEEDFEED | version 2 | count | entries | SHA-1 of the password, words and all
 * Theory    nothing of what is there is parsed: a store whose sum is right for the usual password
 *           is whole, and an entry more goes between the last one and the sum
 * Hostile   the guest's own file; bounded by its length alone
 */
#pragma once

#include "base/buf.h"

enum {
	JKS_DER_MAX = 4096,              /* of the certificate */
	JKS_ENTRY_MAX = 64 + JKS_DER_MAX /* of what is put in for it */
};

/* The certificate in a PEM text, as DER. False: there is none, or it is too long. */
_must_ bool jks_der(struct span pem, struct buf *ret_der);

/*
 * The store without the entry of the DER `old` (empty: none) and with one of `der` (empty: none).
 * 0; -EBADMSG: no store of that kind, or with another password; -EMSGSIZE: no room in out, which
 * takes JKS_ENTRY_MAX more than the store has.
 */
_must_ int jks_put(struct span store, struct span old, struct span der, struct buf *out);
