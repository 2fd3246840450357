#include "work/gitobj_store.h"

#include "base/ck.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

struct pack {
	struct gitobj_file idx, file;
	struct gitobj_idx head;
};

/* Where an entry of a pack is, and what its head says. */
struct link {
	uint64_t at;
	struct gitobj_packed head;
};

struct gitobj_store {
	struct gitobj_place place;
	struct gitobj_budget *budget;
	unsigned pack_count;
	struct pack *packs[GITOBJ_PACKS_MAX];
	unsigned chain_count;
	struct link chain[GITOBJ_DELTA_DEPTH_MAX]; /* the object first, its last base last */
};

struct gitobj_brief gitobj_brief(const struct gitobj_id *id)
{
	struct gitobj_brief brief;
	char hex[GITOBJ_HEX_BYTES];
	struct buf b;

	buf_init(&b, hex, sizeof(hex));
	gitobj_put_hex(&b, id);
	memcpy(brief.text, hex, sizeof(brief.text) - 1);
	brief.text[sizeof(brief.text) - 1] = 0;
	return brief;
}

int gitobj_hash(enum gitobj_type type, struct span data, struct gitobj_id *ret, struct err *e)
{
	EVP_MD_CTX *sum = EVP_MD_CTX_new();
	uint8_t out[EVP_MAX_MD_SIZE];
	char head[GITOBJ_LOOSE_HEAD_MAX];
	struct buf b;
	bool ok;

	buf_init(&b, head, sizeof(head));
	buf_printf(&b, "%s %zu", gitobj_type_name(type), data.len);
	buf_put_u8(&b, 0);
	ok = sum && buf_ok(&b) && EVP_DigestInit_ex(sum, EVP_sha1(), NULL) == 1 &&
	     EVP_DigestUpdate(sum, head, b.len) == 1 &&
	     EVP_DigestUpdate(sum, data.at, data.len) == 1 &&
	     EVP_DigestFinal_ex(sum, out, NULL) == 1;
	EVP_MD_CTX_free(sum);
	if (!ok)
		return err_set(e, -EIO, "sha1 is not available");
	memcpy(ret->b, out, GITOBJ_ID_BYTES);
	return 0;
}

/* -- opening */

static void pack_free(struct pack *k)
{
	if (!k)
		return;
	gitobj_file_close(&k->idx);
	gitobj_file_close(&k->file);
	free(k);
}
OWN_DEFINE(struct pack, pack_free)

static int open_pack(struct gitobj_store *s, struct span name, struct pack **ret, struct err *e)
{
	_own_(pack_free) struct pack *k = calloc(1, sizeof(*k));
	uint8_t head[GITOBJ_IDX_HEAD_BYTES];
	char path[GITOBJ_PATH_MAX];
	struct buf b;
	int r;

	if (!k)
		return err_set(e, -ENOMEM, "out of memory");
	k->idx.fd = k->file.fd = -1;
	buf_init(&b, path, sizeof(path));
	buf_put_str(&b, "objects/pack/");
	buf_put_span(&b, name);
	if (!buf_ok(&b))
		return -ENOENT;
	r = gitobj_file_open(&s->place, buf_span(&b), &k->idx, e);
	if (r == 0) {
		memcpy(path + b.len - 3, "pack", 4); /* the room is larger than any name */
		r = gitobj_file_open(&s->place, span_of(path, b.len + 1), &k->file, e);
	}
	if (r == 0 &&
	    (k->idx.size < sizeof(head) || k->file.size < GITOBJ_PACK_HEAD_BYTES + GITOBJ_ID_BYTES))
		return -ENOENT;
	if (r == 0)
		r = gitobj_file_read(&k->idx, 0, head, sizeof(head), e);
	if (r < 0)
		return r;
	if (gitobj_parse_idx_head(span_of(head, sizeof(head)), k->idx.size, &k->head) < 0)
		return -ENOENT;
	*ret = steal_ptr(&k);
	return 0;
}

