/* review_inner: what the parts of review share. */
#pragma once

#include "review/decision.h"
#include "review/links.h"
#include "review/review.h"

enum { REVIEW_DIGEST_BYTES = 32 };

/* decisions.jsonl, open. */
struct review_log {
	int fd;
	uint64_t bytes; /* of whole lines; what is behind them was torn and does not count */
};

/* Makes the file if it is not there. */
_must_ int review_log_open(int session_fd, struct review_log *ret, struct err *e);
/* The path is raw. Both live for the call. Not 0 ends it. */
typedef int review_log_fn(void *arg, const struct decision *d, struct span path, struct err *e);
/* -EBADMSG names the line. */
_must_ int review_log_each(struct review_log *l, review_log_fn *each, void *arg, struct err *e);
/* All of the lines, synced; or none of them counts. */
_must_ int review_log_add(struct review_log *l, struct span lines, struct err *e);

/* Lines on their way to the log. */
struct review_lines {
	uint8_t *at;
	size_t len, room;
};
_must_ int review_lines_add(struct review_lines *l, struct span path, const struct decision *d,
                            struct err *e);
void review_lines_clear(struct review_lines *l);

/* Adds to r->links those that the host has now; compare has been run. */
_must_ int review_look(struct review *r, struct err *e);

/* What is kept beside an item. */
struct review_more {
	uint8_t what[DECISION_KEY_BYTES], host[DECISION_KEY_BYTES];
	uint8_t result[DECISION_RESULT_BYTES];
	bool has_result, ignored;
	uint8_t stale;       /* enum review_choice: of a decision about what is not so any more */
	uint32_t generation; /* of RV_DONE */
	uint8_t *hunks;      /* owned; what the item shows */
};

struct review {
	struct review_on on;
	int image_fd, manifest_fd, index_fd;
	struct base *base;
	struct proposal *proposal;
	struct compare *compare;
	struct pack_report *report; /* NULL: cannot be read */
	struct review_links *links;
	struct pack_totals left_out;
	struct review_log log;
	struct review_item *items; /* by section, then path */
	struct review_more *more;  /* beside them */
	uint32_t *of_change;       /* the item of each change, which are in the order of paths */
	size_t count;
	struct review_span spans[REVIEW_SECTIONS];
	struct review_git *git; /* repositories, the workspace's own first; review_commits.c */
	size_t git_count;
	bool git_asked; /* they were looked for, and their commits read */
};

static inline bool review_is_gone(const struct change *c)
{
	return c->op == CHANGE_DELETE;
}

/* Has it something to be decided, and is not done? */
static inline bool review_is_open(const struct review_item *it)
{
	return (it->flags & RV_DECIDABLE) != 0 && (it->flags & RV_DONE) == 0;
}

/* review_files.c: base, manifest, report, index and proposal of r->on. */
_must_ int review_files_open(struct review *r, struct err *e);

/* review_list.c: compares, judges, reads the decisions; what was there before is replaced. */
_must_ int review_list_make(struct review *r, struct err *e);
void review_list_drop(struct review *r);
/* Which of compare's it is. */
size_t review_change_index(const struct review *r, const struct change *c);
/* The item of that side of a path; SIZE_MAX. */
size_t review_find_side(const struct review *r, struct span path, bool gone);

/* review_judge.c: class, reason, flags and whether git ignores it; what does not ask the host. */
struct review_judge;
_must_ int review_judge_new(struct review *r, struct review_judge **ret, struct err *e);
void review_judge_free(struct review_judge *j);
OWN_DEFINE(struct review_judge, review_judge_free)
/* In the order of paths. */
_must_ int review_judge_one(struct review_judge *j, const struct change *c, struct review_item *it,
                            struct review_more *more, struct err *e);

/* review_key.c: the two fingerprints. */
void review_keys(const struct review *r, const struct change *c, uint8_t class,
                 struct review_more *more);
_must_ int review_sha256(const void *at, size_t len, uint8_t ret[REVIEW_DIGEST_BYTES]);

/* review_content.c: without a limit of its own; *ret is NUL-ended. -ENOENT: nothing there. */
_must_ int review_side_bytes(struct review *r, const struct change *c, enum review_side side,
                             size_t max, char **ret, size_t *ret_len, struct err *e);
_must_ int review_side_digest(struct review *r, const struct change *c, enum review_side side,
                              uint8_t ret[REVIEW_DIGEST_BYTES], struct err *e);

