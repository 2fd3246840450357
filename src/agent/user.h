/*
 * user: who a command runs as, from "name", "uid", "name:group" or "uid:gid" (empty is root).
 *
 * Names are looked up in the image's /etc/passwd and /etc/group; numbers need no file. As in
 * docker: a named or numbered user gets the groups that list it, unless a group is given; a number
 * without an entry has group 0, and no home.
 */
#pragma once

#include "agent/passwd_parse.h"
#include "base/err.h"
#include "wire/wire.h"

struct user {
	uint32_t uid, gid;
	uint32_t groups[PASSWD_GROUPS_MAX];
	size_t group_count;
	char name[WIRE_USER_MAX + 1]; /* "" if it has none */
	char home[WIRE_PATH_MAX + 1]; /* "" if unknown */
};

/* An empty spec is root with its home in /root, and reads no file: it is what most execs ask for.
 * -ENOENT: no such user or group (e says which). Reads files: only for a child, which may block. */
_must_ int user_find(struct span spec, struct user *ret, struct err *e);
