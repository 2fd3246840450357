/*
 * snapshot: a sandbox that ran, saved: under a name, or on its way into the forks of it.
 *
 *   snapshots/<name>/   a machine of engine/saved.h; its note is that of snapshot_note.h
 *
 * It is whole when it appears, and is never evicted. It is bound to what it was made with: the
 * engine, the guest kernel, the agent, the processor, the image (snapshot_check). A copy of it is
 * another guest with an identity of its own, started with start_copy().
 */
#pragma once

#include "lib/client.h"
#include "lib/start.h"
#include "state/paths.h"
#include "state/snapshot_note.h"

#include "engine/saved.h"

enum {
	SNAPSHOT_LISTED_MAX = 4096,
};

struct snapshot {
	char name[SPEC_NAME_MAX + 1]; /* "": a fork's */
	struct saved files;
	struct snapshot_note note;
	struct spec spec; /* its strings live in the struct; name, detach and such are not set */
	/* its own */
	char *text;
	void *lists;
};

void snapshot_free(struct snapshot *s);
OWN_DEFINE(struct snapshot, snapshot_free)

/*
 * Opens the snapshot of that name. -EINVAL: it cannot be one's name; -ENOENT; -ESTALE: it is
 * damaged, and the text says what; -ENOTSUP: it is another version's.
 */
_must_ int snapshot_open(int state_fd, const char *name, struct snapshot **ret, struct err *e);

/*
 * Is what it was made with what is installed here? -EXDEV: the text says the first thing that
 * differs. Also what opening kernel, agent and engine can meet.
 */
_must_ int snapshot_check(const struct snapshot *s, const struct paths *p, struct err *e);

/* Its own specification, for a copy to be changed: pointers are borrowed from s. */
struct spec snapshot_spec(const struct snapshot *s);

/* The image it runs on, in use while the struct lives. -ENOENT says what to import. */
struct image;
_must_ int snapshot_image(const struct snapshot *s, int state_fd, const struct paths *p,
                          struct image **ret, struct err *e);

/* --- asked of a sandbox's supervisor; each call waits for its end --- */

/* Saves under a name. -EEXIST unless `replace`; -ENOSPC, -EBUSY, -ESHUTDOWN, -ETIMEDOUT. */
_must_ int snapshot_take(struct client *c, const char *name, bool replace, struct err *e);

/* Saves without a name: for copies to be started at once. Same errors. */
_must_ int snapshot_fork(struct client *c, struct snapshot **ret, struct err *e);

/*
 * Has it stand still, and go on; that it does so already is success. -EAGAIN: it is starting;
 * -EBUSY, -ESHUTDOWN, -ETIMEDOUT: it does not come to rest, and runs on; -ENOTSUP: its engine
 * cannot.
 */
_must_ int snapshot_pause(struct client *c, struct err *e);
_must_ int snapshot_resume(struct client *c, struct err *e);

/*
 * The parts of these, for callers with a loop of their own: what a DONE says, and what it brought
 * for copies to be started at once.
 */
_must_ int snapshot_done(const struct wire_frame *f, struct err *e);
_must_ int snapshot_receive(struct client *c, struct snapshot **ret, struct err *e);

/* --- those that are there --- */

struct snapshot_row {
	char name[SPEC_NAME_MAX + 1];
	uint64_t created_ns, disk_bytes;
	char id[SPEC_ID_LEN + 1]; /* of the sandbox it was taken of; "" if it is damaged */
	char image_id[64 + 1];    /* "" if it is damaged */
	char image[SPEC_IMAGE_MAX + 1];
	char command[256]; /* for people: words joined by blanks, cut */
	uint8_t engine;    /* enum spec_engine */
	uint64_t memory_bytes;
	bool damaged; /* its note; the files are not looked at */
};

struct snapshot_list {
	struct snapshot_row *rows; /* newest first */
	size_t count;
};

_must_ int snapshot_list(int state_fd, struct snapshot_list **ret, struct err *e);
void snapshot_list_free(struct snapshot_list *l);
OWN_DEFINE(struct snapshot_list, snapshot_list_free)

/* -ENOENT. Copies that run are not touched by it. */
_must_ int snapshot_remove(int state_fd, const char *name, struct err *e);
