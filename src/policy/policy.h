/*
 * policy: what the gate and the vault ask. Both load the same compiled bytes and call the same pure
 * functions, so a gate that was taken over still meets the vault's own judgement.
 *
 * Hostile   every name, address and request in a question; policy_load() judges the bytes
 * Shape     a question (struct policy_ask) and an answer (struct policy_verdict), plain values
 * Errors    only loading can fail. A question always has an answer; nothing is allocated for it
 * Rules     a rule that denies wins, wherever it stands; of those that allow one is enough; an
 *           empty policy denies. What needs a request to be read is refused where none can be read
 */
#pragma once

#include "base/err.h"
#include "policy/rule.h"

struct policy;

/* Each has a word that never changes: policy_reason_word(). The gate and the vault use the later
 * ones. */
enum policy_reason {
	POLICY_OK,
	POLICY_NO_RULE,
	POLICY_DENIED_BY_RULE,
	POLICY_NOT_RESOLVED,
	POLICY_SPECIAL_ADDRESS,
	POLICY_METADATA_ADDRESS,
	POLICY_SNI_MISSING,
	POLICY_SNI_MISMATCH,
	POLICY_HOST_MISMATCH,
	POLICY_NOT_TLS,
	POLICY_NOT_HTTP,
	POLICY_METHOD,
	POLICY_PATH,
	POLICY_AMBIGUOUS,
	POLICY_PLACEHOLDER_ELSEWHERE,
	POLICY_LIMIT_CONNECTIONS,
	POLICY_LIMIT_RATE,
	POLICY_LIMIT_BYTES,
	POLICY_LIMIT_DNS,
	POLICY_LIMIT_MEMORY,
	POLICY_NAME_INVALID,
	POLICY_UPSTREAM_REFUSED,
	POLICY_UPSTREAM_TIMEOUT,
	POLICY_UPSTREAM_CERTIFICATE,
	POLICY_UPSTREAM_DNS,
	POLICY_UPSTREAM_PROTOCOL,
	POLICY_VAULT_DOWN,
	POLICY_PROTOCOL_NOT_ALLOWED,
	POLICY_QUIC_REFUSED,
	POLICY_REVOKED,
	POLICY_VALUE_GUESSED,
	POLICY_REASONS,
};

/* "no-rule"; POLICY_OK is "allowed". */
const char *policy_reason_word(enum policy_reason r);

enum policy_act {
	POLICY_ALLOW,
	POLICY_DENY,
	POLICY_NEEDS_NAME, /* read the first flight: TLS or HTTP, then policy_flow_verdict() */
	POLICY_NEEDS_TLS,  /* read the ClientHello, then the same */
	POLICY_NEEDS_HTTP, /* read the request's head, then the same */
};

enum policy_transport { POLICY_TCP, POLICY_UDP };

/* What a connection's first bytes were. */
enum policy_seen { POLICY_SEEN_RAW, POLICY_SEEN_TLS, POLICY_SEEN_HTTP };

/* Borrowed for the call. What a verdict does not need may be left out. */
struct policy_ask {
	struct policy_addr addr; /* where it goes, or would go */
	uint16_t port;
	uint8_t transport;                    /* enum policy_transport */
	uint8_t seen;                         /* enum policy_seen */
	const struct host_name *const *names; /* pinned to addr by this sandbox's own lookups */
	unsigned names_count;
	const struct host_name *name;    /* SNI or Host; NULL: there is none */
	struct span method, path, query; /* path is canonical; query is without its '?' */
};

enum {
	POLICY_RULE_NONE = 0xffff,
	POLICY_RULE_DEFAULT = 0xfffe, /* default: allow */
};

struct policy_verdict {
	uint8_t act;    /* enum policy_act */
	uint8_t reason; /* enum policy_reason; not POLICY_OK if denied or observed */
	uint16_t rule;  /* that decided, or the nearest miss; see policy_rule_origin() */
	bool inspect;   /* requests are to be read; else bytes are passed through */
	bool observed;  /* would have been refused, and goes on because the rule says observe: */
	bool pin_only;  /* nothing but the address tied this to a name */
};

/* Judges and indexes compiled bytes, which are copied. -EBADMSG: not ours, or damaged. */
_must_ int policy_load(struct span tlv, struct policy **ret, struct err *e);
void policy_free(struct policy *p);
OWN_DEFINE(struct policy, policy_free)

