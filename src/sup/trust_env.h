/*
 * trust_env: the environment variables by which programs find the guest's certificates, for those
 * that do not read the system's own.
 */
#pragma once

#include "wire/wire.h"

enum {
	TRUST_ENV_MAX = 16,                                         /* variables */
	TRUST_ENV_BYTES = TRUST_ENV_MAX * (2 + 48 + WIRE_NAME_MAX), /* all of them in an EXEC */
};

/*
 * Adds them to the EXEC that lies in `out` from `start` to its end: each that is not set there, by
 * whomever and to whatever. Of no effect without a certificate, and on what is no EXEC; one that
 * gets too long for the wire is left as it was.
 */
void trust_env_add(struct buf *out, size_t start, const struct wire_trusted *where);
