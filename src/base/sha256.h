/*
 * sha256: the digest by which equal policies are known. Here because the library that has it as
 * well takes 2 ms to load, in each program of a start.
 *
 * Source    FIPS 180-4, 4.1.2, 5.1.1, 6.2
 */
#pragma once

#include "base/span.h"

enum { SHA256_BYTES = 32 };

void sha256(struct span data, uint8_t ret[static SHA256_BYTES]);
