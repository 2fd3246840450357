/*
 * agents: the profiles of agents as the verbs meet them: where they are, and the flags about one.
 */
#pragma once

#include "agents/agent.h"
#include "cli/cli.h"

struct agent_places {
	struct agent_where where;
	char user_path
		[PATH_MAX]; /* $XDG_CONFIG_HOME/berm/agents, or beneath ~/.config; "": neither */
};

/* A folder that is not there is none; the user's is not made. */
_must_ int agent_places_open(struct agent_places *p, struct cli *c, struct err *e);
void agent_places_close(struct agent_places *p);

static inline void agent_places_close_scope(struct agent_places *p)
{
	agent_places_close(p);
}

/* --- flags about one agent; the ids are for any verb's table --- */

enum {
	AGENT_OPT_IMAGE = 920, /* beyond those of egress.h, which a table may have as well */
	AGENT_OPT_EGRESS,
	AGENT_OPT_CPUS,
	AGENT_OPT_MEMORY,
	AGENT_OPT_DISK,
};

/* clang-format off */
#define AGENT_ROWS                                                                                 \
	{ AGENT_OPT_IMAGE, 0, "image", "IMAGE", COMPLETE_IMAGE, "instead of the profile's" },      \
	{ AGENT_OPT_EGRESS, 0, "egress", "model-only|locked|standard", COMPLETE_NONE,              \
	  "what it may reach" },                                                                   \
	{ AGENT_OPT_CPUS, 0, "cpus", "N", COMPLETE_NONE, "instead of the profile's" },             \
	{ AGENT_OPT_MEMORY, 0, "memory", "SIZE", COMPLETE_NONE, "instead of the profile's" },      \
	{ AGENT_OPT_DISK, 0, "disk", "SIZE", COMPLETE_NONE, "instead of the profile's" }
/* clang-format on */

/* What these flags say, NULL and 0 where they are not given. Borrows from a. */
_must_ int agent_flags_read(const struct args *a, struct agent_flags *ret, struct err *e);

/*
 * The profile as a session would have it: the files, then what the workspace's own file tightens
 * (workspace NULL: none is looked at), then the flags. Notices are printed as warnings.
 */
_must_ int agent_find(const struct agent_places *p, const char *name, const char *workspace,
                      const struct agent_flags *f, struct agent **ret, struct err *e);
