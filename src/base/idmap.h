/*
 * idmap: the maps of a user namespace in which its maker stays who he is and nobody else exists.
 *
 * Made before the namespace is, as within it without a map nobody can say who he was.
 *
 * Source   user_namespaces(7)
 */
#pragma once

#include "base/err.h"

enum { IDMAP_LINE_MAX = 64 };

struct idmap {
	char uid[IDMAP_LINE_MAX]; /* a line of /proc/self/uid_map */
	char gid[IDMAP_LINE_MAX];
};

/* Of the caller's effective ids. */
void idmap_self(struct idmap *ret);

/*
 * Gives the namespace the caller has just entered its maps. Supplementary groups can not be changed
 * from then on. Without e nothing but system calls: good between fork and exec.
 */
_must_ int idmap_write(const struct idmap *m, struct err *e);
