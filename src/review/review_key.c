/*
 * Theory of operation. A decision is about two things: what the agent did, and what was there. The
 * first fingerprint is of the base and the agent's side. The second is of the host's side, and of
 * what compare and class made of both. Where the host has what was packed, its inode and times say
 * nothing that a person decided on, so a decision outlives a checkout and an undo.
 */
#include "review/review_inner.h"

#include <errno.h>
#include <openssl/evp.h>
#include <string.h>

enum { KEY_VERSION = 1, KEY_TEXT_MAX = 3 * (WPATH_MAX + 1) + 512 };

int review_sha256(const void *at, size_t len, uint8_t ret[REVIEW_DIGEST_BYTES])
{
	unsigned n = 0;

	return EVP_Digest(at, len, ret, &n, EVP_sha256(), NULL) == 1 && n == REVIEW_DIGEST_BYTES
	               ? 0
	               : -EIO;
}

static void put_side(struct buf *b, const struct change_side *s)
{
	buf_put_u8(b, s->exists);
	if (!s->exists)
		return;
	buf_put_u8(b, s->kind);
	buf_put_le16(b, s->mode);
	buf_put_le64(b, s->kind == WORK_DIR ? 0 : s->size);
}

static void put_guest(const struct review *r, const struct change *c, struct buf *b)
{
	struct proposal_node n;
	struct proposal_totals t;

	put_side(b, &c->guest);
	if (!c->guest.exists)
		return;
	proposal_node(r->proposal, c->proposal_index, &n);
	buf_put_str16(b, n.target);
	if (n.sha256 != NULL)
		buf_put(b, n.sha256, PROPOSAL_SHA256_BYTES);
	if (n.sha256 != NULL || n.kind != PROPOSAL_FILE)
		return;
	proposal_totals(r->proposal, &t); /* too many holes: known by its place */
	buf_put(b, t.sha256, PROPOSAL_SHA256_BYTES);
	buf_put_le32(b, n.index);
}

static void put_host(const struct change *c, struct buf *b)
{
	const struct change_identity *id = &c->identity;

	buf_put_u8(b, (c->flags & CHANGE_HOST_UNTOUCHED) != 0);
	if ((c->flags & CHANGE_HOST_UNTOUCHED) != 0)
		return;
	put_side(b, &c->host);
	if (!c->host.exists || c->host.kind == WORK_DIR)
		return;
	buf_put_le64(b, id->ino);
	buf_put_le64(b, (uint64_t)id->mtime_s);
	buf_put_le32(b, id->mtime_ns);
	buf_put_le64(b, (uint64_t)id->ctime_s);
	buf_put_le32(b, id->ctime_ns);
}

static void digest(struct buf *b, uint8_t ret[DECISION_KEY_BYTES])
{
	uint8_t whole[REVIEW_DIGEST_BYTES];

	/* one that cannot be made equals none that was written, and asks for a new decision */
	if (!buf_ok(b) || review_sha256(b->at, b->len, whole) < 0)
		memset(whole, 0, sizeof(whole));
	memcpy(ret, whole, DECISION_KEY_BYTES);
}

void review_keys(const struct review *r, const struct change *c, uint8_t class,
                 struct review_more *more)
{
	uint8_t room[KEY_TEXT_MAX];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	buf_put_u8(&b, KEY_VERSION);
	put_side(&b, &c->base);
	buf_put_le64(&b, c->base.exists ? c->base_node.nid : 0);
	put_guest(r, c, &b);
	buf_put_str16(&b, c->from);
	digest(&b, more->what);

	buf_init(&b, room, sizeof(room));
	buf_put_u8(&b, KEY_VERSION);
	buf_put_u8(&b, c->op);
	buf_put_u8(&b, c->state);
	buf_put_u8(&b, c->why);
	buf_put_u8(&b, class);
	buf_put_le16(&b, c->result_mode);
	put_host(c, &b);
	digest(&b, more->host);
}
