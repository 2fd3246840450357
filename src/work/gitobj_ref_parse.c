#include "work/gitobj_parse.h"

#include <errno.h>
#include <string.h>

static bool part_ok(struct span part)
{
	static const char lock[] = ".lock";
	size_t n = sizeof(lock) - 1;

	if (part.len == 0 || part.len > GITOBJ_REF_PART_MAX || part.at[0] == '.')
		return false;
	if (part.at[part.len - 1] ==
	    '.') /* git minds it at the very end; a file system elsewhere */
		return false;
	if (part.len >= n && memcmp(part.at + part.len - n, lock, n) == 0)
		return false;
	for (size_t i = 0; i < part.len; i++) {
		uint8_t c = part.at[i];

		if (c < 0x20 || c == 0x7f || strchr(" ~^:?*[\\", c))
			return false;
		if (i > 0 &&
		    ((c == '.' && part.at[i - 1] == '.') || (c == '{' && part.at[i - 1] == '@')))
			return false;
	}
	return true;
}

bool gitobj_parse_ref_name_ok(struct span name)
{
	struct span part;
	unsigned parts = 0;

	if (name.len == 0 || name.len > GITOBJ_REF_MAX || name.at[name.len - 1] == '/')
		return false;
	while (take_until(&name, '/', &part)) {
		if (!part_ok(part) || (parts == 0 && !span_is(part, "refs")))
			return false;
		parts++;
	}
	return parts >= 2;
}

static bool begins(struct span name, const char *with)
{
	size_t n = strlen(with);

	return name.len >= n && memcmp(name.at, with, n) == 0;
}

bool gitobj_parse_ref_is_branch(struct span name)
{
	return begins(name, "refs/heads/");
}

bool gitobj_parse_ref_comes(struct span name)
{
	return begins(name, "refs/") && !begins(name, "refs/remotes/") &&
	       !begins(name, "refs/berm/");
}

static bool is_blank(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

int gitobj_parse_ref(struct span in, struct gitobj_id *ret, struct span *ret_target)
{
	static const char word[] = "ref:";
	size_t n = sizeof(word) - 1;

	while (in.len > 0 && is_blank(in.at[in.len - 1]))
		in.len--;
	if (in.len < n || memcmp(in.at, word, n) != 0) {
		int r = gitobj_parse_hex(in, ret);

		if (r == 0)
			*ret_target = span_of(in.at, 0);
		return r;
	}
	in = span_of(in.at + n, in.len - n);
	while (in.len > 0 && is_blank(in.at[0]))
		in = span_of(in.at + 1, in.len - 1);
	if (!gitobj_parse_ref_name_ok(in))
		return -EBADMSG;
	*ret_target = in;
	return 0;
}

int gitobj_parse_packed_ref(struct span *in, struct gitobj_id *ret, struct span *ret_name)
{
	struct span rest = *in;
	struct span line, hex;
	struct gitobj_id id;

	do {
		if (!take_until(&rest, '\n', &line))
			return -ENODATA;
	} while (line.len > 0 && (line.at[0] == '#' || line.at[0] == '^'));
	if (!take_until(&line, ' ', &hex) || gitobj_parse_hex(hex, &id) < 0 || line.len == 0)
		return -EBADMSG;
	*ret = id;
	*ret_name = line;
	*in = rest;
	return 0;
}
