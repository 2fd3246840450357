#include "agent/passwd_parse.h"

#include <string.h>

enum { PASSWD_FIELDS = 7, GROUP_FIELDS = 4 };

/* Splits a line at its colons. False unless it has exactly `count` fields. */
static bool split(struct span line, struct span *ret, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const uint8_t *colon = line.len ? memchr(line.at, ':', line.len) : NULL;
		size_t len = colon ? (size_t)(colon - line.at) : line.len;

		if (!colon != (i + 1 == count))
			return false;
		ret[i] = span_of(line.at, len);
		if (colon) {
			line.at += len + 1;
			line.len -= len + 1;
		}
	}
	return true;
}

bool passwd_id(struct span text, uint32_t *ret)
{
	uint64_t v;

	if (!span_to_u64(text, &v) || v >= UINT32_MAX)
		return false;
	*ret = (uint32_t)v;
	return true;
}

/* name:password:uid:gid:comment:home:shell */
static bool parse_user(struct span line, struct passwd_user *ret)
{
	struct span f[PASSWD_FIELDS];
	struct passwd_user got;

	if (!split(line, f, PASSWD_FIELDS) || f[0].len == 0)
		return false;
	if (!passwd_id(f[2], &got.uid) || !passwd_id(f[3], &got.gid))
		return false;
	got.name = f[0];
	got.home = f[5];
	*ret = got;
	return true;
}

bool passwd_by_name(struct span file, struct span name, struct passwd_user *ret)
{
	struct passwd_user got;
	struct span line;

	while (take_until(&file, '\n', &line)) {
		if (parse_user(line, &got) && span_equal(got.name, name)) {
			*ret = got;
			return true;
		}
	}
	return false;
}

bool passwd_by_uid(struct span file, uint32_t uid, struct passwd_user *ret)
{
	struct passwd_user got;
	struct span line;

	while (take_until(&file, '\n', &line)) {
		if (parse_user(line, &got) && got.uid == uid) {
			*ret = got;
			return true;
		}
	}
	return false;
}

/* name:password:gid:member,member */
static bool parse_group(struct span line, struct span *ret_name, uint32_t *ret_gid,
                        struct span *ret_members)
{
	struct span f[GROUP_FIELDS];
	uint32_t gid;

	if (!split(line, f, GROUP_FIELDS) || f[0].len == 0 || !passwd_id(f[2], &gid))
		return false;
	*ret_name = f[0];
	*ret_gid = gid;
	*ret_members = f[3];
	return true;
}

bool passwd_group_by_name(struct span file, struct span name, uint32_t *ret_gid)
{
	struct span members;
	struct span got;
	struct span line;
	uint32_t gid;

	while (take_until(&file, '\n', &line)) {
		if (parse_group(line, &got, &gid, &members) && span_equal(got, name)) {
			*ret_gid = gid;
			return true;
		}
	}
	return false;
}

static bool lists(struct span members, struct span name)
{
	struct span one;

	while (take_until(&members, ',', &one))
		if (span_equal(one, name))
			return true;
	return false;
}

size_t passwd_groups_of(struct span file, struct span name, uint32_t ret[PASSWD_GROUPS_MAX])
{
	struct span members;
	struct span group;
	struct span line;
	size_t count = 0;
	uint32_t gid;

	while (count < PASSWD_GROUPS_MAX && take_until(&file, '\n', &line))
		if (parse_group(line, &group, &gid, &members) && lists(members, name))
			ret[count++] = gid;
	return count;
}
