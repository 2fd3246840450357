#include "policy/policy_internal.h"

#include <string.h>

static const char *const words[POLICY_REASONS] = {
	[POLICY_OK] = "allowed",
	[POLICY_NO_RULE] = "no-rule",
	[POLICY_DENIED_BY_RULE] = "denied-by-rule",
	[POLICY_NOT_RESOLVED] = "not-resolved",
	[POLICY_SPECIAL_ADDRESS] = "special-address",
	[POLICY_METADATA_ADDRESS] = "metadata-address",
	[POLICY_SNI_MISSING] = "sni-missing",
	[POLICY_SNI_MISMATCH] = "sni-mismatch",
	[POLICY_HOST_MISMATCH] = "host-mismatch",
	[POLICY_NOT_TLS] = "not-tls",
	[POLICY_NOT_HTTP] = "not-http",
	[POLICY_METHOD] = "method",
	[POLICY_PATH] = "path",
	[POLICY_AMBIGUOUS] = "ambiguous",
	[POLICY_PLACEHOLDER_ELSEWHERE] = "placeholder-elsewhere",
	[POLICY_LIMIT_CONNECTIONS] = "limit-connections",
	[POLICY_LIMIT_RATE] = "limit-rate",
	[POLICY_LIMIT_BYTES] = "limit-bytes",
	[POLICY_LIMIT_DNS] = "limit-dns",
	[POLICY_LIMIT_MEMORY] = "limit-memory",
	[POLICY_NAME_INVALID] = "name-invalid",
	[POLICY_UPSTREAM_REFUSED] = "upstream-refused",
	[POLICY_UPSTREAM_TIMEOUT] = "upstream-timeout",
	[POLICY_UPSTREAM_CERTIFICATE] = "upstream-certificate",
	[POLICY_UPSTREAM_DNS] = "upstream-dns",
	[POLICY_UPSTREAM_PROTOCOL] = "upstream-protocol",
	[POLICY_VAULT_DOWN] = "vault-down",
	[POLICY_PROTOCOL_NOT_ALLOWED] = "protocol-not-allowed",
	[POLICY_QUIC_REFUSED] = "quic-refused",
	[POLICY_REVOKED] = "revoked",
	[POLICY_VALUE_GUESSED] = "value-guessed",
};

/* What stands behind "HOST:PORT ", for reasons that need no more than a sentence. */
static const char *const sentences[POLICY_REASONS] = {
	[POLICY_OK] = "is allowed",
	[POLICY_NO_RULE] = "is refused: no rule allows it",
	[POLICY_DENIED_BY_RULE] = "is refused by a rule that denies it",
	[POLICY_NOT_RESOLVED] = "is refused: this sandbox looked up no name that has this address",
	[POLICY_METADATA_ADDRESS] =
		"is refused: it is a cloud's metadata service, which no policy opens",
	[POLICY_SNI_MISSING] =
		"is refused: the TLS connection names no host, and the rule is about names",
	[POLICY_SNI_MISMATCH] =
		"is refused: the TLS connection names a host that this address was not looked up for",
	[POLICY_HOST_MISMATCH] = "is refused: the request names a host other than the connection's",
	[POLICY_NOT_TLS] =
		"is refused: it has to be TLS, so that the rule can be applied, and is not",
	[POLICY_NOT_HTTP] =
		"is refused: it has to be HTTP, so that the rule can be applied, and is not",
	[POLICY_AMBIGUOUS] = "is refused: the request can be read in two ways",
	[POLICY_PLACEHOLDER_ELSEWHERE] =
		"is refused: a secret's placeholder stands where the policy does not allow it",
	[POLICY_LIMIT_CONNECTIONS] = "is refused: too many connections are open",
	[POLICY_LIMIT_RATE] = "is refused: too many connections in a short time",
	[POLICY_LIMIT_BYTES] =
		"is refused: the sandbox has used up the bytes it may send and receive",
	[POLICY_LIMIT_DNS] = "is refused: too many lookups in a short time",
	[POLICY_LIMIT_MEMORY] = "is refused: too much of what is under way waits",
	[POLICY_NAME_INVALID] = "is refused: it is no host name",
	[POLICY_UPSTREAM_REFUSED] = "is allowed, but did not accept the connection",
	[POLICY_UPSTREAM_TIMEOUT] = "is allowed, but did not answer in time",
	[POLICY_UPSTREAM_CERTIFICATE] = "is allowed, but its certificate is not valid for it",
	[POLICY_UPSTREAM_DNS] = "is allowed, but its name could not be looked up",
	[POLICY_UPSTREAM_PROTOCOL] = "is allowed, but answered with bytes that are no valid reply",
	[POLICY_VAULT_DOWN] =
		"cannot be reached: the process that connects for this sandbox is gone",
	[POLICY_PROTOCOL_NOT_ALLOWED] = "is refused: the rule for it is about another protocol",
	[POLICY_QUIC_REFUSED] =
		"is refused: QUIC is never passed on; clients fall back to TLS over TCP",
	[POLICY_REVOKED] = "is closed: the policy was changed and does not allow it any more",
	[POLICY_VALUE_GUESSED] =
		"is closed: its replies tried beginnings of a secret's value, which is withdrawn",
};

