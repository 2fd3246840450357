/*
 * host: names and patterns of hosts, in the one form in which they are compared.
 *
 * Hostile   names: what a guest asks, a ClientHello's SNI, a Host header
 * Shape     labels of a-z 0-9 - and _ inside (A-labels for other scripts), lower case, joined with
 *           dots, no dot at the end; at most 253 bytes, 63 a label, two labels or more in a pattern
 * Errors    -EBADMSG; patterns say why in a word of enum host_fault
 * Source    RFC 1035 2.3.4, RFC 1123 2.1, RFC 5890 2.3.2.1
 */
#pragma once

#include "base/buf.h"
#include "policy/limits.h"

struct host_name {
	uint8_t len; /* POLICY_NAME_MAX fits */
	uint8_t at[POLICY_NAME_MAX];
};

enum host_kind {
	HOST_EXACT,
	HOST_ONE, /* "*.": exactly one label in front of the base */
	HOST_ANY, /* "**.": one or more */
};

struct host_pattern {
	uint8_t kind; /* enum host_kind */
	struct host_name base;
};

/* Why a pattern is none. */
enum host_fault {
	HOST_FAULT_NONE,
	HOST_FAULT_EMPTY,    /* no text */
	HOST_FAULT_URL,      /* a scheme, a slash, user information */
	HOST_FAULT_PORT,     /* a port behind a colon */
	HOST_FAULT_ADDRESS,  /* an IP address in any writing */
	HOST_FAULT_WILDCARD, /* a star that is not the whole first label */
	HOST_FAULT_BROAD,    /* "*", "**", "*.com": a wildcard needs two labels behind it */
	HOST_FAULT_SINGLE,   /* one label: never asked upstream */
	HOST_FAULT_LABEL, /* an empty label, one over 63 bytes, one that begins or ends with '-' */
	HOST_FAULT_LONG,  /* over 253 bytes */
	HOST_FAULT_BYTE,  /* a byte no name has */
	HOST_FAULT_METADATA, /* a cloud's metadata service */
};

/*
 * A name from outside: lower-cased, one trailing dot dropped. Refused are names that are not LDH,
 * and those whose last label is a number: the readers of URLs take them for IPv4 addresses.
 */
_must_ int host_name_parse(struct span text, struct host_name *ret);

/* A pattern in ASCII. ret_fault, which may be NULL, is written on failure only. */
_must_ int host_pattern_parse(struct span text, struct host_pattern *ret,
                              enum host_fault *ret_fault);

/* One sentence's end: "is an address; write it as address: 192.0.2.1". */
const char *host_fault_text(enum host_fault fault);

static inline struct span host_span(const struct host_name *n)
{
	return span_of(n->at, n->len);
}

bool host_pattern_match(const struct host_pattern *p, const struct host_name *name);

/* Does every name that b covers belong to a as well? */
bool host_pattern_covers(const struct host_pattern *a, const struct host_pattern *b);

/* "*.example.com" again. */
void host_pattern_put(struct buf *b, const struct host_pattern *p);

/* The names under which large clouds serve credentials to their machines. */
bool host_is_metadata(const struct host_name *name);