static int add_pack(void *arg, struct span name, bool is_dir, struct err *e)
{
	struct gitobj_store *s = arg;
	struct pack *k = NULL;
	int r;

	if (is_dir || name.len < 5 || name.len > GITOBJ_PACK_NAME_MAX ||
	    memcmp(name.at + name.len - 4, ".idx", 4) != 0)
		return 0;
	if (s->pack_count == GITOBJ_PACKS_MAX)
		return err_set(e, -E2BIG, "the repository has over %d packs", GITOBJ_PACKS_MAX);
	r = open_pack(s, name, &k, e);
	if (r == 0)
		s->packs[s->pack_count++] = k;
	return r == -ENOENT ? 0 : r;
}

int gitobj_store_open(const struct gitobj_place *p, struct gitobj_budget *budget,
                      struct gitobj_store **ret, struct err *e)
{
	_own_(gitobj_store_free) struct gitobj_store *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	s->place = *p;
	s->budget = budget;
	r = gitobj_list(&s->place, span_str("objects/pack"), add_pack, s, e);
	if (r == 0)
		*ret = steal_ptr(&s);
	return r;
}

void gitobj_store_free(struct gitobj_store *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < s->pack_count; i++)
		pack_free(s->packs[i]);
	free(s);
}

/* -- finding */

static int read_be32(const struct gitobj_file *f, uint64_t off, uint32_t *ret, struct err *e)
{
	uint8_t raw[4];
	struct span in = span_of(raw, sizeof(raw));
	int r = gitobj_file_read(f, off, raw, sizeof(raw), e);

	return r < 0 ? r : take_be32(&in, ret) ? 0 : -EBADMSG;
}

static int offset_of(const struct pack *k, uint32_t index, uint64_t *ret, struct err *e)
{
	uint32_t off = 0, high = 0, low = 0;
	int r = read_be32(&k->idx, k->head.offsets_at + 4ULL * index, &off, e);

	if (r < 0)
		return r;
	*ret = off;
	if (!(off & 0x80000000))
		return 0;
	off &= 0x7fffffff;
	if (off >= k->head.large_count)
		return err_set(e, -EBADMSG, "a pack's index is malformed");
	r = read_be32(&k->idx, k->head.large_at + 8ULL * off, &high, e);
	if (r == 0)
		r = read_be32(&k->idx, k->head.large_at + 8ULL * off + 4, &low, e);
	if (r == 0)
		*ret = (uint64_t)high << 32 | low;
	return r;
}