uint64_t policy_generation(const struct policy *p);
const uint8_t *policy_digest(const struct policy *p); /* 32 bytes: equal for equal policies */
const struct policy_limits *policy_limits(const struct policy *p);
unsigned policy_rules(const struct policy *p);

/* "policy.yaml:12", "preset standard:7", "--allow a.example:443"; of no rule: "". */
struct span policy_rule_origin(const struct policy *p, uint16_t rule);

/* May this name be looked up: does a rule cover it on any port? */
struct policy_verdict policy_name_verdict(const struct policy *p, const struct host_name *name);

/* May a name lead here: does a rule of the user's for addresses allow this one on some port? Each
 * connection is judged by itself. */
bool policy_address_opened(const struct policy *p, const struct policy_addr *addr);

/* A SYN, or a UDP packet: addr, port, transport, names. */
struct policy_verdict policy_connect_verdict(const struct policy *p, const struct policy_ask *a);

/* Once the first bytes are seen: that, and seen and name. Also where an ALLOWed flow begins with
 * TLS. */
struct policy_verdict policy_flow_verdict(const struct policy *p, const struct policy_ask *a);

/* One request of an inspected flow: that, and method, path and query. */
struct policy_verdict policy_request_verdict(const struct policy *p, const struct policy_ask *a);

/*
 * Is an open flow still what the new policy would allow? ask as it was when the flow was judged.
 * Not ALLOW: end it, with POLICY_REVOKED; rule is the new policy's. A flow that is passed through
 * and would now be read ends as well.
 */
struct policy_verdict policy_flow_keeps(const struct policy *old_policy,
                                        const struct policy *new_policy, const struct policy_ask *a,
                                        bool inspected);

/* Bit i: the i-th secret may be used in this request (name, port, seen, method, path). */
uint64_t policy_secrets_for(const struct policy *p, const struct policy_ask *a);

unsigned policy_secrets(const struct policy *p);
const struct policy_secret *policy_secret_at(const struct policy *p, unsigned i);

/* What it says of a workspace, for whoever packs one, or NULL. Lives as long as the policy. */
const struct policy_workspace *policy_workspace_of(const struct policy *p);

bool policy_default_allows(const struct policy *p);

/*
 * What it holds, a line or a JSON object each; POLICY_SHOWN_MAX bytes suffice. A number that there
 * is none of puts nothing. Ports, methods and paths that are empty lists mean all of them.
 *   {"action":"allow","host":"*.example.com","address":null,"ports":["443"],"protocol":null,
 *    "inspect":null,"observe":false,"http":[{"methods":["GET"],"path":"/a","query":["q"]}],
 *    "rule":"policy.yaml:5"}
 *   {"name":"TOKEN","hosts":["a.example"],"ports":[],"places":[{"place":"header","name":"x-key",
 *    "prefix":null}],"methods":[],"paths":[],"on_violation":"refuse","rule":"--secret TOKEN@..."}
 */
void policy_put_rule(const struct policy *p, uint16_t rule, struct buf *b);
void policy_put_rule_json(const struct policy *p, uint16_t rule, struct buf *b);
void policy_put_secret(const struct policy *p, unsigned i, struct buf *b);
void policy_put_secret_json(const struct policy *p, unsigned i, struct buf *b);

/* One sentence for a person: what was refused, by what, and how the user could allow it. */
void policy_explain(const struct policy *p, const struct policy_ask *a,
                    const struct policy_verdict *v, struct buf *b);

/*
 * Fields of a JSON object without its braces: "reason", "rule", "message", and where a rule could
 * help "missing" and "allow_with". No query value is ever in it, nor a secret.
 */
void policy_explain_json(const struct policy *p, const struct policy_ask *a,
                         const struct policy_verdict *v, struct buf *b);

/* who: the origin of a rule or secret; what: about it and other, of a rule or a secret's name. */
typedef void policy_note_fn(void *arg, struct span who, const char *what, struct span other);

/*
 * What the policy says in vain, for its author: rules that a rule denies whole, http entries beside
 * a rule that allows every request, secrets whose hosts no rule allows. Returns the count of notes.
 */
unsigned policy_notes(const struct policy *p, policy_note_fn *note, void *arg);
