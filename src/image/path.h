/*
 * path: an archive member's path as the tree wants it.
 *
 * Hostile   the whole of it
 * Shape     in: as tar has it, "./usr//bin/" or "/etc/passwd". Out: "usr/bin", "etc/passwd", or ""
 *           for the root itself. A leading "/" is dropped, as tar itself does: a path in a layer
 *           is relative to the image whatever it begins with. ".." is refused, never resolved
 */
#pragma once

#include "base/buf.h"
#include "image/limits.h"

enum path_fault {
	PATH_OK = 0,
	PATH_DOTDOT,   /* a ".." component */
	PATH_TOO_LONG, /* over TREE_PATH_MAX, or a component over TREE_NAME_MAX */
	PATH_TOO_DEEP, /* over TREE_DEPTH_MAX components */
	PATH_NUL,      /* a NUL inside */
	PATH_EMPTY,    /* no bytes at all */
};

/*
 * Pure. Puts the cleaned path, all or nothing; ret_fault may be NULL. 0 or -EBADMSG. A `whole`
 * output of TREE_PATH_MAX bytes always suffices.
 */
_must_ int image_path_parse(struct span in, struct buf *out, enum path_fault *ret_fault);

/* A few words for a message: "goes up with '..'". */
const char *path_fault_text(enum path_fault f);
