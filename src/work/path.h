/*
 * path: the one form of a path inside a workspace, and what is done with it.
 *
 * A path is raw bytes, relative to the workspace, its parts separated by '/': no leading or
 * trailing slash, no empty part, no "." or "..", no NUL. "" is the root. It need not be UTF-8.
 *
 * Hostile   every path that came from a guest, and every name that came from a directory
 * Order     bytes, but '/' before every other byte: a directory comes first, then all beneath it,
 *           then its next sibling. So the order of a sorted list is that of a walk which takes
 *           names by their bytes
 * Errors    -EBADMSG: not that form
 * Owns      nothing; every span returned points into the one given
 */
#pragma once

#include "base/buf.h"
#include "base/span.h"

enum {
	WPATH_NAME_MAX = 255,  /* bytes of a part: NAME_MAX, and what a directory entry holds */
	WPATH_MAX = 4095,      /* bytes of a path: PATH_MAX without its NUL */
	WPATH_DEPTH_MAX = 256, /* parts: what a walk holds open or on its stack */
};

/* What stands at a path. Nothing else is ever packed, proposed or applied. */
enum work_kind {
	WORK_FILE = 1,
	WORK_DIR = 2,
	WORK_LINK = 3,
};

enum wpath_fault {
	WPATH_OK = 0,
	WPATH_SLASH,    /* a leading, trailing or doubled slash: an empty part */
	WPATH_DOT,      /* a "." or ".." part */
	WPATH_NUL,      /* a NUL inside */
	WPATH_LONG,     /* over WPATH_MAX */
	WPATH_LONGNAME, /* a part over WPATH_NAME_MAX */
	WPATH_DEEP,     /* over WPATH_DEPTH_MAX parts */
};

/* Is it the one form? 0, or -EBADMSG with the reason; ret_fault may be NULL. The root is well. */
_must_ int wpath_parse(struct span path, enum wpath_fault *ret_fault);

/* A few words for a message: "holds a NUL byte". */
const char *wpath_fault_text(enum wpath_fault f);

/* Is it one part of a path: 1 to WPATH_NAME_MAX bytes, no '/', no NUL, not "." or ".."? */
_must_ bool wpath_name_ok(struct span name);

/*
 * Takes the first part off `rest`, which must be well formed. False at the end, and for the root at
 * once.
 */
_must_ bool wpath_next(struct span *rest, struct span *ret_name);

/* The path without its last part, "" for a single one and for the root. */
struct span wpath_parent(struct span path);

/* The last part; "" for the root. */
struct span wpath_last(struct span path);

/* How many parts: 0 for the root. */
unsigned wpath_depth(struct span path);

/* Below 0, 0 or above 0, in the order said above. */
int wpath_cmp(struct span a, struct span b);

/* The order of names within one directory: bytes, and what is a prefix comes first. */
int wpath_name_cmp(struct span a, struct span b);

/*
 * Is `path` the directory itself or beneath it? ret_rest, which may be NULL, gets what follows: ""
 * for itself.
 */
bool wpath_beneath(struct span dir, struct span path, struct span *ret_rest);

/* Puts dir/name: all or nothing, as every put. */
void wpath_put(struct buf *out, struct span dir, struct span name);

/*
 * Does HFS+ pass over what is at the front of `rest` when it compares names? Then it is three bytes
 * long: U+200C to 200F, 202A to 202E, 206A to 206F, FEFF. Git's protectHFS has the same list.
 */
bool wpath_is_invisible(struct span rest);
