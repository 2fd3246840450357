/*
 * The image's passwd and group files. The input's first byte is the length of a name, the name
 * follows, the rest is the file. Contracts: no answer means untouched output; what is returned
 * points into the file, has the name or number asked for, and no colon or newline in it.
 */
#include "agent/passwd_parse.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void field_ok(struct span field, struct span file)
{
	must(field.at >= file.at && field.at + field.len <= file.at + file.len);
	must(field.len == 0 || !memchr(field.at, ':', field.len));
	must(field.len == 0 || !memchr(field.at, '\n', field.len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span file = span_of(data, size);
	uint32_t groups[PASSWD_GROUPS_MAX];
	struct passwd_user filled;
	struct passwd_user u;
	struct span name;
	uint32_t gid = 0xa5a5a5a5;
	uint8_t len;

	if (!take_u8(&file, &len) || !take_span(&file, len, &name))
		return 0;
	memset(&filled, 0xa5, sizeof(filled));
	memset(&u, 0xa5, sizeof(u));
	if (passwd_by_name(file, name, &u)) {
		must(span_equal(u.name, name) && name.len > 0);
		field_ok(u.name, file);
		field_ok(u.home, file);
		must(u.uid != UINT32_MAX && u.gid != UINT32_MAX);
	} else {
		must(memcmp(&u, &filled, sizeof(u)) == 0);
	}
	if (passwd_by_uid(file, 1000, &u))
		must(u.uid == 1000 && u.name.len > 0);
	if (!passwd_group_by_name(file, name, &gid))
		must(gid == 0xa5a5a5a5);
	must(passwd_groups_of(file, name, groups) <= PASSWD_GROUPS_MAX);
	return 0;
}
