/*
 * agent_state: what is kept of an agent's login, for each workspace by itself.
 *
 *   STATE/agents/<agent>/<key>/workspace     the workspace's path on the host
 *                             /home/<path>   a token file, 0600: the profile's `state` names it
 *
 * <key> is of the workspace's real path: whoever gets that path gets the login. Files go into the
 * guest before the agent's command runs and are taken from it when that has ended, while the guest
 * still runs. One that the agent has removed (a logout) is removed here; one that is not to be had
 * stays here as it was.
 *
 * A guest reads the token files it was given: they are no placeholders. What can be one belongs
 * under `secrets` of the profile, and never enters a guest (berm-agent(5)).
 *
 * Hostile   all that a guest has under these paths: kinds, sizes, content, silence. Of its words
 *           only the content is kept, under a name of the profile's
 * Limits    AGENT_STATE_MAX files of AGENT_STATE_BYTES_MAX, AGENT_STATE_TAKE_MS for all
 * Errors    -EINVAL, -EPROTO, -ECONNRESET (the guest has ended), and those of the disk
 */
#pragma once

#include "agents/agent.h"
#include "lib/client.h"

enum {
	AGENT_STATE_KEY_LEN = 32, /* hex of half a SHA-256 */
	AGENT_STATE_STREAMS = AGENT_STATE_MAX,
	AGENT_STATE_TAKE_MS = 20000, /* 1 MiB; a guest that needs longer does not answer */
	AGENT_STATE_WHY_MAX = 160,
	AGENT_STATE_LIST_MAX = 4096, /* workspaces of an agent that are looked at */
};

enum agent_state_fate {
	AGENT_STATE_ABSENT,  /* there was none */
	AGENT_STATE_MOVED,   /* it went in, or was taken */
	AGENT_STATE_REFUSED, /* why says why not */
};

struct agent_state_file {
	const char *path; /* of the profile, borrowed */
	enum agent_state_fate fate;
	char why[AGENT_STATE_WHY_MAX]; /* may have words of the guest's: escape it */
};

struct agent_state_report {
	unsigned count;
	struct agent_state_file files[AGENT_STATE_MAX];
};

/* A sandbox that runs, and where in it the agent's home is. All is borrowed. */
struct agent_state_guest {
	struct client *client; /* a connection of its own: one has one stream at a time */
	uint32_t stream;       /* the first of AGENT_STATE_STREAMS ids that were never used */
	const char *home;      /* absolute */
	const char *user;      /* who owns the files there */
};

/*
 * Puts the files that are kept for this workspace into the guest. root: its path on the host. A
 * file that does not get there is REFUSED, and the rest goes on.
 */
_must_ int agent_state_put_in(int state_fd, const struct agent *a, const char *root,
                              const struct agent_state_guest *g, struct agent_state_report *ret,
                              struct err *e);

/* Takes them from the guest. A guest that stops answering leaves the rest REFUSED. */
_must_ int agent_state_take(int state_fd, const struct agent *a, const char *root,
                            const struct agent_state_guest *g, struct agent_state_report *ret,
                            struct err *e);

/* One file that is kept. Borrowed for the call. */
struct agent_state_kept {
	const char *workspace; /* "": it is not known */
	const char *path;
	uint64_t bytes, mtime_ns;
};

/*
 * What is kept of an agent, named by the profile or not, in the order of keys and names. found()
 * other than 0 ends it and is returned.
 */
_must_ int agent_state_list(int state_fd, const char *agent,
                            int (*found)(void *arg, const struct agent_state_kept *k), void *arg,
                            struct err *e);

/* Removes what is kept for a workspace; root NULL: for all. ret_count: workspaces that had some. */
_must_ int agent_state_forget(int state_fd, const char *agent, const char *root,
                              unsigned *ret_count, struct err *e);
