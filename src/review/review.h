/*
 * review: a session's proposal as a person decides on it: what changed, sorted by what it could do,
 * with the decisions made so far; and the plan of what was accepted.
 *
 * Theory of operation
 *
 * review_open() brings together what the other parts made of a session: the proposal's index (made
 * by the jailed job on first use, kept as proposal.idx), the three-way compare with the host as it
 * is now, the class of each change, the commits (commits*.stream), and the decisions of earlier
 * reviews. The order of items is that of the sections, then of paths.
 *
 * A decision is written down when it is made (decisions.jsonl, one synced line each), with a
 * fingerprint of what was decided on: both contents, kinds, modes, and what the host had. Whoever
 * opens the review again finds it, unless what it was about has changed; then the item is undecided
 * again and says so (RV_REDECIDE).
 *
 * What may be applied is a plan of the accepted items, closed under what they need: a new
 * file's new directory, a renamed directory for what was edited in it. An accepted item whose need
 * was rejected is not applied, and says so. review_apply() hands the plan to apply.h and writes
 * down which items are done.
 *
 * Hostile   the proposal and everything of it: paths, contents, commits. Nothing here prints; who
 *           shows a text escapes it (base/buf.h)
 * Trusts    the session directory; decisions.jsonl is read strictly all the same
 * Executes  only berm-unpack and berm-diff, jailed
 * Limits    COMPARE_CHANGES_MAX items; contents up to HUNK_TEXT_MAX are compared line by line
 */
#pragma once

#include "work/apply.h"
#include "work/class.h"
#include "work/compare.h"
#include "work/gitobj.h"
#include "work/hunk.h"
#include "work/merge.h"
#include "work/pack.h"

enum {
	REVIEW_SESSION_MAX = 32,
	REVIEW_DECISIONS_BYTES_MAX = 1 << 30,
	REVIEW_COMMITS_MAX = 10000, /* listed; more are counted */
	REVIEW_REPOS_MAX = 64,      /* within a workspace: each is read by a job of its own */
	/* Of what was packed in a renamed directory, each judged at its new place; with more the
	 * renaming is X0. */
	REVIEW_RENAMED_MAX = 1 << 16,
};

/* The pack's report in the session's directory. */
#define REVIEW_REPORT_NAME "pack.json"

/* What belongs together on the screen, in the order it is shown. */
enum review_section {
	REVIEW_X0 = 0, /* taken one by one, with its path typed */
	REVIEW_X1,
	REVIEW_X2,
	REVIEW_X3,
	REVIEW_CONFLICTS, /* of any class but X0: the class stands beside it */
	REVIEW_X4,
	REVIEW_PLAIN,
	REVIEW_IGNORED, /* what git would not list, by the base: taken if asked for */
	REVIEW_OUT,     /* never comes back, with why; nothing to decide */
	REVIEW_THERE,   /* the host has it already; nothing to decide */
	REVIEW_SECTIONS,
};

/* "plain edits"; and one sentence that says what it means for the user. Never NULL. */
const char *review_section_name(enum review_section s); /* "X0", ..., "plain": for JSON */
const char *review_section_title(enum review_section s);
const char *review_section_about(enum review_section s);

enum review_choice {
	REVIEW_UNDECIDED = 0,
	REVIEW_ACCEPT, /* of a conflict: the agent's; of CHANGE_BOTH without overlap: the merge */
	REVIEW_REJECT, /* the host's stays */
	REVIEW_HUNKS,  /* of an edit of text: some of its hunks */
};

enum {
	RV_REDECIDE = 1, /* it was decided, and then what it is about changed */
	RV_DONE = 2,     /* applied (or, rejected and everything is finished) */
	RV_CONSENT_LINKS =
		4, /* its user agreed to change one of several hard links (APPLY_BREAK_LINKS) */
	RV_DECIDABLE = 8,
	RV_TEXT = 16,  /* review_hunks() is worth asking */
	RV_NEEDS = 32, /* accepted, and what it needs is rejected: will not be applied */
	RV_HALF = 64,  /* done: the old name of a file that was renamed, counted with the new one */
};

struct review_item {
	const struct change *change; /* compare's; lives as long as the review */
	uint8_t section;             /* enum review_section */
	uint8_t class;               /* enum work_class */
	uint8_t choice;              /* enum review_choice */
	uint8_t flags;               /* RV_* */
	const char *reason;   /* of the class; or why it is in conflict or stays out; or NULL.
	                       * Of a conflict that has a class, change->why has the other one */
	const uint8_t *hunks; /* of REVIEW_HUNKS: hunk_count bytes, 1 is taken */
	uint32_t hunk_count;
};

