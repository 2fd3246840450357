/*
 * file_internal: reading a policy file, key by key.
 */
#pragma once

#include "policy/draft_internal.h"
#include "policy/yaml_tree.h"

/* What is being read. The large rooms are made once a file. */
struct file_ctx {
	struct policy_draft *d;
	const char *label;
	bool preset;
	struct err *e;
	struct policy_rule *rule;
	struct rule_http *http;             /* of rule, while one of its entries is read */
	struct rule_query *query;           /* of http */
	struct span preset_name, slot_name; /* of the rule, if it has them */
	bool host_seen, address_seen;
	struct policy_secret *secret;
	struct secret_use *use;
	enum secret_from from;
	struct span from_what;
	uint8_t from_room[POLICY_SOURCE_MAX];
	uint8_t header_room[POLICY_SECRET_USES_MAX][POLICY_HEADER_MAX];
	char origin[POLICY_ORIGIN_MAX + 1];
};

struct file_key {
	const char *name;
	int (*take)(struct file_ctx *c, const struct yaml_node *value); /* NULL: not yet */
};

/* "FILE:LINE:COLUMN: what". Returns -EINVAL. */
int file_fault(struct file_ctx *c, const struct yaml_node *at, const char *fmt, ...) _printf_(3, 4);

/* The same with a value in quotes in front: "'x' is no port". */
int file_bad(struct file_ctx *c, const struct yaml_node *at, const char *what);

/* A mapping whose keys are all in the table, which ends with a NULL name. what: "a rule". */
_must_ int file_map(struct file_ctx *c, const struct yaml_node *n, const char *what,
                    const struct file_key *keys);

/* Calls take with each item of a list, or with the one value. Neither may be empty. */
_must_ int file_each(struct file_ctx *c, const struct yaml_node *n, const char *what,
                     int (*take)(struct file_ctx *c, const struct yaml_node *item));

_must_ int file_scalar(struct file_ctx *c, const struct yaml_node *n, struct span *ret);
_must_ int file_bool(struct file_ctx *c, const struct yaml_node *n, bool *ret);

/* One of words (NULL-ended): its index. */
_must_ int file_word(struct file_ctx *c, const struct yaml_node *n, const char *const *words,
                     unsigned *ret);

_must_ int file_host(struct file_ctx *c, const struct yaml_node *n, struct host_pattern *ret);
_must_ int file_ports(struct file_ctx *c, const struct yaml_node *n, struct rule_ports *ports,
                      uint8_t *count);
_must_ int file_path(struct file_ctx *c, const struct yaml_node *n, struct span *ret);
_must_ int file_methods(struct file_ctx *c, const struct yaml_node *n, uint64_t *ret);

/* Sets c->origin to where n stands. */
void file_origin(struct file_ctx *c, const struct yaml_node *n);

/* Items of the lists in network: and secrets:. */
_must_ int file_rule(struct file_ctx *c, const struct yaml_node *n);
_must_ int file_secret(struct file_ctx *c, const struct yaml_node *n);
