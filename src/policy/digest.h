/*
 * digest: by which equal policies are known: SHA-256 of the compiled body.
 */
#pragma once

#include "base/span.h"
#include "policy/tlv.h"

void policy_digest_of(struct span body, uint8_t ret[static TLV_DIGEST_BYTES]);
