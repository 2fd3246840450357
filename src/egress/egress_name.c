#include "egress/egress.h"

const char *egress_type_name(uint8_t type)
{
	static const char *const names[EGRESS_TYPE_COUNT] = {
		[EGRESS_HELLO] = "HELLO",
		[EGRESS_REFUSE] = "REFUSE",
		[EGRESS_POLICY] = "POLICY",
		[EGRESS_POLICY_OK] = "POLICY_OK",
		[EGRESS_STATS] = "STATS",
		[EGRESS_STATS_OK] = "STATS_OK",
		[EGRESS_RESOLVE] = "RESOLVE",
		[EGRESS_RESOLVED] = "RESOLVED",
		[EGRESS_CONNECT] = "CONNECT",
		[EGRESS_CONNECTED] = "CONNECTED",
		[EGRESS_REQUEST] = "REQUEST",
		[EGRESS_RESPONSE] = "RESPONSE",
		[EGRESS_BODY] = "BODY",
		[EGRESS_TRAILERS] = "TRAILERS",
		[EGRESS_END] = "END",
		[EGRESS_RESET] = "RESET",
		[EGRESS_CREDIT] = "CREDIT",
		[EGRESS_SCRUBBED] = "SCRUBBED",
		[EGRESS_VIOLATION] = "VIOLATION",
		[EGRESS_REVOKED] = "REVOKED",
	};

	return type < EGRESS_TYPE_COUNT && names[type] ? names[type] : "unknown type";
}

const char *egress_fail_word(enum egress_fail f)
{
	static const char *const words[EGRESS_FAIL_COUNT] = {
		[EGRESS_OK] = "ok",
		[EGRESS_NO_NAME] = "no-name",
		[EGRESS_NO_ADDRESS] = "no-address",
		[EGRESS_DNS] = "upstream-dns",
		[EGRESS_SPECIAL] = "special-address",
		[EGRESS_METADATA] = "metadata-address",
		[EGRESS_NOT_RESOLVED] = "not-resolved",
		[EGRESS_DENIED] = "denied",
		[EGRESS_PLACEHOLDER] = "placeholder-elsewhere",
		[EGRESS_REFUSED] = "upstream-refused",
		[EGRESS_UNREACHABLE] = "upstream-unreachable",
		[EGRESS_TIMEOUT] = "upstream-timeout",
		[EGRESS_CERTIFICATE] = "upstream-certificate",
		[EGRESS_PROTOCOL] = "upstream-protocol",
		[EGRESS_CLOSED] = "upstream-closed",
		[EGRESS_LIMIT] = "limit",
		[EGRESS_REVOKED_BY_POLICY] = "revoked",
		[EGRESS_CANCELLED] = "cancelled",
		[EGRESS_INTERNAL] = "internal",
		[EGRESS_TOO_LARGE] = "too-large",
		[EGRESS_FULL] = "full",
	};

	return f < EGRESS_FAIL_COUNT ? words[f] : "unknown";
}
