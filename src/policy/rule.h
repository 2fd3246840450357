/*
 * rule: one rule, one secret and the limits as they stand in a policy, before they are packed and
 * after they are unpacked. What is written by tlv_put.c is read by policy_tlv_parse.c.
 *
 * Owns      nothing: spans point into a parsed file, or into the packed form
 */
#pragma once

#include "policy/addr.h"
#include "policy/host.h"
#include "policy/method.h"
#include "policy/query.h"

enum rule_kind { RULE_HOST, RULE_ADDRESS };

enum rule_proto {
	RULE_AUTO, /* by port: 443 is TLS, 80 is HTTP, others are TCP; with http entries TLS */
	RULE_TLS,
	RULE_HTTP,
	RULE_TCP, /* never read */
	RULE_UDP,
	RULE_PROTOS,
};

enum rule_flag {
	RULE_DENY = 1,
	RULE_OBSERVE = 2, /* what its http entries refuse goes on, and is marked */
	RULE_INSPECT = 4, /* read even without http entries */
	RULE_PASS = 8,    /* inspect: false: never read */
	RULE_FROM_PRESET = 16,
	RULE_FLAGS = 31,
};

struct rule_ports {
	uint16_t lo, hi; /* both included; 1 to 65535 */
};

struct rule_query {
	uint8_t mode; /* enum query_mode, not QUERY_PLAIN */
	uint8_t values_count;
	struct span name;
	struct span values[POLICY_VALUES_MAX];
};

struct rule_http {
	uint64_t methods;
	struct span path; /* empty: any */
	uint8_t query_count;
	struct rule_query query[POLICY_QUERY_MAX];
};

/* About 40 KiB: on the heap. */
struct policy_rule {
	uint8_t kind;  /* enum rule_kind */
	uint8_t flags; /* enum rule_flag */
	uint8_t proto; /* enum rule_proto */
	struct host_pattern host;
	struct policy_cidr net;
	uint8_t ports_count; /* 0: every port; ascending, with gaps between them */
	struct rule_ports ports[POLICY_PORTS_MAX];
	uint8_t http_count; /* 0: not judged by request */
	struct rule_http http[POLICY_HTTP_MAX];
	struct span origin; /* "policy.yaml:12:5" */
};

enum secret_place { SECRET_HEADER, SECRET_BASIC_USER, SECRET_BASIC_PASSWORD, SECRET_QUERY };

struct secret_use {
	uint8_t place;      /* enum secret_place */
	struct span name;   /* of the header, in lower case, or of the parameter; else empty */
	struct span prefix; /* what stands in front of it in the header, "Bearer "; mostly empty */
};

enum secret_flag { SECRET_KILL = 1 /* on a violation; else refuse */ };

struct policy_secret {
	struct span name; /* of the variable in the guest */
	uint8_t flags;    /* enum secret_flag */
	uint8_t hosts_count;
	struct host_pattern hosts[POLICY_SECRET_HOSTS_MAX];
	uint8_t ports_count; /* 0: every port */
	struct rule_ports ports[POLICY_PORTS_MAX];
	uint8_t uses_count; /* at least one */
	struct secret_use uses[POLICY_SECRET_USES_MAX];
	uint64_t methods;
	uint8_t paths_count; /* 0: every path */
	struct span paths[POLICY_SECRET_PATHS_MAX];
	struct span origin;
};

/* 0 means not stated: the gate's own maximum holds. */
struct policy_limits {
	uint64_t egress_bytes;     /* both directions together */
	uint64_t upload_bytes;     /* from the guest */
	uint64_t bandwidth_bytes;  /* a second, each direction */
	uint64_t connections;      /* open at once */
	uint64_t host_connections; /* of them to one host */
	uint64_t connection_rate;  /* new ones a second */
	uint64_t dns_rate;         /* questions a second */
};

/* One pattern of workspace: exclude:, and where it is written. */
struct policy_left_out {
	struct span pattern; /* as a line of .gitignore, never one that takes something back */
	struct span label;   /* of the file */
	uint32_t line;
};

/* What of a directory does not enter a guest. About 10 KiB: on the heap. */
struct policy_workspace {
	struct span
		skip_cost_by; /* "policy.yaml:7"; empty: nobody leaves out what can be made again */
	unsigned count;
	struct policy_left_out left_out[POLICY_EXCLUDES_MAX];
};