/* The reason as it is shown, or NULL: once the item is applied, none of the host's own edits. */
const char *review_reason(const struct review_item *it);

struct review_on {
	int session_fd; /* borrowed: the session's directory; its lock is held by the caller */
	int root_fd;    /* the workspace on the host; borrowed */
	int spool_fd;   /* work_session_open_spool(); borrowed */
	struct apply_root root;  /* as the session was started on */
	const char *session;     /* its id; borrowed */
	const char *unpack_path; /* of berm-unpack and berm-diff, absolute; borrowed */
	const char *diff_path;
	const struct class_list *classes; /* borrowed */
	/* Told when something takes a while: "reading the proposal", done and of how many (0: not
	 * known). May be NULL. */
	void (*progress)(void *arg, const char *what, uint64_t done, uint64_t of);
	void *progress_arg;
	/* Said of each path by apply and undo; may be NULL. */
	void (*said)(void *arg, const char *path, enum apply_word w);
	void *said_arg;
};

struct review;

/*
 * Ends an interrupted apply first (apply_recover(); *ret_recovered, which may be NULL, says how).
 * -EPROTO: what the guest sent is no proposal, and why; -E2BIG: one that is refused; -EBADMSG: a
 * file of the session's is damaged; -ECANCELED: the jailed job crashed; -ESTALE: the workspace is
 * another directory than the one that was packed; else what compare says. Nothing of the session is
 * lost by any of them.
 */
_must_ int review_open(const struct review_on *on, struct review **ret,
                       enum apply_recovered *ret_recovered, struct err *e);
/*
 * Does it stay out, and would have run by itself or on an ordinary command (X0, X1)? Of all that a
 * git directory holds, what git runs or obeys: the rest is X0 only because nobody can tell.
 */
bool review_out_runs(const struct review_item *it);

void review_free(struct review *r);
OWN_DEFINE(struct review, review_free)

/* Items of a section are beside each other: [first, first + count). */
struct review_span {
	size_t first, count;
};
size_t review_count(const struct review *r);
const struct review_item *review_at(const struct review *r, size_t i);
struct review_span review_of(const struct review *r, enum review_section s);
/* Index of the item of that path (the guest's name of it), or SIZE_MAX. */
size_t review_find(const struct review *r, struct span path);

struct review_totals {
	uint64_t undecided, accepted, rejected,
		done; /* of what can be decided; done is in none else, without RV_HALF */
	uint64_t per_section[REVIEW_SECTIONS];
	uint64_t undecided_of[REVIEW_SECTIONS];
	uint64_t rejected_of[REVIEW_SECTIONS];
	uint64_t host_changes; /* of paths the agent touched, since the snapshot */
	uint64_t out_git;      /* of REVIEW_OUT, what lies in a git directory or came out of one */
	uint64_t
		git_objects; /* of out_git, that the agent made: review_repos() has their commits */
	uint64_t left_out;   /* records of the pack's report: see review_report() */
};
void review_totals(const struct review *r, struct review_totals *ret);

/* What did not enter the guest; NULL if it cannot be read. Borrowed. */
struct pack_report *review_report(struct review *r);

/* --- contents --- */

enum review_side { REVIEW_BASE, REVIEW_HOST, REVIEW_GUEST };

/* A content, whole, with a NUL behind it. Freed with free(). -E2BIG over max, which is at most
 * HUNK_TEXT_MAX; -ESTALE: the host's has changed since it was compared; -ENOENT: there is nothing
 * on that side; -EISDIR: a directory. Of a link: its target. */
_must_ int review_content(struct review *r, size_t i, enum review_side side, size_t max, char **ret,
                          size_t *ret_len, struct err *e);

/* sha256 of a content of any size; errors as review_content()'s. */
_must_ int review_digest(struct review *r, size_t i, enum review_side side, uint8_t ret[32],
                         struct err *e);

/* An edit line by line. Absent sides are empty texts. */
struct review_texts {
	char *base_text, *host_text, *guest_text; /* host_text NULL: as base */
	struct hunk_text *base, *host, *guest;    /* host NULL: as base */
	struct hunks *to_host;                    /* NULL: the host has what was packed */
	struct hunks *to_guest;
	uint8_t *fates; /* enum merge_fate of each of to_guest, if all of them were chosen */
	uint32_t conflicts;
};
void review_texts_free(struct review_texts *t);
OWN_DEFINE(struct review_texts, review_texts_free)

