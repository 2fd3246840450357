/*
 * draft_internal: what the file reader and the flags' reader add to a draft.
 */
#pragma once

#include "policy/draft.h"
#include "policy/rule.h"

enum {
	SLOTS_MAX = 4,       /* presets name one, "registries" */
	PRESET_NAME_MAX = 32 /* bytes of a preset's or slot's name */
};

struct slot {
	char name[PRESET_NAME_MAX + 1];
	unsigned count;
	struct host_pattern hosts[POLICY_SLOT_HOSTS_MAX];
	struct rule_ports ports[POLICY_SLOT_HOSTS_MAX]; /* lo 0: the rule's own */
};

struct source {
	char name[POLICY_SECRET_NAME_MAX + 1];
	enum secret_from from;
	uint8_t *what; /* owned */
	size_t what_len;
};

struct left_out {
	char *pattern; /* owned; its label follows its NUL */
	unsigned line;
};

struct policy_draft {
	policy_preset_fn *presets;
	void *presets_arg;
	bool spoilt;                          /* a call failed */
	char allow_by[POLICY_ORIGIN_MAX + 1]; /* who says default: allow; empty: nobody */
	char deny_by[POLICY_ORIGIN_MAX + 1];  /* which file of the user's says default: deny */
	struct policy_limits limits;
	struct buf rules, secrets; /* packed; storage owned */
	unsigned rules_count, address_rules_count, secrets_count;
	struct source sources[POLICY_SECRETS_MAX];
	struct left_out excludes[POLICY_EXCLUDES_MAX];
	unsigned excludes_count;
	char skip_cost_by[POLICY_ORIGIN_MAX + 1]; /* empty: nobody */
	struct slot *slots[SLOTS_MAX];            /* owned */
	char unfilled[PRESET_NAME_MAX + 1];
	char taken[POLICY_PRESETS_MAX][PRESET_NAME_MAX + 1]; /* presets that are in */
	unsigned taken_count;
	char open[POLICY_PRESET_DEPTH_MAX][PRESET_NAME_MAX + 1]; /* being read now */
	unsigned open_count;
};

/*
 * Fills in what a rule does not state (ports) and refuses what makes no sense. NULL, or why not: a
 * whole sentence.
 */
const char *rule_settle(struct policy_rule *r);

_must_ int draft_add_rule(struct policy_draft *d, const struct policy_rule *r, struct err *e);
_must_ int draft_add_secret(struct policy_draft *d, const struct policy_secret *s,
                            enum secret_from from, struct span what, struct err *e);

/* Both are copied. */
_must_ int draft_add_exclude(struct policy_draft *d, struct span pattern, const char *label,
                             unsigned line, struct err *e);

/* The slot of this name, or NULL. */
const struct slot *draft_slot(const struct policy_draft *d, struct span name);

/* default: allow or deny. by: who says so. preset: a preset's deny states nothing. */
_must_ int draft_set_default(struct policy_draft *d, bool allow, const char *by, bool preset,
                             struct err *e);

/* Reads a preset into the draft, once. */
_must_ int draft_take_preset(struct policy_draft *d, struct span name, struct err *e);

/* One file's content; preset: it is one, and may say less. */
_must_ int file_take(struct policy_draft *d, const char *label, bool preset, struct span text,
                     struct err *e);

/* Where a secret without a stated place may stand. */
void secret_default_uses(struct policy_secret *s);
