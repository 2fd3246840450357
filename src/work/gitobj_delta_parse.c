#include "work/gitobj_parse.h"

#include "base/ck.h"

#include <errno.h>
#include <string.h>

enum { COPY_DEFAULT = 0x10000 }; /* what a length of 0 means */

static int take_size(struct span *in, uint64_t *ret)
{
	uint64_t v = 0;
	uint8_t c;

	for (unsigned shift = 0; shift <= 56; shift += 7) {
		if (!take_u8(in, &c))
			return -EBADMSG;
		v |= (uint64_t)(c & 0x7f) << shift;
		if (!(c & 0x80)) {
			*ret = v;
			return 0;
		}
	}
	return -EBADMSG;
}

int gitobj_parse_delta_head(struct span *delta, uint64_t *ret_base_len, uint64_t *ret_result_len)
{
	struct span rest = *delta;
	uint64_t base, result;

	if (take_size(&rest, &base) < 0 || take_size(&rest, &result) < 0)
		return -EBADMSG;
	*delta = rest;
	*ret_base_len = base;
	*ret_result_len = result;
	return 0;
}

/* Offset and length of a copy: a byte of each follows where a bit of the command says so. */
static bool take_copy(struct span *in, uint8_t command, uint32_t *ret_off, uint32_t *ret_len)
{
	uint32_t v[2] = { 0, 0 };

	for (unsigned i = 0; i < 7; i++) {
		unsigned shift = 8 * (i < 4 ? i : i - 4);
		uint8_t c;

		if (!(command >> i & 1))
			continue;
		if (!take_u8(in, &c))
			return false;
		v[i >= 4] |= (uint32_t)c << shift;
	}
	*ret_off = v[0];
	*ret_len = v[1] == 0 ? COPY_DEFAULT : v[1];
	return true;
}

int gitobj_parse_delta(struct span delta, struct span base, uint8_t *ret, size_t result_len)
{
	size_t left = result_len;
	uint8_t command;

	while (take_u8(&delta, &command)) {
		struct span from;
		uint32_t off, len;

		if (command & 0x80) {
			if (!take_copy(&delta, command, &off, &len) ||
			    !ck_range(off, len, base.len))
				return -EBADMSG;
			from = span_of(base.at + off, len);
		} else if (command == 0 || !take_span(&delta, command, &from)) {
			return -EBADMSG; /* 0 is kept for later versions */
		}
		if (from.len > left)
			return -EBADMSG;
		memcpy(ret, from.at, from.len);
		ret += from.len;
		left -= from.len;
	}
	return left == 0 ? 0 : -EBADMSG;
}
