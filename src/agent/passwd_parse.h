/*
 * passwd_parse: lines of /etc/passwd and /etc/group. Pure: a span of the file in, numbers out.
 *
 * Hostile   the image's files: any bytes. A line that is no entry is skipped, as the C library
 *           does.
 * Source    passwd(5), group(5)
 */
#pragma once

#include "base/span.h"

enum { PASSWD_GROUPS_MAX = 256 }; /* the kernel takes 65536; nobody has these */

struct passwd_user {
	struct span name; /* borrowed from the file, as home is */
	uint32_t uid, gid;
	struct span home;
};

/* First entry of that name or number. False: none; ret untouched. */
bool passwd_by_name(struct span file, struct span name, struct passwd_user *ret);
bool passwd_by_uid(struct span file, uint32_t uid, struct passwd_user *ret);
bool passwd_group_by_name(struct span file, struct span name, uint32_t *ret_gid);

/* The groups that list `name` as a member, at most PASSWD_GROUPS_MAX. Returns how many. */
size_t passwd_groups_of(struct span file, struct span name, uint32_t ret[PASSWD_GROUPS_MAX]);

/* An id: digits only, and not 2^32 - 1, which means "no change" to the kernel. */
bool passwd_id(struct span text, uint32_t *ret);
