#include "policy/digest.h"

#include <sha2.h>
#include <stdint.h>

_Static_assert((int)TLV_DIGEST_BYTES == SHA256_DIGEST_LENGTH, "it is a SHA-256");

void policy_digest_of(struct span body, uint8_t ret[static TLV_DIGEST_BYTES])
{
	SHA2_CTX c;

	SHA256Init(&c);
	SHA256Update(&c, body.at, body.len);
	SHA256Final(ret, &c);
}
