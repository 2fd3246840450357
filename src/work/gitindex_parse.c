#include "work/gitindex.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

enum {
	STAT_HEAD_BYTES = 24, /* two times, device, inode */
	STAT_TAIL_BYTES = 12, /* user, group, size */
	PAD = 8,              /* versions 2 and 3: entries take a multiple of it */
	FLAG_NAME = 0xfff,    /* the name's length; so much or more */
	FLAG_EXTENDED = 0x4000,
	FLAG_STAGE_SHIFT = 12,
	MORE_SKIPPED = 0x4000, /* of the second flags: not in the working tree, */
	MORE_INTENT = 0x2000,  /* and to be added later */
};

/* One entry as it stands in the file. */
struct fixed {
	uint32_t mode;
	uint16_t flags, more;
};

int gitindex_begin(struct gitindex_reader *ret, struct span all, unsigned hash_bytes)
{
	struct span in = all, magic;
	uint32_t version, count;

	if (!take_span(&in, 4, &magic) || !span_is(magic, "DIRC") || !take_be32(&in, &version) ||
	    !take_be32(&in, &count) || in.len < hash_bytes)
		return -EBADMSG;
	if (version < 2 || version > 4)
		return -EPROTO;
	memset(ret, 0, offsetof(struct gitindex_reader, name));
	ret->all = span_of(all.at, all.len - hash_bytes);
	ret->at = all.len - in.len;
	ret->version = version;
	ret->left = count;
	ret->hash_bytes = (uint16_t)hash_bytes;
	return 0;
}

static bool take_fixed(struct span *in, const struct gitindex_reader *r, struct fixed *ret)
{
	struct span skipped;

	if (!take_span(in, STAT_HEAD_BYTES, &skipped) || !take_be32(in, &ret->mode) ||
	    !take_span(in, STAT_TAIL_BYTES + (size_t)r->hash_bytes, &skipped) ||
	    !take_be16(in, &ret->flags))
		return false;
	ret->more = 0;
	if ((ret->flags & FLAG_EXTENDED) == 0)
		return true;
	return r->version >= 3 && take_be16(in, &ret->more) &&
	       (ret->more & ~(MORE_SKIPPED | MORE_INTENT)) == 0;
}

/* As git writes offsets: seven bits a byte, the highest first, further bytes count from one. */
static bool take_varint(struct span *in, size_t *ret)
{
	size_t value = 0;
	uint8_t byte = 0;

	for (unsigned i = 0; i < 3; i++) { /* WPATH_MAX fits into two */
		if (!take_u8(in, &byte))
			return false;
		value = (value << 7) + (byte & 0x7f);
		if ((byte & 0x80) == 0) {
			*ret = value;
			return true;
		}
		value++;
	}
	return false;
}

static bool take_name(struct span *in, struct span *ret)
{
	const uint8_t *end = in->len > 0 ? memchr(in->at, 0, in->len) : NULL;

	return end != NULL && take_span(in, (size_t)(end - in->at), ret);
}

/* One NUL; versions 2 and 3 go on with them up to the next multiple, and have one at least. */
static bool take_padding(struct span *in, const struct gitindex_reader *r)
{
	static const uint8_t zeros[PAD];
	size_t entry_bytes = r->all.len - r->at - in->len;
	struct span pad;

	return take_span(in, r->version == 4 ? 1 : PAD - entry_bytes % PAD, &pad) &&
	       memcmp(pad.at, zeros, pad.len) == 0;
}

static bool kind_of(const struct fixed *f, struct span last, uint8_t *ret)
{
	bool slash = last.len > 0 && last.at[last.len - 1] == '/';

	switch (f->mode & 0170000) {
	case 0100000:
	case 0120000:
		*ret = GITINDEX_FILE;
		return !slash;
	case 0160000:
		*ret = GITINDEX_MODULE;
		return !slash;
	case 0040000:
		*ret = GITINDEX_DIR;
		return slash && (f->more & MORE_SKIPPED) != 0;
	default:
		return false;
	}
}

/*
 * Does an entry with `kept` bytes of the last name, then `rest`, come behind the last one? And not
 * in it: a directory that is one entry has no other.
 */
static bool in_order(const struct gitindex_reader *r, size_t kept, struct span rest, uint8_t stage)
{
	size_t was = r->name_len - kept, n = was < rest.len ? was : rest.len;
	int order = n > 0 ? memcmp(r->name + kept, rest.at, n) : 0;

	if (r->name_len == 0 || kept + rest.len == 0)
		return true;
	if (order != 0 || was != rest.len)
		return order < 0 || (order == 0 && was < rest.len && r->kind != GITINDEX_DIR);
	return r->stage > 0 && r->stage < stage;
}

/* An entry whose name is `kept` bytes of the last one and then `rest`. */
static bool take_entry(struct span *in, const struct gitindex_reader *r, struct fixed *ret,
                       size_t *ret_kept, struct span *ret_rest)
{
	size_t cut = r->name_len, len;

	if (!take_fixed(in, r, ret) ||
	    (r->version == 4 && (!take_varint(in, &cut) || cut > r->name_len)) ||
	    !take_name(in, ret_rest) || !take_padding(in, r))
		return false;
	*ret_kept = r->name_len - cut;
	len = *ret_kept + ret_rest->len;
	return len <= WPATH_MAX && (ret->flags & FLAG_NAME) == (len < FLAG_NAME ? len : FLAG_NAME);
}

int gitindex_next(struct gitindex_reader *r)
{
	struct span in = span_of(r->all.at + r->at, r->all.len - r->at), rest;
	struct fixed f;
	size_t kept;
	uint8_t stage, kind;

	if (r->left == 0 || !take_entry(&in, r, &f, &kept, &rest))
		return -EBADMSG;
	stage = f.flags >> FLAG_STAGE_SHIFT & 3;
	if (!kind_of(&f, rest.len > 0 ? rest : span_of(r->name, kept), &kind) ||
	    !in_order(r, kept, rest, stage))
		return -EBADMSG;
	if (rest.len > 0)
		memcpy(r->name + kept, rest.at, rest.len);
	r->name_len = (uint16_t)(kept + rest.len);
	r->nameless = r->nameless || r->name_len == 0;
	r->kind = kind;
	r->stage = stage;
	r->at = r->all.len - in.len;
	r->left--;
	return 0;
}

int gitindex_end(const struct gitindex_reader *r, const char **ret_what)
{
	struct span in = span_of(r->all.at + r->at, r->all.len - r->at), name, skipped;
	const char *what = NULL;
	int code = -EPROTO;
	uint32_t bytes;

	while (in.len > 0) {
		if (!take_span(&in, 4, &name) || !take_be32(&in, &bytes) ||
		    !take_span(&in, bytes, &skipped))
			return -EBADMSG;
		if (span_is(name, "link")) {
			what = "it is split (core.splitIndex)";
			code = -EXDEV;
		} else if (what == NULL && !(name.at[0] >= 'A' && name.at[0] <= 'Z') &&
		           !span_is(name, "sdir"))
			what = "it has an extension that berm does not know";
	}
	if (what != NULL) {
		*ret_what = what;
		return code;
	}
	return r->nameless ? -EBADMSG : 0;
}