/*
 * Runs berm-diff, once or twice. -E2BIG, -ETIMEDOUT, -ECANCELED: it cannot be shown line by line,
 * and can be decided on as a whole; -EINVAL: it is no text or no edit.
 */
_must_ int review_hunks(struct review *r, size_t i, struct review_texts **ret, struct err *e);

/* --- decisions --- */

/*
 * Decides on one. `typed`, of REVIEW_ACCEPT in REVIEW_X0, must be the item's path as
 * review_put_typed() writes it: -EPERM otherwise. REVIEW_UNDECIDED takes a decision back. -EINVAL:
 * nothing to be decided here, or done already. -EPERM also of a conflict whose agent's side cannot
 * be taken (a renaming to where something is, or over what is no file): the text says what to do.
 * -ESTALE: of a merge, the host's text has changed since it was compared.
 */
_must_ int review_decide(struct review *r, size_t i, enum review_choice choice, struct span typed,
                         struct err *e);
/* Of a text: chosen has to_guest->count bytes. All of them is ACCEPT, none REJECT. Not of X0. */
_must_ int review_decide_hunks(struct review *r, size_t i, const struct review_texts *t,
                               const uint8_t *chosen, struct err *e);
/* Consent to break a hard link. */
_must_ int review_consent_links(struct review *r, size_t i, bool yes, struct err *e);

/*
 * Decides on all undecided ones of a section (and, if below is not "", beneath a directory).
 * ACCEPT of REVIEW_X0 and of conflicts: -EPERM, they are taken one by one. REVIEW_UNDECIDED takes
 * back what was decided of them. One synced write.
 */
_must_ int review_decide_all(struct review *r, enum review_section s, struct span below,
                             enum review_choice choice, uint64_t *ret_count, struct err *e);

/* Takes back what was decided of these: items of any section. Those that are done or undecided stay
 * as they are. One synced write. */
_must_ int review_take_back(struct review *r, const uint32_t *items, size_t count, struct err *e);

/*
 * What a person types to accept an X0 item: the path, escaped, and its own backslashes doubled, so
 * that no two paths are typed alike.
 */
void review_put_typed(const struct review *r, size_t i, struct buf *out);

/* --- applying --- */

struct review_outcome {
	struct apply_result applied;
	uint64_t items;        /* that are done by it */
	uint64_t back;         /* that went back to review */
	uint64_t needs;        /* accepted, and not applied: RV_NEEDS */
	uint32_t commits_refs; /* side refs that were written */
};

/*
 * Applies what is accepted and not done; commits as well, with `commits`. Afterwards the changes
 * are compared anew where they were not applied (indexes of items change). Errors as apply_run();
 * an error of the commits' import is told and fails nothing else: *ret_commits_e.
 */
_must_ int review_apply(struct review *r, enum apply_mode mode, bool commits,
                        struct review_outcome *ret, struct err *ret_commits_e, struct err *e);

/* Undoes the newest apply; its items can be decided on again. -ENOENT. */
_must_ int review_undo(struct review *r, enum apply_mode mode, struct review_outcome *ret,
                       struct err *e);

/*
 * The same without a review, of a session whose base is not there any more: an undo takes its undo
 * store alone. Of `on` are used: root_fd, root, session_fd, session, said. First the end of an
 * interrupted apply or undo, as review_open() has it; errors as its.
 */
_must_ int review_recover(const struct review_on *on, enum apply_recovered *ret, struct err *e);
_must_ int review_undo_files(const struct review_on *on, enum apply_mode mode,
                             struct review_outcome *ret, struct err *e);

/* --- commits --- */

/* A repository of the workspace's: its own, a submodule's, or one in a directory of it. */
struct review_repo {
	struct span git_dir;    /* ".git", ".git/modules/NAME", "sub/.git" */
	struct span at;         /* where its files are: "" for the workspace's own, "sub" */
	struct gitobj *commits; /* what the agent committed there; NULL: nothing comes back */
	const char *why;        /* of NULL; never NULL, "" if nothing was committed */
	bool nowhere;           /* of NULL: within the workspace, and the host has none there */
	uint64_t objects;       /* of git, that the agent made in it */
};

/*
 * How many: the workspace's own is the first, whatever is in it; of others those in which the agent
 * made objects, REVIEW_REPOS_MAX at most. The first call reads them.
 */
size_t review_repos(struct review *r);
/* i < review_repos(), which has been called. */
const struct review_repo *review_repo(const struct review *r, size_t i);

/* Of all repositories together. */
void review_repos_totals(struct review *r, struct gitobj_totals *ret);
