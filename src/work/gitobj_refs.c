#include "work/gitobj_refs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char all[] = "refs";

/* Names that are not in the text of packed-refs. */
struct kept {
	struct kept *next;
	uint8_t bytes[];
};

struct gitobj_refs {
	struct gitobj_ref *refs;
	size_t count, room;
	size_t other; /* of count: no branches */
	size_t staying;
	uint8_t *packed;
	struct kept *kept;
	struct span head_target;
	struct gitobj_id head;
	bool detached;
	bool cut;
};

void gitobj_refs_free(struct gitobj_refs *r)
{
	if (!r)
		return;
	while (r->kept) {
		struct kept *k = r->kept;

		r->kept = k->next;
		free(k);
	}
	free(r->packed);
	free(r->refs);
	free(r);
}

static int keep(struct gitobj_refs *r, struct span s, struct span *ret, struct err *e)
{
	struct kept *k = malloc(sizeof(*k) + s.len + 1);

	if (!k)
		return err_set(e, -ENOMEM, "out of memory");
	if (s.len > 0)
		memcpy(k->bytes, s.at, s.len);
	k->next = r->kept;
	r->kept = k;
	*ret = span_of(k->bytes, s.len);
	return 0;
}

static int add(struct gitobj_refs *r, const struct gitobj_ref *ref, struct err *e)
{
	bool stays = !gitobj_parse_ref_comes(ref->name);
	bool other = !stays && !gitobj_parse_ref_is_branch(ref->name);

	if (stays && r->staying == GITOBJ_STAYING_REFS_MAX)
		return 0;
	if (other && r->other == GITOBJ_OTHER_REFS_MAX) {
		r->cut = true;
		return 0;
	}
	if (r->count == GITOBJ_REFS_MAX)
		return err_set(e, -E2BIG, "the repository has over %d branches", GITOBJ_REFS_MAX);
	r->other += other;
	r->staying += stays;
	if (r->count == r->room) {
		size_t room = r->room ? 2 * r->room : 64;
		struct gitobj_ref *more = reallocarray(r->refs, room, sizeof(*more));

		if (!more)
			return err_set(e, -ENOMEM, "out of memory");
		r->refs = more;
		r->room = room;
	}
	r->refs[r->count] = *ref;
	r->refs[r->count++].stays = stays;
	return 0;
}

/* -- packed-refs */

static int load_packed(const struct gitobj_place *p, struct gitobj_refs *r, struct err *e)
{
	struct gitobj_file f;
	struct gitobj_ref ref = { .loose = false };
	struct span in;
	int code = gitobj_file_open(p, span_str("packed-refs"), &f, e);

	if (code < 0)
		return code == -ENOENT ? 0 : code;
	code = gitobj_file_text(&f, GITOBJ_PACKED_REFS_MAX, &r->packed, e);
	in = span_of(r->packed, (size_t)f.size);
	gitobj_file_close(&f);
	if (code < 0)
		return code;
	for (;;) {
		code = gitobj_parse_packed_ref(&in, &ref.id, &ref.name);
		if (code == -ENODATA)
			return 0;
		if (code < 0)
			return err_set(e, code, "packed-refs is malformed, or not of SHA-1");
		ref.bad = !gitobj_parse_ref_name_ok(ref.name); /* that one alone is refused */
		code = add(r, &ref, e);
		if (code < 0)
			return code;
	}
}

/* -- files */

struct walk {
	const struct gitobj_place *place;
	struct gitobj_refs *refs;
	struct span dir;
	unsigned depth;
};

/* 0, -ENOENT or worse; ret->bad for what is there and no ref. */
static int read_ref(const struct gitobj_place *p, struct span path, struct gitobj_ref *ret,
                    struct gitobj_refs *keeper, struct span *ret_target, struct err *e)
{
	_own_free_ uint8_t *text = NULL;
	struct gitobj_file f;
	struct span target;
	int r = gitobj_file_open(p, path, &f, e);

	if (r < 0)
		return r;
	if (f.size > GITOBJ_REF_FILE_MAX) {
		ret->bad = true;
		gitobj_file_close(&f);
		return 0;
	}
	r = gitobj_file_text(&f, GITOBJ_REF_FILE_MAX, &text, e);
	gitobj_file_close(&f);
	if (r < 0)
		return r;
	ret->bad = gitobj_parse_ref(span_of(text, (size_t)f.size), &ret->id, &target) < 0;
	return ret->bad ? 0 : keep(keeper, target, ret_target, e);
}

