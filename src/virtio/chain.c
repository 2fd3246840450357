#include "virtio/queue.h"

#include "base/ck.h"

#include <errno.h>

/* A place in one part of a chain: a segment and the bytes of it that lie behind us. */
struct cursor {
	unsigned seg;
	unsigned end;
	uint64_t skip;
};

static struct cursor part(const struct chain *c, bool writable, uint64_t off)
{
	struct cursor at = { .seg = writable ? c->readable : 0, .skip = off };

	at.end = writable ? c->seg_count : c->readable;
	return at;
}

/* The next piece, of at most len_max bytes. False at the end of the part. */
static bool next_piece(const struct chain *c, struct cursor *at, uint64_t len_max,
                       struct chain_seg *ret)
{
	for (; at->seg < at->end; at->seg++) {
		const struct chain_seg *s = &c->segs[at->seg];
		uint64_t left;

		if (!ck_sub(s->len, at->skip, &left) || left == 0) {
			at->skip -= s->len;
			continue;
		}
		ret->at = gpa_of(s->at.v + at->skip);
		ret->len = left < len_max ? (uint32_t)left : (uint32_t)len_max;
		at->skip += ret->len;
		return true;
	}
	return false;
}

bool chain_read(const struct guest_mem *m, const struct chain *c, uint64_t off, void *ret,
                uint64_t len, uint64_t *ret_len)
{
	struct cursor at = part(c, false, off);
	uint8_t *to = ret;
	uint64_t done = 0;
	struct chain_seg s;

	while (done < len && next_piece(c, &at, len - done, &s)) {
		if (!guest_mem_read(m, s.at, to + done, s.len))
			return false;
		done += s.len;
	}
	*ret_len = done;
	return true;
}

bool chain_write(const struct guest_mem *m, const struct chain *c, uint64_t off, const void *data,
                 uint64_t len, uint64_t *ret_len)
{
	struct cursor at = part(c, true, off);
	const uint8_t *from = data;
	uint64_t done = 0;
	struct chain_seg s;

	while (done < len && next_piece(c, &at, len - done, &s)) {
		if (!guest_mem_write(m, s.at, from + done, s.len))
			return false;
		done += s.len;
	}
	*ret_len = done;
	return true;
}

int chain_iov(const struct guest_mem *m, const struct chain *c, bool writable, uint64_t off,
              uint64_t len, struct iovec *iov, unsigned iov_max)
{
	struct cursor at = part(c, writable, off);
	uint64_t done = 0;
	unsigned n = 0;
	struct chain_seg s;

	for (; done < len; done += s.len) {
		if (n == iov_max || !next_piece(c, &at, len - done, &s) ||
		    !guest_mem_iov(m, s.at, s.len, &iov[n]))
			return -EBADMSG;
		n++;
	}
	return (int)n;
}
