/*
 * yaml_tree: one YAML document as a tree, with positions, and within bounds.
 *
 * The reader takes less than YAML has: no aliases, no anchors, no tags, no second document, no key
 * twice in one mapping, no NUL in any text. What is left means the same to every reader.
 *
 * Hostile   nothing: the file is the user's own. It may be wrong in any way all the same
 * Errors    -EINVAL "FILE:LINE:COLUMN: what", -EFBIG, -ENOMEM
 */
#pragma once

#include "base/err.h"
#include "base/span.h"
#include "policy/limits.h"

enum yaml_kind { YAML_SCALAR, YAML_LIST, YAML_MAP };

enum { YAML_KEYS_MAX = 256 }; /* of one mapping: each is compared with each */

struct yaml_node {
	enum yaml_kind kind;
	bool plain;                    /* a scalar without quotes */
	unsigned line, column;         /* from 1 */
	struct span text;              /* of a scalar */
	const struct yaml_node *first; /* of a list; of a mapping: key, value, key, value */
	const struct yaml_node *next;  /* in the same list or mapping */
};

struct yaml_tree;

/* Borrows nothing of text. label is what errors call the file. */
_must_ int yaml_tree_parse(const char *label, struct span text, struct yaml_tree **ret,
                           struct err *e);
void yaml_tree_free(struct yaml_tree *t);
OWN_DEFINE(struct yaml_tree, yaml_tree_free)

const struct yaml_node *yaml_root(const struct yaml_tree *t);

/* How many children: of a mapping, its pairs. */
unsigned yaml_count(const struct yaml_node *n);