static int each_ref(void *arg, struct span name, bool is_dir, struct err *e)
{
	const struct walk *w = arg;
	struct walk deeper = { w->place, w->refs, { 0 }, w->depth + 1 };
	struct gitobj_ref ref = { .loose = true };
	uint8_t room[WPATH_MAX];
	struct span target = { 0 };
	struct buf path;
	int r;

	buf_init(&path, room, sizeof(room));
	wpath_put(&path, w->dir, name);
	if (!buf_ok(&path) || (is_dir && w->depth == GITOBJ_REF_DEPTH_MAX))
		return err_set(e, -E2BIG, "a branch has a name that is too long");
	if (is_dir) {
		deeper.dir = buf_span(&path);
		return gitobj_list(w->place, deeper.dir, each_ref, &deeper, e);
	}
	if (name.len > 5 && memcmp(name.at + name.len - 5, ".lock", 5) == 0)
		return 0; /* what git left behind when it was killed */
	r = keep(w->refs, buf_span(&path), &ref.name, e);
	if (r == 0)
		r = read_ref(w->place, ref.name, &ref, w->refs, &target, e);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (!ref.bad && target.len > 0)
		return 0; /* another name for a branch that is here itself */
	ref.bad = ref.bad || !gitobj_parse_ref_name_ok(ref.name);
	return add(w->refs, &ref, e);
}

static int load_head(const struct gitobj_place *p, struct gitobj_refs *r, struct err *e)
{
	struct gitobj_ref ref = { .loose = true };
	int code = read_ref(p, span_str("HEAD"), &ref, r, &r->head_target, e);

	if (code < 0 || ref.bad)
		return code == -ENOENT || code == 0
		               ? err_set(e, -ENOENT, "there is no repository: it has no HEAD")
		               : code;
	r->detached = r->head_target.len == 0;
	r->head = ref.id;
	return 0;
}

/* -- both */

static int by_name(const void *a, const void *b)
{
	const struct gitobj_ref *x = a;
	const struct gitobj_ref *y = b;
	int way = wpath_cmp(x->name, y->name);

	return way != 0 ? way : (int)y->loose - (int)x->loose;
}

static void sort(struct gitobj_refs *r)
{
	size_t n = 0;

	if (r->count > 0)
		qsort(r->refs, r->count, sizeof(*r->refs), by_name);
	for (size_t i = 0; i < r->count; i++) {
		if (n == 0 || !span_equal(r->refs[n - 1].name, r->refs[i].name))
			r->refs[n++] = r->refs[i];
	}
	r->count = n;
}

int gitobj_refs_load(const struct gitobj_place *p, struct gitobj_refs **ret, struct err *e)
{
	_own_(gitobj_refs_free) struct gitobj_refs *r = calloc(1, sizeof(*r));
	struct walk w = { .place = p, .refs = r, .dir = span_str(all) };
	int code;

	if (!r)
		return err_set(e, -ENOMEM, "out of memory");
	code = load_head(p, r, e);
	if (code == 0)
		code = load_packed(p, r, e);
	if (code == 0)
		code = gitobj_list(p, w.dir, each_ref, &w, e);
	if (code < 0)
		return code;
	sort(r);
	*ret = steal_ptr(&r);
	return 0;
}

int gitobj_refs_none(struct gitobj_refs **ret, struct err *e)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : err_set(e, -ENOMEM, "out of memory");
}

size_t gitobj_refs_count(const struct gitobj_refs *r)
{
	return r->count;
}

const struct gitobj_ref *gitobj_refs_at(const struct gitobj_refs *r, size_t i)
{
	return &r->refs[i];
}

const struct gitobj_ref *gitobj_refs_find(const struct gitobj_refs *r, struct span name)
{
	size_t low = 0;
	size_t high = r->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int way = wpath_cmp(r->refs[middle].name, name);

		if (way == 0)
			return &r->refs[middle];
		if (way < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

bool gitobj_refs_cut(const struct gitobj_refs *r)
{
	return r->cut;
}

bool gitobj_refs_head(const struct gitobj_refs *r, struct gitobj_id *ret, bool *ret_detached)
{
	const struct gitobj_ref *branch;

	*ret_detached = r->detached;
	if (r->detached) {
		*ret = r->head;
		return true;
	}
	branch = gitobj_refs_find(r, r->head_target);
	if (!branch || branch->bad)
		return false;
	*ret = branch->id;
	return true;
}
