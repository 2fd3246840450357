/*
 * draft: a policy being put together from files, presets and flags.
 *
 * For the command line and the supervisor, which trust what the user wrote. Every call adds; after
 * one that failed the draft is spoilt and compiles to nothing, so a wrong file cannot become half a
 * policy (HOT-3: make a new draft for each reload).
 *
 * Errors    -EINVAL: the message has file, line and column, or the flag, and what to do.
 *           -EFBIG, -ENOMEM
 */
#pragma once

#include "base/err.h"
#include "base/span.h"
#include "policy/limits.h"

struct policy_draft;

/* The text of a preset. ret_text is malloc'ed. -ENOENT: there is no such preset. */
typedef int policy_preset_fn(void *arg, const char *name, char **ret_text, size_t *ret_len,
                             struct err *e);

/* The stock one: arg is an int *, a directory fd with NAME.yaml files. */
policy_preset_fn policy_preset_dir;

enum secret_from { SECRET_ENV, SECRET_FILE, SECRET_COMMAND, SECRET_KEYRING };

/* Where the value of a secret is to be found. Not part of the compiled policy. */
struct policy_source {
	const char *name; /* of the secret */
	enum secret_from from;
	struct span what; /* variable, path or item; of a command its words, a NUL behind each */
};

_must_ int policy_draft_new(policy_preset_fn *presets, void *arg, struct policy_draft **ret,
                            struct err *e);
void policy_draft_free(struct policy_draft *d);
OWN_DEFINE(struct policy_draft, policy_draft_free)

/*
 * Fills a slot that presets name ("registries") with HOST or HOST:PORT words. Comes before the
 * preset. A slot nobody fills stands for no host.
 */
_must_ int policy_draft_slot(struct policy_draft *d, const char *slot, const char *const *words,
                             unsigned count, struct err *e);

/* Adds a policy file. label is its name in messages and in the ids of its rules. */
_must_ int policy_draft_file(struct policy_draft *d, const char *label, struct span text,
                             struct err *e);

/* --allow HOST[:PORT[-PORT]]; also ADDRESS:PORT, CIDR:PORT and [ADDRESS]:PORT. */
_must_ int policy_draft_allow(struct policy_draft *d, const char *word, struct err *e);

/* --deny HOST[:PORT[-PORT]]; without a port, all of them. */
_must_ int policy_draft_deny(struct policy_draft *d, const char *word, struct err *e);

/* --preset NAME. */
_must_ int policy_draft_preset(struct policy_draft *d, const char *name, struct err *e);

/*
 * --secret NAME@HOST[,HOST...][:KEY=VALUE...], keys: header, prefix, basic (user or password),
 * query, env, file, keyring, port, on_violation. Without a place: header authorization or
 * x-api-key; without a source: the variable NAME.
 */
_must_ int policy_draft_secret(struct policy_draft *d, const char *word, struct err *e);

/* The compiled form; ret_tlv is the caller's to free. generation: what verdicts will carry. */
_must_ int policy_draft_compile(const struct policy_draft *d, uint64_t generation,
                                uint8_t **ret_tlv, size_t *ret_len, struct err *e);

unsigned policy_draft_secrets(const struct policy_draft *d);

/* The i-th, in the order of the compiled policy. Lives as long as the draft. */
struct policy_source policy_draft_source(const struct policy_draft *d, unsigned i);

/*
 * workspace: what of a directory does not enter a guest beside what stays out anyway. Counts when a
 * workspace is packed; the compiled policy has it so that its digest is of all that was written.
 */
struct policy_exclude {
	const char *pattern; /* as in struct policy_left_out */
	const char *label;   /* of the file */
	unsigned line;
};

unsigned policy_draft_excludes(const struct policy_draft *d);
/* The i-th, in the order of the files. Lives as long as the draft. */
struct policy_exclude policy_draft_exclude(const struct policy_draft *d, unsigned i);
/* "FILE:LINE" that leaves out what can be made again, or NULL. */
const char *policy_draft_skips_cost(const struct policy_draft *d);

/* A slot that a preset named and nobody filled, or NULL: worth a word to the user. */
const char *policy_draft_unfilled(const struct policy_draft *d);
