/*
 * gitdir: how git repositories enter a guest.
 *
 * Theory of operation
 *
 * gitdir_judge() is the packer's judge (pack.h); it asks another one, `next`, for all that is no
 * business of git. It keeps track of which git directories the walk is in. Those are found by their
 * name, ".git", and by their shape: HEAD beside objects and refs (bare and embedded ones, those of
 * submodules in modules/), or HEAD beside commondir (those of worktrees in worktrees/).
 *
 * What happens to what is in one:
 *
 *   config, config.worktree   written anew by gitconfig_clean(); what is no configuration, or a
 *                             link, does not enter. In modules/ and worktrees/ at any depth
 *   hooks                     do not enter, whatever they are
 *   FETCH_HEAD, logs/         enter without the users and passwords of URLs in them
 *   *.lock, gc.pid, tmp_*     do not enter: they belong to a git that runs on the host
 *   *credential*, *cookie*    at the top, and annex/creds: do not enter
 *   objects/info/alternates   entries inside the workspace stay, made relative; others do not, and
 *                             are noted: a repository cannot ask for the objects of another one
 *   all else                  enters: refs, index, info/exclude and info/attributes (whose filters
 *                             are named in a configuration that has none), lfs, rr-cache, shallow
 *
 * Of a directory called .git what makes the repository whole (objects, refs, logs, HEAD, index and
 * so on) is not asked of `next`: a branch may be called build. The rest is, and so is everything in
 * a git directory that is one by its shape alone: shape must not open a way around a secret tier.
 *
 * A file called .git points to a git directory. One inside the workspace stays, made relative where
 * it was not. One outside enters as a directory, in place of the pointer, if that git directory
 * points back to this very place; else a workspace could ask for any repository of its user:
 *
 *   a linked worktree     the worktree's own directory (HEAD, index, ...) with objects, refs, logs,
 *                         info, packed-refs, shallow, lfs, rr-cache and configuration of its
 *                         repository. No other worktree's state, and not the main one's
 *   a git directory       as it is, if its core.worktree names the place: a submodule's, of a
 *                         submodule that is packed alone. Of init --separate-git-dir only once
 *                         core.worktree is set, which git does not do by itself
 *
 * All others enter as the file they are, and are noted. A link called .git is a link.
 *
 * Without history (`history` false) objects, refs, logs, index and all that refers to commits stay
 * out. What enters is a repository before its first commit, on the same branch, with its
 * configuration and info/exclude. A commit made in it has no parent. A shallow history, which would
 * hold the last commit alone, is not offered: packs hold old and new objects side by side, and
 * would have to be written anew.
 *
 * Hostile   everything in the workspace; of what is outside nothing is followed but pointers that
 *           are proved as above, and those through no link
 * Owns      copies of texts, one at a time, and the fds of one repository outside at a time
 */
#pragma once

#include "base/buf.h"
#include "work/pack.h"

enum {
	GITDIR_NOTES_MAX = 256,          /* remarks remembered; more are counted */
	GITDIR_NOTE_TEXT_MAX = 512,      /* bytes of one's text; longer ones are cut */
	GITDIR_POINTER_MAX = 4096 + 32,  /* a .git file: one path */
	GITDIR_ALTERNATES_MAX = 1 << 16, /* bytes of a file of them */
	GITDIR_CONFIG_OUT_MAX = 4 << 20, /* a configuration written anew: each key has its header */
	GITDIR_MOVED_MAX = 16,           /* repositories from outside, remembered for submodules */
	GITDIR_GUEST_MAX = 4096, /* bytes of gitdir_put_guest_config() and of the environment */
};

struct gitdir_options {
	bool history;         /* objects and refs enter; false: see above */
	struct span guest_at; /* the workspace's path in the guest, copied; "" leaves pointers back
	                         from a repository to its worktrees as they are */
	pack_judge_fn *next;  /* may be NULL */
	void *next_arg;
};

struct gitdir;

/* root_fd is borrowed until gitdir_free(). One object is for one walk. */
_must_ int gitdir_new(int root_fd, const struct gitdir_options *opt, struct gitdir **ret,
                      struct err *e);
void gitdir_free(struct gitdir *g);
OWN_DEFINE(struct gitdir, gitdir_free)

/* A pack_judge_fn; arg is the struct gitdir. */
_must_ int gitdir_judge(void *arg, const struct pack_entry *entry, struct pack_answer *ret,
                        struct err *e);

/* What a walk has met that a person should hear of. `text` says more; both are outside text. */
enum gitdir_note {
	GITDIR_NOTE_HISTORY,    /* this repository's objects enter, with all its history */
	GITDIR_NOTE_NO_HISTORY, /* they do not */
	GITDIR_NOTE_CONFIG,     /* text: a key that did not enter as it is, and why */
	GITDIR_NOTE_CONFIG_BAD, /* no configuration of git; text: why */
	GITDIR_NOTE_URLS,       /* a file entered without the passwords in it */
	GITDIR_NOTE_WORKTREE,   /* text: the repository outside that this worktree is of */
	GITDIR_NOTE_SEPARATE,   /* text: the git directory outside that names this worktree */
	GITDIR_NOTE_REWRITTEN,
	GITDIR_NOTE_OUTSIDE,    /* text: where a .git file points to, which does not point back */
	GITDIR_NOTE_NOWHERE,    /* text: where a .git file points to, and nothing is there */
	GITDIR_NOTE_ALTERNATES, /* text: objects outside that do not enter */
	GITDIR_NOTE_COUNT,
};

const char *gitdir_note_text(enum gitdir_note n);

typedef int gitdir_note_fn(void *arg, enum gitdir_note note, struct span path, struct span text,
                           struct err *e);

/* Those that were remembered, in the order they were met. */
_must_ int gitdir_each_note(const struct gitdir *g, gitdir_note_fn *each, void *arg, struct err *e);
/* How many there were in all. */
uint64_t gitdir_count_notes(const struct gitdir *g, enum gitdir_note note);

/* -- what git in the guest has to be told -- */

/*
 * A packed tree has other inodes and change times than git's index remembers, and belongs to the
 * guest's user whoever looks. These settings make status trust times and sizes, so that it reads no
 * file again; keep a repack from carrying the whole history into the proposal; and let everybody in
 * the guest use its repositories.
 *
 * The first is text for the end of the guest's /etc/gitconfig; the second the same as variables
 * (GIT_CONFIG_COUNT and its like, git 2.31), each with a NUL behind it, which no file in the image
 * can lose and which win over a repository's own. Use both: programs drop variables. At most
 * GITDIR_GUEST_MAX bytes each.
 */
void gitdir_put_guest_config(struct buf *out);
void gitdir_put_guest_env(struct buf *out);

/* -- pure parts, gitdir_parse.c -- */

/* The path of a .git file, "gitdir: PATH" and line ends. -EBADMSG: it is none. */
_must_ int gitdir_parse_pointer(struct span text, struct span *ret_path);

/*
 * A path as git resolves it from a directory `depth` below the workspace's root: relative, and with
 * no step on its way above the root.
 */
_must_ bool gitdir_path_stays(struct span path, unsigned depth);

/*
 * The next piece of a text with URLs in it: what is before a user and password, which are left out.
 * Write each piece and no more. False at the end. ret_cut: something was left out behind it.
 */
_must_ bool gitdir_take_uncut(struct span *text, struct span *ret_piece, bool *ret_cut);
