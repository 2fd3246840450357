/*
 * saved: a machine at rest on disk, as a directory.
 *
 *   <name>/ram       guest memory, sparse; mapped privately by every restore
 *   <name>/state     the engine's device state
 *   <name>/scratch   the scratch disk of that moment, sparse
 *   <name>/meta      of each file its size, inode, change time and hash; then a note, with its own:
 *                    whatever who saved it wants to be told again
 *   <name>/wset      which pages of ram a guest needs first, once that was learned. Nothing vouches
 *                    for it, and nothing but speed depends on it
 *   <name>/verified  the boot of this machine in which the hashes were last checked
 *   .tmp-<random>/   a draft: one in the making, with a file `lock` held by its maker; or one that
 *                    is being removed
 *
 * Templates (template.h) and snapshots (lib/snapshot.h) are both this, in folders of their own.
 *
 * Trust     The inode's change time tells for nothing that a file is the one that was saved (nobody
 *           but the clock sets it); once after each boot of the host the contents are hashed as
 *           well, as a disk may have lost some.
 * Owns      fds in the structs, until saved_close() or draft_close()
 */
#pragma once

#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	SAVED_NAME_MAX = 80,        /* a snapshot's own, or ".tmp-" and 16 digits */
	SAVED_NOTE_MAX = 704 << 10, /* a whole specification and what was before it */
	SAVED_META_MAX = SAVED_NOTE_MAX + 1024,
};

struct saved {
	int ram_fd; /* read only, as are all */
	int state_fd;
	int scratch_fd;
	int wset_fd; /* or -1 */
};

struct draft {
	int dir_fd;
	int lock_fd; /* of the .tmp directory */
	int ram_fd;  /* read-write, as are all */
	int state_fd;
	int scratch_fd;
	char dir[SAVED_NAME_MAX];
};

void saved_init(struct saved *s);
void saved_close(struct saved *s);
void saved_close_scope(struct saved *s);
void draft_init(struct draft *d);
void draft_close(struct draft *d);
void draft_close_scope(struct draft *d);

/* What to make of a file that is not the inode that was saved, or was touched since. */
enum saved_trust {
	SAVED_STRICT, /* it is damaged */
	SAVED_BY_HASH /* its contents decide: it may have been moved to another disk */
};

/*
 * Opens <name> and checks its files against its meta. ret_note is the caller's to free, and has a
 * NUL behind it. -ENOENT: there is none. -ESTALE: it is damaged, and the text says what.
 */
_must_ int saved_open(int parent_fd, const char *name, enum saved_trust trust, struct saved *ret,
                      char **ret_note, size_t *ret_note_len, struct err *e);

/* Its note alone: its files are not looked at. Same errors. */
_must_ int saved_note(int parent_fd, const char *name, char **ret_note, size_t *ret_note_len,
                      struct err *e);

/* The same files once more, read only and each with an offset of its own: a guest reads its own. */
_must_ int saved_reopen(const struct saved *s, struct saved *ret, struct err *e);

/* Bytes on disk; 0 where it cannot be told. */
uint64_t saved_disk_bytes(int parent_fd, const char *name);

/* Moves it out of sight in one step, then removes it. -ENOENT: there is none. */
int saved_remove(int parent_fd, const char *name, struct err *e);

/* A hash of a file's bytes; holes and zeros count alike, offsets do not matter to it otherwise. */
_must_ int saved_hash(int fd, uint64_t *ret, struct err *e);

/* An empty draft with its files: ram of ram_bytes, scratch of disk_bytes, both all hole. */
_must_ int draft_new(int parent_fd, uint64_t ram_bytes, uint64_t disk_bytes, struct draft *ret,
                     struct err *e);
/* The same in two steps, for who says the name before anything of it is there. */
void draft_name(char ret[SAVED_NAME_MAX]);
_must_ int draft_new_as(int parent_fd, const char name[SAVED_NAME_MAX], uint64_t ram_bytes,
                        uint64_t disk_bytes, struct draft *ret, struct err *e);

/* Has the files on disk, hashes them, and writes meta. Takes as long as the disk does. */
_must_ int draft_seal(struct draft *d, struct span note, struct err *e);

/* Gives a sealed draft its name, in one step. -EEXIST: the name is taken, unless `replace`. */
_must_ int draft_publish(int parent_fd, struct draft *d, const char *name, bool replace,
                         struct err *e);

/* Removes the draft's directory and closes the draft. Harmless after draft_publish(). */
void draft_discard(int parent_fd, struct draft *d);
