/*
 * links: names by which a host would run what lies elsewhere in the workspace.
 *
 * Theory of operation
 *
 * With a link `.vscode -> ed` an editor runs ed/tasks.json, whose own path says nothing of that. So
 * while a workspace is packed, every link whose name alone has a class is noted, together with the
 * place in the workspace that it leads to; and a review asks for the class of a path by those names
 * too. Links that a guest makes are changes of their own, and judged as such; those that somebody
 * makes on the host meanwhile are looked for when it is reviewed, and once more when it is applied.
 *
 * Shape     the file "links" of a session: "BERMLNK1", u32 count, u32 1 if more did not fit,
 *           then u16 length, the link's path, u16 length, where it leads to; little endian
 * Hostile   the names; where a link leads is asked of the kernel, and nothing there is read
 * Trusts    the session's directory, but reads strictly
 */
#pragma once

#include "work/class.h"

#include "base/buf.h"

enum {
	REVIEW_LINKS_BYTES_MAX = 1 << 20, /* of the file; 10,000 of them, which nobody has */
	REVIEW_LINKS_HEAD = 16,
	/* How far one look at the host goes. */
	REVIEW_LOOK_ABOVE_MAX = 1 << 14, /* directories above changes */
	REVIEW_LOOK_DOWN_MAX = 1 << 8,   /* others, from the top down: 5 ms, far more if cold */
	REVIEW_LOOK_QUEUE_MAX = 1 << 14, /* of those, waiting */
	REVIEW_LOOK_NAMES_MAX = 1 << 18, /* in all of them: 100 ms */
};

#define REVIEW_LINKS_NAME "links"

struct review_links;

/* None yet. */
_must_ int review_links_new(struct review_links **ret, struct err *e);
void review_links_free(struct review_links *l);
OWN_DEFINE(struct review_links, review_links_free)

/* A link that a walk of the workspace has met. One that leads elsewhere, or is known, is not
 * noted. */
void review_links_meet(struct review_links *l, const struct class_list *classes, int root_fd,
                       struct span path);

_must_ int review_links_save(const struct review_links *l, int session_fd, struct err *e);

/* What was saved; a session without that file has none. -EBADMSG. */
_must_ int review_links_load(int session_fd, struct review_links **ret, struct err *e);

/* Were there more than fit? Then any path may have another name. */
bool review_links_more(const struct review_links *l);

/*
 * The next other name of a path, in out, which is emptied first and full if it does not fit. *at
 * begins with 0. False: there are no more.
 */
bool review_links_next(const struct review_links *l, struct span path, size_t *at, struct buf *out);

/* How many there are: it grows with each that is new. */
uint32_t review_links_count(const struct review_links *l);

/* -- the host as it is now, links_look.c -- */

struct review_look;

/* All is borrowed until review_look_free(). What is found is added to l. */
_must_ int review_look_new(struct review_links *l, const struct class_list *classes, int root_fd,
                           struct review_look **ret, struct err *e);
void review_look_free(struct review_look *k);
OWN_DEFINE(struct review_look, review_look_free)

/* In the directories above a change, but for those that are above the change before as well. */
void review_look_above(struct review_look *k, struct span before, struct span path);
/* In the workspace's root, and from there down. */
void review_look_down(struct review_look *k);

/* -- pure, links_parse.c -- */

/* Judges all that is behind the head. */
_must_ bool review_links_parse(struct span body, uint32_t count);

/* The next pair of a body that was judged; false at its end. */
_must_ bool review_links_take(struct span *body, struct span *ret_name, struct span *ret_to);

/*
 * Where a link's text leads from the directory of the link, by the text alone: root is the
 * workspace's own absolute path. False: out of the workspace, or nowhere. out is emptied first.
 */
_must_ bool review_links_resolve(struct span root, struct span link, struct span target,
                                 struct buf *out);
