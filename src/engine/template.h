/*
 * template: a saved machine that many sandboxes start from.
 *
 *   templates/<hash of the key>/       see saved.h; the note is the whole key
 *   templates/<hash of the key>.lock   held by whoever builds it, whose pid it says; gone with him
 *
 * Trust     A template is used only if its key is ours letter by letter and no file has changed
 *           since it was saved. Whatever fails is removed and built anew.
 */
#pragma once

#include "engine/saved.h"

enum {
	TEMPLATE_KEY_MAX = 16 << 10, /* paths, ids and the warm-up commands */
	TEMPLATE_NAME_MAX = 32,
	TEMPLATE_KEPT_MAX = 16, /* the least recently used go first when one more is saved */
};

/* The right to build one template. */
struct template_lock {
	int templates_fd; /* borrowed */
	int fd;           /* -1: not held */
	char name[TEMPLATE_NAME_MAX + 8];
};

/* How to wait for it. */
struct template_wait {
	uint64_t timeout_ms;
	void (*waiting)(void *arg); /* once, if somebody else has it */
	void *arg;
};

/*
 * Opens the template of `key`. -ENOENT: there is none (any more: a damaged one was just removed,
 * and e says why).
 */
_must_ int template_open(int templates_fd, struct span key, struct saved *ret, struct err *e);

void template_lock_init(struct template_lock *l);

/*
 * Waits until no other process builds this key, then holds the right to. After it, look again with
 * template_open(): the other one may have finished. -ETIMEDOUT after timeout_ms.
 */
_must_ int template_lock(int templates_fd, struct span key, const struct template_wait *w,
                         struct template_lock *ret, struct err *e);

/* Gives the right back and removes its file. Harmless when it is not held. */
void template_unlock(struct template_lock *l);
void template_unlock_scope(struct template_lock *l);

/* Removes a lock file, by its name in templates/, if its builder died and nobody waits for it. */
void template_sweep_lock(int templates_fd, const char *name);

/* Makes the draft the template of `key`, in one step. On failure the draft is removed. */
_must_ int template_commit(int templates_fd, struct draft *d, struct span key, struct err *e);

/* A working set that is being written, beside its place: nobody sees it before it is whole. */
struct template_wset {
	int templates_fd; /* borrowed */
	int fd;           /* the empty file to write to */
	char path[2 * TEMPLATE_NAME_MAX], place[2 * TEMPLATE_NAME_MAX];
};

void template_wset_init(struct template_wset *w);

/* For the template of `key`. -ENOENT: there is none. -EEXIST: it has one. */
_must_ int template_wset_new(int templates_fd, struct span key, struct template_wset *ret,
                             struct err *e);

/* It is whole: gives it its place. -ENOENT: the template is gone. */
_must_ int template_wset_commit(struct template_wset *w, struct err *e);

/* Removes what was not given its place. Harmless twice. */
void template_wset_close(struct template_wset *w);
void template_wset_close_scope(struct template_wset *w);

/* Removes the template of `key`, for one that a restore could not use. */
void template_drop(int templates_fd, struct span key);