/* Where the pack has the object, by its index; -ENOENT. */
static int find_in(const struct pack *k, const struct gitobj_id *id, uint64_t *ret, struct err *e)
{
	uint32_t low = id->b[0] > 0 ? k->head.fanout[id->b[0] - 1] : 0;
	uint32_t high = k->head.fanout[id->b[0]];

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		struct gitobj_id got;
		int way;
		int r = gitobj_file_read(&k->idx,
		                         k->head.ids_at + (uint64_t)middle * GITOBJ_ID_BYTES, got.b,
		                         sizeof(got.b), e);

		if (r < 0)
			return r;
		way = memcmp(got.b, id->b, sizeof(got.b));
		if (way == 0)
			return offset_of(k, middle, ret, e);
		if (way < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return -ENOENT;
}

static int find_packed(struct gitobj_store *s, const struct gitobj_id *id, struct pack **ret,
                       uint64_t *ret_at, struct err *e)
{
	for (unsigned i = 0; i < s->pack_count; i++) {
		int r = find_in(s->packs[i], id, ret_at, e);

		if (r == 0)
			*ret = s->packs[i];
		if (r != -ENOENT)
			return r;
	}
	return -ENOENT;
}

/* -- packs */

static uint64_t pack_end(const struct pack *k)
{
	return k->file.size - GITOBJ_ID_BYTES; /* its checksum follows */
}

static int read_head(const struct pack *k, uint64_t at, struct link *ret, struct err *e)
{
	uint8_t raw[GITOBJ_ENTRY_HEAD_MAX];
	uint64_t left;
	size_t n;
	int r;

	if (at < GITOBJ_PACK_HEAD_BYTES || !ck_sub(pack_end(k), at, &left))
		return err_set(e, -EBADMSG, "a pack's index points outside of it");
	n = left < sizeof(raw) ? (size_t)left : sizeof(raw);
	r = gitobj_file_read(&k->file, at, raw, n, e);
	if (r < 0)
		return r;
	ret->at = at;
	if (gitobj_parse_packed(span_of(raw, n), &ret->head) < 0)
		return err_set(e, -EBADMSG, "a pack has a malformed entry");
	return 0;
}

/* The entry and all it is a delta of, to one that is none. Only heads are read. */
static int collect_chain(struct gitobj_store *s, const struct pack *k, uint64_t at, struct err *e)
{
	s->chain_count = 0;
	for (;;) {
		struct link *l = &s->chain[s->chain_count];
		int r;

		if (s->chain_count == GITOBJ_DELTA_DEPTH_MAX)
			return err_set(e, -E2BIG, "a pack has a chain of over %d deltas",
			               GITOBJ_DELTA_DEPTH_MAX);
		r = read_head(k, at, l, e);
		if (r < 0)
			return r;
		s->chain_count++;
		if (l->head.type == GITOBJ_OFS_DELTA) {
			if (!ck_sub(at, l->head.back, &at))
				return err_set(e, -EBADMSG, "a pack has a delta of nothing");
		} else if (l->head.type == GITOBJ_REF_DELTA) {
			r = find_in(k, &l->head.base, &at, e);
			if (r < 0)
				return r == -ENOENT ? err_set(e, -EBADMSG,
				                              "a pack has a delta of nothing")
				                    : r;
		} else {
			return 0;
		}
	}
}

static int too_large(uint64_t len, struct err *e)
{
	return err_set(e, -E2BIG, "an object of %llu bytes is over %d MiB", (unsigned long long)len,
	               GITOBJ_BYTES_MAX >> 20);
}

/* Exactly len bytes, where the stream ends. */
static int inflate_whole(struct gitobj_inflate *z, uint64_t len, bool whole_file, uint8_t **ret,
                         struct err *e)
{
	_own_free_ uint8_t *at = NULL;
	size_t got = 0;
	int r;

	if (len > GITOBJ_BYTES_MAX)
		return too_large(len, e);
	at = malloc((size_t)len + 1);
	if (!at)
		return err_set(e, -ENOMEM, "out of memory");
	r = gitobj_inflate_read(z, at, (size_t)len, &got, e);
	if (r == 0 && got < len)
		r = err_set(e, -EBADMSG, "an object is smaller than it says");
	if (r == 0)
		r = gitobj_inflate_end(z, whole_file, e);
	if (r < 0)
		return r;
	*ret = steal_ptr(&at);
	return 0;
}

static int inflate_link(struct gitobj_store *s, const struct pack *k, const struct link *l,
                        uint8_t **ret, struct err *e)
{
	_own_(gitobj_inflate_free) struct gitobj_inflate *z = NULL;
	int r = gitobj_inflate_new(&k->file, l->at + l->head.head_bytes, pack_end(k), s->budget, &z,
	                           e);

	return r < 0 ? r : inflate_whole(z, l->head.len, false, ret, e);
}

/* o becomes what the delta makes of it. */
static int apply_link(struct gitobj_store *s, const struct pack *k, const struct link *l,
                      struct gitobj_object *o, struct err *e)
{
	_own_free_ uint8_t *delta = NULL;
	_own_free_ uint8_t *made = NULL;
	uint64_t base_len, len;
	struct span rest;
	int r = inflate_link(s, k, l, &delta, e);

	if (r < 0)
		return r;
	rest = span_of(delta, (size_t)l->head.len);
	if (gitobj_parse_delta_head(&rest, &base_len, &len) < 0 || base_len != o->len)
		return err_set(e, -EBADMSG, "a pack has a malformed delta");
	if (len > GITOBJ_BYTES_MAX)
		return too_large(len, e);
	if (len > s->budget->bytes)
		return err_set(e, -E2BIG, "the objects are too large together");
	s->budget->bytes -= len;
	made = malloc((size_t)len + 1);
	if (!made)
		return err_set(e, -ENOMEM, "out of memory");
	if (gitobj_parse_delta(rest, span_of(o->data, o->len), made, (size_t)len) < 0)
		return err_set(e, -EBADMSG, "a pack has a malformed delta");
	free(o->data);
	o->data = steal_ptr(&made);
	o->len = (size_t)len;
	return 0;
}

static int read_packed(struct gitobj_store *s, const struct pack *k, uint64_t at,
                       struct gitobj_object *ret, struct err *e)
{
	struct gitobj_object o = { .data = NULL };
	int r = collect_chain(s, k, at, e);

	for (unsigned i = s->chain_count; r == 0 && i-- > 0;) {
		const struct link *l = &s->chain[i];

		if (i + 1 < s->chain_count) {
			r = apply_link(s, k, l, &o, e);
			continue;
		}
		o.type = l->head.type;
		r = inflate_link(s, k, l, &o.data, e);
		o.len = (size_t)l->head.len;
	}
	if (r < 0)
		free(o.data);
	else
		*ret = o;
	return r;
}

/* -- loose objects */

static int open_loose(struct gitobj_store *s, const struct gitobj_id *id, struct gitobj_file *ret,
                      struct err *e)
{
	char hex[GITOBJ_HEX_BYTES];
	char path[GITOBJ_PATH_MAX];
	struct buf b;

	buf_init(&b, hex, sizeof(hex));
	gitobj_put_hex(&b, id);
	buf_init(&b, path, sizeof(path));
	buf_put_str(&b, "objects/");
	buf_put(&b, hex, 2);
	buf_put_u8(&b, '/');
	buf_put(&b, hex + 2, sizeof(hex) - 2);
	return gitobj_file_open(&s->place, buf_span(&b), ret, e);
}

/* Inflates the head; *z then stands at the content, of which `early` bytes are in `raw` already. */
struct loose {
	struct gitobj_file file;
	struct gitobj_inflate *z;
	enum gitobj_type type;
	uint64_t len;
	struct span early;
	uint8_t raw[GITOBJ_LOOSE_HEAD_MAX];
};

static void loose_close(struct loose *l)
{
	gitobj_inflate_free(l->z);
	gitobj_file_close(&l->file);
}

static int loose_begin(struct gitobj_store *s, const struct gitobj_id *id, struct loose *l,
                       struct err *e)
{
	size_t got = 0;
	int r;

	*l = (struct loose){ .file.fd = -1 };
	r = open_loose(s, id, &l->file, e);
	if (r == 0)
		r = gitobj_inflate_new(&l->file, 0, l->file.size, s->budget, &l->z, e);
	if (r == 0)
		r = gitobj_inflate_read(l->z, l->raw, sizeof(l->raw), &got, e);
	if (r < 0)
		return r;
	l->early = span_of(l->raw, got);
	if (gitobj_parse_loose_head(&l->early, &l->type, &l->len) < 0)
		return err_set(e, -EBADMSG, "an object's head is malformed");
	return l->early.len > l->len ? err_set(e, -EBADMSG, "an object is larger than it says") : 0;
}

static int loose_content(struct loose *l, struct gitobj_object *ret, struct err *e)
{
	_own_free_ uint8_t *data = NULL;
	size_t got = 0;
	int r;

	if (l->len > GITOBJ_BYTES_MAX)
		return too_large(l->len, e);
	data = malloc((size_t)l->len + 1);
	if (!data)
		return err_set(e, -ENOMEM, "out of memory");
	memcpy(data, l->early.at, l->early.len);
	r = gitobj_inflate_read(l->z, data + l->early.len, (size_t)l->len - l->early.len, &got, e);
	if (r == 0 && got < l->len - l->early.len)
		r = err_set(e, -EBADMSG, "an object is smaller than it says");
	if (r == 0)
		r = gitobj_inflate_end(l->z, true, e);
	if (r < 0)
		return r;
	*ret = (struct gitobj_object){ .type = l->type, .len = (size_t)l->len };
	ret->data = steal_ptr(&data);
	return 0;
}

static int read_loose(struct gitobj_store *s, const struct gitobj_id *id, struct gitobj_object *ret,
                      struct err *e)
{
	struct loose l;
	int r = loose_begin(s, id, &l, e);

	if (r == 0)
		r = loose_content(&l, ret, e);
	loose_close(&l);
	return r;
}

/* -- both */

int gitobj_store_type(struct gitobj_store *s, const struct gitobj_id *id, enum gitobj_type *ret,
                      struct err *e)
{
	struct pack *k = NULL;
	struct loose l;
	uint64_t at = 0;
	int r = find_packed(s, id, &k, &at, e);

	if (r == 0) {
		r = collect_chain(s, k, at, e);
		if (r == 0)
			*ret = s->chain[s->chain_count - 1].head.type;
		return r;
	}
	if (r != -ENOENT)
		return r;
	r = loose_begin(s, id, &l, e);
	if (r == 0)
		*ret = l.type;
	loose_close(&l);
	return r;
}

struct new_ids {
	struct gitobj_store *store;
	gitobj_id_fn *each;
	void *arg;
	struct span dir; /* within objects/: two digits of the id */
};

static int new_loose(void *arg, struct span name, bool is_dir, struct err *e)
{
	const struct new_ids *n = arg;
	char hex[GITOBJ_HEX_BYTES];
	struct gitobj_id id;
	struct buf b;

	buf_init(&b, hex, sizeof(hex));
	buf_put_span(&b, n->dir);
	buf_put_span(&b, name);
	if (is_dir || !buf_ok(&b) || gitobj_parse_hex(buf_span(&b), &id) < 0)
		return 0;
	return n->each(n->arg, &id, e);
}

static int new_dir(void *arg, struct span name, bool is_dir, struct err *e)
{
	struct new_ids n = *(const struct new_ids *)arg;
	char path[GITOBJ_PATH_MAX];
	struct buf b;

	if (!is_dir || name.len != 2)
		return 0;
	n.dir = name;
	buf_init(&b, path, sizeof(path));
	buf_put_str(&b, "objects/");
	buf_put_span(&b, name);
	return gitobj_list_new(&n.store->place, buf_span(&b), new_loose, &n, e);
}

static int new_packed(const struct pack *k, const struct new_ids *n, struct err *e)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < k->head.fanout[255]; i++) {
		uint64_t at = k->head.ids_at + (uint64_t)i * GITOBJ_ID_BYTES;
		struct gitobj_id id;

		r = gitobj_file_read(&k->idx, at, id.b, sizeof(id.b), e);
		if (r == 0)
			r = n->each(n->arg, &id, e);
	}
	return r;
}

