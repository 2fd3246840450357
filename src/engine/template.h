/*
 * template: a saved guest that many sandboxes start from.
 *
 *   templates/<name>/ram       guest memory, sparse; mapped privately by every restore
 *   templates/<name>/state     QEMU's device state
 *   templates/<name>/scratch   the scratch disk as it was at the save, sparse
 *   templates/<name>/meta      the whole key, and of each file its size, inode, change time and
 *                              hash
 *   templates/<name>/verified  the boot of this machine in which the hashes were last checked
 *   templates/<name>.lock      held by whoever builds it
 *   templates/.tmp-<random>/   one being built, with a lock file held by its builder
 *
 * Trust     A template is used only if its key is ours letter by letter and no file has changed
 *           since it was saved. The inode's change time tells that for nothing (nobody but the
 *           clock sets it); once after each boot of the machine the contents are hashed as well, as
 *           a disk may have lost some. Whatever fails is removed and built anew.
 * Owns      fds in the structs, until template_close() or draft_close()
 */
#pragma once

#include "base/err.h"
#include "base/span.h"

#include <stdint.h>

enum {
	TEMPLATE_KEY_MAX = 16 << 10, /* paths, ids and the warm-up commands */
	TEMPLATE_META_MAX = TEMPLATE_KEY_MAX + 1024,
	TEMPLATE_NAME_MAX = 32,
	TEMPLATE_KEPT_MAX = 16, /* the least recently used go first when one more is saved */
};

struct template
{
	int ram_fd; /* read only, as are all */
	int state_fd;
	int scratch_fd;
};

struct template_draft {
	int dir_fd;
	int lock_fd; /* of the .tmp directory */
	int ram_fd;  /* read-write, as are all */
	int state_fd;
	int scratch_fd;
	char dir[TEMPLATE_NAME_MAX];
};

void template_init(struct template *t);
void template_close(struct template *t);
void template_close_scope(struct template *t);
void draft_init(struct template_draft *d);
void draft_close(struct template_draft *d);
void draft_close_scope(struct template_draft *d);

/*
 * Opens the template of `key`. -ENOENT: there is none (any more: a damaged one was just removed,
 * and e says why).
 */
_must_ int template_open(int templates_fd, struct span key, struct template *ret, struct err *e);

/*
 * Waits until no other process builds this key, then holds the right to. After it, look again with
 * template_open(): the other one may have finished. -ETIMEDOUT after timeout_ms.
 */
_must_ int template_lock(int templates_fd, struct span key, uint64_t timeout_ms, int *ret_lock_fd,
                         struct err *e);

/* An empty draft with its files: ram of ram_bytes, scratch of disk_bytes, both all hole. */
_must_ int draft_new(int templates_fd, uint64_t ram_bytes, uint64_t disk_bytes,
                     struct template_draft *ret, struct err *e);

/* Makes the draft the template of `key`, in one rename. On failure the draft is removed. */
_must_ int draft_commit(int templates_fd, struct template_draft *d, struct span key, struct err *e);

/* Removes the draft's directory. */
void draft_discard(int templates_fd, struct template_draft *d);

/* Removes the template of `key`, for one that a restore could not use. */
void template_drop(int templates_fd, struct span key);
