/*
 * egress: the flags about what a guest may reach, put together to one policy.
 *
 * Verbs that take them have EGRESS_ROWS in their table and give each such option to egress_take(),
 * in the order of the command line. The order does not change what the policy says.
 */
#pragma once

#include "cli/cli.h"
#include "lib/egress_plan.h"
#include "lib/publish.h"
#include "policy/draft.h"
#include "policy/policy.h"
#include "state/jread.h"
#include "state/strings.h"

enum {
	EGRESS_ALLOW = 900,
	EGRESS_DENY,
	EGRESS_PRESET,
	EGRESS_SECRET,
	EGRESS_POLICY,
	EGRESS_PUBLISH, /* where it is in the table as well */
};

/* clang-format off */
#define EGRESS_RULE_ROWS \
	{ EGRESS_ALLOW, 0, "allow", "HOST[:PORT]", COMPLETE_NONE, \
	  "let it reach this host; repeatable" }, \
	{ EGRESS_DENY, 0, "deny", "HOST[:PORT]", COMPLETE_NONE, \
	  "never this one, whatever allows it; repeatable" }, \
	{ EGRESS_PRESET, 0, "preset", "NAME", COMPLETE_PRESET, \
	  "none, model-only, registries, locked, standard or permissive" }, \
	{ EGRESS_SECRET, 0, "secret", "NAME@HOST[,HOST]", COMPLETE_NONE, \
	  "a credential for these hosts, never in the guest; repeatable" }
#define EGRESS_POLICY_ROW \
	{ EGRESS_POLICY, 0, "policy", "FILE", COMPLETE_FILE, \
	  "what it may reach, as berm-policy(5) has it; - is stdin" }
#define EGRESS_PUBLISH_ROW \
	{ EGRESS_PUBLISH, 'p', "publish", "[ADDR:]HOST:GUEST", COMPLETE_NONE, \
	  "let connections to a port of the host in; repeatable" }
/* clang-format on */

static inline bool egress_is_opt(int id)
{
	return id >= EGRESS_ALLOW && id <= EGRESS_PUBLISH;
}

struct image_meta;

struct egress {
	struct policy_draft *draft; /* NULL: no flag about rules was there */
	int presets_fd;             /* -1: not opened */
	char *typed;                /* a policy from stdin, which can be read once; NULL: none */
	size_t typed_len;
	unsigned ports_count;
	struct publish ports[EGRESS_PORTS_MAX];
	/* after egress_prepare() */
	uint8_t *tlv; /* NULL: none of the flags about rules was there */
	size_t tlv_len;
	unsigned values_count;
	struct egress_secret values[CONTROL_SECRETS_MAX];
};

/* Is any of the flags there, so that the guest is to have a network? */
static inline bool egress_wanted(const struct egress *g)
{
	return g->draft || g->ports_count > 0;
}

void egress_init(struct egress *g);
void egress_fini(struct egress *g);

static inline void egress_fini_scope(struct egress *g)
{
	egress_fini(g);
}

/* Makes g->draft, if there is none yet: for rules that are no flags. */
_must_ int egress_begin(struct egress *g, struct cli *c, struct err *e);

/* One option, or a policy file by its name. -EINVAL: the text has flag or line and what to do. */
_must_ int egress_take(struct egress *g, struct cli *c, const struct arg *o, struct err *e);
_must_ int egress_take_file(struct egress *g, struct cli *c, const char *path, struct err *e);

/* The compiled form, the caller's to free, and the same loaded, if ret_policy is not NULL. */
_must_ int egress_compile(const struct egress *g, uint8_t **ret_tlv, size_t *ret_len,
                          struct policy **ret_policy, struct err *e);

/*
 * A secret that is also named with --env or --env-file would be in the guest, as it is; so would
 * one whose value is in another of them, as far as that is in our environment. env is NULL-ended.
 * -EINVAL.
 */
_must_ int egress_check_env(const struct egress *g, const char *const *env, struct err *e);

/* What is to be known of those, where the preset is used: there are none, or none of the image. */
void egress_say_registries(const struct strings *hosts, const struct image_meta *meta);

/*
 * Does a preset want to know the registries of the image? Then takes the flags about rules again,
 * with those of env (NULL-ended, NAME=VALUE) and of the image, NULL if it is gone. Warns where
 * there are none. See cli/registries.h. file: what was taken by egress_take_file() beside
 * the flags, or NULL.
 */
_must_ int egress_take_registries(struct egress *g, struct cli *c, const struct args *a,
                                  const char *file, const char *const *env,
                                  const struct image_meta *meta, struct err *e);

/*
 * Compiles the policy and reads the values of its secrets, but for those named in `have`, a JSON
 * list or NULL. Warns of what the policy says in vain. -ENOENT: a source is not there.
 */
_must_ int egress_prepare(struct egress *g, const struct cli *c, const json_t *have, struct err *e);

/* One line where a policy says something of workspaces: for verbs that pack none. */
void egress_say_workspace(const struct egress *g);

/* What was prepared, for one start; may be called for several. Listens on the ports. */
_must_ int egress_fill(const struct egress *g, struct egress_plan *plan, struct err *e);

/* "from the variable TOKEN"; and two JSON members, "from" and "source". */
void egress_put_source(struct buf *b, const struct policy_source *s);
void egress_put_source_json(struct buf *b, const struct policy_source *s);

/* One sentence of policy_notes(). */
void egress_put_note(struct buf *b, struct span who, const char *what, struct span other);

/* "sha256:..." */
void egress_put_digest(struct buf *b, const struct policy *p);

/*
 * All a policy says: rules, secrets, limits. sources, which may be NULL, says where the secrets'
 * values are. The second puts JSON members without braces.
 */
_must_ int egress_print_policy(const struct policy *p, const struct policy_draft *sources,
                               struct err *e);
_must_ int egress_print_policy_json(const struct policy *p, const struct policy_draft *sources,
                                    struct err *e);