int gitobj_store_new(struct gitobj_store *s, gitobj_id_fn *each, void *arg, struct err *e)
{
	struct new_ids n = { .store = s, .each = each, .arg = arg };
	int r = gitobj_list_new(&s->place, span_str("objects"), new_dir, &n, e);

	for (unsigned i = 0; r == 0 && i < s->pack_count; i++)
		if (s->packs[i]->idx.proposal)
			r = new_packed(s->packs[i], &n, e);
	return r;
}

int gitobj_store_read(struct gitobj_store *s, const struct gitobj_id *id, struct gitobj_object *ret,
                      struct err *e)
{
	struct gitobj_object o = { .data = NULL };
	struct gitobj_id got;
	struct pack *k = NULL;
	uint64_t at = 0;
	int r = find_packed(s, id, &k, &at, e);

	if (r == 0)
		r = read_packed(s, k, at, &o, e);
	else if (r == -ENOENT)
		r = read_loose(s, id, &o, e);
	if (r == 0)
		r = gitobj_hash(o.type, span_of(o.data, o.len), &got, e);
	if (r == 0 && !gitobj_id_equal(&got, id))
		r = err_set(e, -EBADMSG, "object %s is not what its id says",
		            gitobj_brief(id).text);
	if (r < 0)
		free(o.data);
	else
		*ret = o;
	return r;
}
