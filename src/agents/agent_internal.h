/*
 * agent_internal: reading a profile, key by key.
 */
#pragma once

#include "agents/agent.h"
#include "policy/yaml_tree.h"

struct agent_narrow;

struct agent_piece {
	struct agent_piece *next;
	_Alignas(16) unsigned char room[];
};

/* Zeroed room that lives as long as the agent. NULL: out of memory. */
void *agent_room(struct agent *a, size_t size);

/* A NUL-ended copy, or NULL. */
const char *agent_keep(struct agent *a, struct span s);

/* "FILE:LINE" as a field's origin. */
_must_ int agent_origin(struct agent *a, enum agent_field f, const char *label, unsigned line,
                        struct err *e);

/* One file while it is read. */
struct agent_ctx {
	struct agent *a;
	const char *label;
	unsigned source;
	struct err *e;
	struct agent_setting *setting; /* the one being read */
	struct agent_narrow *narrow;   /* of a workspace's file */
};

struct agent_key {
	const char *name;
	int (*take)(struct agent_ctx *c, const struct yaml_node *value);
};

/* "FILE:LINE:COLUMN: what". Returns -EINVAL. */
int agent_fault(const struct agent_ctx *c, const struct yaml_node *at, const char *fmt, ...)
	_printf_(3, 4);

/* The same with a value in quotes in front. */
int agent_bad(const struct agent_ctx *c, const struct yaml_node *at, const char *what);

/* A mapping whose keys are all in the table, which ends with a NULL name. */
_must_ int agent_map(struct agent_ctx *c, const struct yaml_node *n, const char *what,
                     const struct agent_key *keys);

/* The same of a whole file, which says its version. */
_must_ int agent_read(struct agent_ctx *c, struct span text, const char *what,
                      const struct agent_key *keys);

/* One of some words. */
_must_ int agent_word(struct agent_ctx *c, const struct yaml_node *n, const char *const *words,
                      const char *what, unsigned *ret);

/* Text of 1 to AGENT_WORD_MAX bytes without control bytes. */
_must_ int agent_text(struct agent_ctx *c, const struct yaml_node *n, const char **ret);

/* A list of such texts. judge, which may be NULL, says what is wrong with one. */
_must_ int agent_list_of(struct agent_ctx *c, const struct yaml_node *n, unsigned max,
                         const char *(*judge)(const char *), struct agent_words *ret);

_must_ int agent_size(struct agent_ctx *c, const struct yaml_node *n, uint64_t *ret);
_must_ int agent_count(struct agent_ctx *c, const struct yaml_node *n, uint64_t min, uint64_t max,
                       uint64_t *ret);

/* A list of mappings as one line of YAML each. names: each has a `name`. */
_must_ int agent_items_of(struct agent_ctx *c, const struct yaml_node *n, bool names,
                          struct agent_items *ret);

/* The whole of an open regular file, which is closed. */
_must_ int agent_read_fd(int fd, const char *label, char **ret_text, size_t *ret_len,
                         struct err *e);

/* Reads one file into a: each field it has replaces what is there. */
_must_ int agent_take(struct agent *a, const char *label, unsigned source, struct span text,
                      struct err *e);

/* What a path of settings or state may be: NULL, or why not. */
const char *agent_path_fault(const char *path);
const char *agent_variable_fault(const char *name);