const char *policy_reason_word(enum policy_reason r)
{
	return words[r < POLICY_REASONS ? r : POLICY_OK];
}

static const struct host_name *name_of(const struct policy_ask *a)
{
	if (a->name)
		return a->name;
	return a->names_count > 0 ? a->names[0] : NULL;
}

/* "example.com:443", "10.1.2.3:5432", "[2001:db8::1]:443". */
static void put_where(struct buf *b, const struct policy_ask *a)
{
	const struct host_name *name = name_of(a);
	bool v6 = !name && !a->addr.v4;

	if (v6)
		buf_put_str(b, "[");
	if (name)
		buf_put_span(b, host_span(name));
	else
		addr_put(b, &a->addr);
	if (v6)
		buf_put_str(b, "]");
	if (a->port != 0)
		buf_printf(b, ":%u", a->port);
	if (a->transport == POLICY_UDP)
		buf_put_str(b, "/udp");
}

static struct span cut(struct span s, size_t max)
{
	return s.len > max ? span_of(s.at, max) : s;
}

static void put_request(struct buf *b, const struct policy_ask *a)
{
	buf_put_escaped(b, cut(a->method, 32));
	buf_put_str(b, " ");
	buf_put_escaped(b, cut(a->path, 128));
}

static void put_sentence(struct buf *b, const struct policy_ask *a, const struct policy_verdict *v)
{
	switch (v->reason) {
	case POLICY_SPECIAL_ADDRESS:
		buf_printf(b, "is refused: its address is no public one (%s)",
		           policy_address_verdict(&a->addr).what);
		break;
	case POLICY_METHOD:
		put_request(b, a);
		buf_put_str(b, " is refused: the rule for this path does not list the method");
		break;
	case POLICY_PATH:
		put_request(b, a);
		buf_put_str(b, " is refused: no entry of the rule covers the path and query");
		break;
	default:
		if (v->reason < POLICY_REASONS)
			buf_put_str(b, sentences[v->reason]);
	}
}

/* Would a word on the command line allow it? Only where the user's policy is silent. */
static bool put_flag(struct buf *b, const struct policy_ask *a, const struct policy_verdict *v)
{
	const struct host_name *name = name_of(a);

	if (a->transport == POLICY_UDP || a->port == 0)
		return false;
	if (v->reason == POLICY_NO_RULE && name) {
		buf_put_str(b, "--allow ");
		buf_put_span(b, host_span(name));
		buf_printf(b, ":%u", a->port);
		return true;
	}
	if ((v->reason != POLICY_SPECIAL_ADDRESS && v->reason != POLICY_NO_RULE) ||
	    policy_address_verdict(&a->addr).class_ >= ADDR_LINK_LOCAL)
		return false;
	buf_printf(b, a->addr.v4 ? "--allow " : "--allow [");
	addr_put(b, &a->addr);
	buf_printf(b, a->addr.v4 ? ":%u" : "]:%u", a->port);
	return true;
}