/* review_decide.c: writes down what the items of these indexes are now. */
struct review_change {
	size_t item;
	uint8_t choice;
	bool links, done, back, has_result;
	uint32_t generation;
	uint8_t result[DECISION_RESULT_BYTES];
	const uint8_t *hunks; /* of REVIEW_HUNKS: hunk_count of them */
	uint32_t hunk_count;
};
_must_ int review_write(struct review *r, const struct review_change *changes, size_t count,
                        struct err *e);
/* What an item is now, to be changed. */
struct review_change review_change_of(const struct review *r, size_t i);

/* review_hunks.c: the text that is to stand on the host; of REVIEW_HUNKS, and of a merge. */
_must_ int review_compose(struct review *r, size_t i, const struct review_texts *t,
                          const uint8_t *chosen, uint8_t **ret, size_t *ret_len, struct err *e);
/* Is accepting it a merge of both? Runs berm-diff. */
_must_ int review_result(struct review *r, size_t i, const uint8_t *chosen, bool *ret_merged,
                         uint8_t **ret, size_t *ret_len, struct err *e);

/* review_plan.c */
struct review_plan_where; /* where an operation's words and extents are, while they still grow */
struct review_plan {
	struct apply_op *ops;
	uint32_t *item; /* of each operation; UINT32_MAX: of none */
	uint8_t *word;  /* of each: what apply said of it, or REVIEW_UNSAID */
	size_t count, room;
	struct review_plan_where *where;
	char *names; /* of all operations, in their order, so a name tells its operation */
	size_t names_len, names_room;
	char *others; /* sources of moves, targets of links */
	size_t others_len, others_room;
	struct apply_extent *extents;
	size_t extent_count, extent_room;
	int results_fd; /* composed texts, one behind the other */
	uint64_t results_bytes;
	uint64_t needs; /* accepted and left out */
	uint32_t *back; /* items whose text is not what was decided on any more */
	size_t back_count;
};

enum { REVIEW_UNSAID = 255 };

/* The accepted ones and what they need; each content is held against its digest. */
_must_ int review_plan_new(struct review *r, struct review_plan **ret, struct err *e);
void review_plan_free(struct review_plan *p);
OWN_DEFINE(struct review_plan, review_plan_free)
/* review_needs.c: which items are accepted and cannot be applied; sets RV_NEEDS. */
void review_needs_mark(struct review *r);
/* The same after one item was decided on: of it, and of what is beneath it. */
void review_needs_mark_at(struct review *r, size_t i);

/* Accepted, whole or in part, and not done. */
bool review_is_wanted(const struct review_item *it);
/* Nobody decided on it, and it may go along with what needs it. */
bool review_may_pull(const struct review_item *it);
/* The next thing above *dir (the change's path at first) that the change needs; false: no more. */
bool review_need(const struct review *r, const struct change *c, struct span *dir, size_t *ret);

/* review_commits.c: what review_repos() needs; nothing is read yet. */
_must_ int review_commits_new(struct review *r, struct err *e);
void review_commits_free(struct review *r);
/* Pure. The git directory that an object at this path is in. False: it is in none. */
_must_ bool review_git_dir(struct span path, struct span *ret);
/*
 * Brings home those of every repository, and answers how many refs they have. What fails in one
 * keeps no other back; of the first failure *e tells.
 */
uint32_t review_commits_import(struct review *r, struct err *e);
/* review.c: work that only git knows of is in it. */
bool review_is_git_object(const struct change *c);

/*
 * review_tree.c: could it stand there, whichever of the changes are taken? It does in the guest, or
 * it was packed and its deletion may be rejected, or the host has it.
 */
bool review_tree_has(const struct review *r, struct span path);

/* review_ignored.c: what git would not list, by the .gitignore files and the index of the base. */
struct review_ignored;
_must_ int review_ignored_new(struct review *r, struct review_ignored **ret, struct err *e);
void review_ignored_free(struct review_ignored *g);
OWN_DEFINE(struct review_ignored, review_ignored_free)
/* In the order of paths. *ret_why is NULL, or why it may be tracked all the same; it lives as long
 * as the review. */
_must_ int review_ignored_ask(struct review_ignored *g, struct span path, bool is_dir, bool *ret,
                              const char **ret_why, struct err *e);