/* The rule that is not there, in the words of the file. */
static bool put_missing(struct buf *b, const struct policy_ask *a, const struct policy_verdict *v)
{
	const struct host_name *name = name_of(a);

	switch (v->reason) {
	case POLICY_METHOD:
	case POLICY_PATH:
		buf_put_str(b, "http: { method: ");
		buf_put_escaped(b, cut(a->method, 32));
		buf_put_str(b, ", path: \"");
		buf_put_escaped(b, cut(a->path, 128));
		buf_put_str(b, "\" }");
		return true;
	case POLICY_SPECIAL_ADDRESS:
		if (policy_address_verdict(&a->addr).class_ >= ADDR_LINK_LOCAL || a->port == 0)
			return false;
		buf_put_str(b, "{ address: ");
		addr_put(b, &a->addr);
		buf_printf(b, ", port: %u }", a->port);
		return true;
	case POLICY_NO_RULE:
	case POLICY_PROTOCOL_NOT_ALLOWED:
		if (!name)
			return false;
		buf_put_str(b, "{ host: ");
		buf_put_span(b, host_span(name));
		if (a->port != 0)
			buf_printf(b, ", port: %u", a->port);
		buf_put_str(b, a->transport == POLICY_UDP ? ", protocol: udp }" : " }");
		return true;
	default:
		return false;
	}
}

static void put_message(const struct policy *p, const struct policy_ask *a,
                        const struct policy_verdict *v, struct buf *b)
{
	struct span origin = policy_rule_origin(p, v->rule);

	put_where(b, a);
	buf_put_str(b, " ");
	put_sentence(b, a, v);
	if (origin.len > 0) {
		buf_put_str(b, " (");
		buf_put_escaped(b, origin);
		buf_put_str(b, ")");
	}
	if (v->observed)
		buf_put_str(b, "; it goes on, as the rule only observes");
}

void policy_explain(const struct policy *p, const struct policy_ask *a,
                    const struct policy_verdict *v, struct buf *b)
{
	uint8_t room[POLICY_EXPLAIN_MAX];
	struct buf part;

	put_message(p, a, v, b);
	if (v->observed || v->act != POLICY_DENY)
		return;
	buf_init(&part, room, sizeof(room));
	if (put_flag(&part, a, v)) {
		buf_put_str(b, "; to allow it, start with ");
		buf_put_span(b, buf_span(&part));
		buf_put_str(b, " or add a rule with berm policy set");
		return;
	}
	buf_reset(&part);
	if (put_missing(&part, a, v)) {
		buf_put_str(b, "; to allow it, add ");
		buf_put_span(b, buf_span(&part));
		buf_put_str(b, " with berm policy set");
	}
}

static void put_field(struct buf *b, const char *name, const struct buf *value)
{
	buf_printf(b, ",\"%s\":", name);
	buf_put_json_str(b, buf_span(value));
}

void policy_explain_json(const struct policy *p, const struct policy_ask *a,
                         const struct policy_verdict *v, struct buf *b)
{
	uint8_t room[POLICY_EXPLAIN_MAX];
	struct buf part;

	buf_printf(b, "\"reason\":\"%s\",\"rule\":", policy_reason_word(v->reason));
	buf_put_json_str(b, policy_rule_origin(p, v->rule));
	buf_init(&part, room, sizeof(room));
	put_message(p, a, v, &part);
	put_field(b, "message", &part);
	if (v->act != POLICY_DENY)
		return;
	buf_reset(&part);
	if (put_missing(&part, a, v))
		put_field(b, "missing", &part);
	buf_reset(&part);
	if (put_flag(&part, a, v))
		put_field(b, "allow_with", &part);
}
