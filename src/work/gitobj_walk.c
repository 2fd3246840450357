#include "work/gitobj_walk.h"

#include "work/gitobj_lost.h"
#include "work/gitobj_refs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum {
	STACK_MAX = 1 << 21, /* objects that wait: names of trees that are half walked */
	TAGS_DEPTH_MAX = 8,  /* tags of tags */
};

struct item {
	struct gitobj_id id;
	uint16_t type;
	uint16_t again; /* what it points to is written; now itself */
};

struct outcome {
	struct span name;
	struct gitobj_id id;
	bool refused;
	struct err why;
};

struct walk {
	struct gitobj_store *old, *now; /* of the base, of the proposal over it */
	struct gitobj_refs *old_refs, *now_refs;
	struct gitobj_set *set;
	struct gitobj_lost_list lost;
	struct gitobj_budget budget;
	struct item *stack;
	size_t waiting, room;
	int out_fd;
	uint64_t out_at;
	uint16_t round;
	uint16_t height; /* of the tree in hand */
	uint32_t objects;
	size_t outcome_count;
	struct outcome outcomes[GITOBJ_REFS_CHANGED_MAX + 1];
};

/* -- writing */

static int write_at(struct walk *w, const void *data, size_t len, struct err *e)
{
	const uint8_t *at = data;

	if (len > GITOBJ_STREAM_BYTES_MAX - w->out_at)
		return err_set(e, -E2BIG, "the new objects are too large together");
	while (len > 0) {
		ssize_t n = pwrite(w->out_fd, at, len, (off_t)w->out_at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, "write the new objects");
		at += n;
		w->out_at += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

static int write_record(struct walk *w, const struct gitobj_record *rec, struct err *e)
{
	uint8_t room[GITOBJ_STREAM_HEAD_MAX];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	gitobj_put_record(&b, rec);
	return buf_ok(&b) ? write_at(w, b.at, b.len, e) : err_set(e, -E2BIG, "a name is too long");
}

static int write_object(struct walk *w, const struct gitobj_id *id, const struct gitobj_object *o,
                        struct err *e)
{
	const struct gitobj_record rec = {
		.kind = GITOBJ_REC_OBJECT, .type = o->type, .id = *id, .len = o->len
	};
	struct gitobj_seen *seen;
	int r = write_record(w, &rec, e);

	if (r == 0)
		r = write_at(w, o->data, o->len, e);
	if (r == 0)
		r = gitobj_set_at(w->set, id, &seen, e);
	if (r != 0)
		return r;
	seen->state = GITOBJ_DONE;
	seen->type = (uint8_t)o->type;
	seen->round = w->round;
	seen->height = w->height;
	w->objects++;
	return 0;
}

/* -- one branch */

static int push(struct walk *w, const struct item *it, struct err *e)
{
	if (w->waiting == w->room) {
		size_t room = w->room ? 2 * w->room : 256;
		struct item *more;

		if (room > STACK_MAX)
			return err_set(e, -E2BIG, "too many objects at once");
		more = reallocarray(w->stack, room, sizeof(*more));
		if (!more)
			return err_set(e, -ENOMEM, "out of memory");
		w->stack = more;
		w->room = room;
	}
	w->stack[w->waiting++] = *it;
	return 0;
}

static int wrong_type(const struct gitobj_id *id, enum gitobj_type is, enum gitobj_type wanted,
                      struct err *e)
{
	return err_set(e, -EBADMSG, "object %s is a %s where a %s has to be", gitobj_brief(id).text,
	               gitobj_type_name(is), gitobj_type_name(wanted));
}

/* Something is pointed to: it is known, or the base has it, or it waits to be read. */
static int visit(void *arg, const struct gitobj_id *id, enum gitobj_type type, struct err *e)
{
	const struct item it = { .id = *id, .type = (uint16_t)type };
	struct walk *w = arg;
	struct gitobj_seen *seen;
	enum gitobj_type is;
	int r = gitobj_set_at(w->set, id, &seen, e);

	if (r < 0)
		return r;
	if (seen->state == GITOBJ_OPEN)
		return err_set(e, -EBADMSG, "object %s contains itself", gitobj_brief(id).text);
	if (seen->state == GITOBJ_UNSEEN) {
		r = gitobj_store_type(w->old, id, &is, e);
		if (r == -ENOENT)
			return push(w, &it, e);
		if (r < 0)
			return r;
		seen->state = GITOBJ_OUTSIDE;
		seen->type = (uint8_t)is;
	}
	return seen->type == type ? 0 : wrong_type(id, seen->type, type, e);
}

static int add_height(void *arg, const struct gitobj_id *id, enum gitobj_type type, struct err *e)
{
	struct walk *w = arg;
	struct gitobj_seen *seen;
	int r = type == GITOBJ_TREE ? gitobj_set_at(w->set, id, &seen, e) : -ENOENT;

	if (r == 0 && seen->height >= w->height)
		w->height = (uint16_t)(seen->height + 1);
	return r == -ENOENT ? 0 : r;
}

/* All it points to is in the stream. */
static int close_object(struct walk *w, const struct item *it, const struct gitobj_object *o,
                        struct err *e)
{
	int r = 0;

	w->height = 1;
	if (o->type == GITOBJ_TREE)
		r = gitobj_children(o->type, span_of(o->data, o->len), add_height, w, e);
	if (r == 0 && w->height > GITOBJ_HEIGHT_MAX)
		r = err_set(e, -EBADMSG, "trees are nested over %d deep", GITOBJ_HEIGHT_MAX);
	return r == 0 ? write_object(w, &it->id, o, e) : r;
}

static int open_object(struct walk *w, const struct item *it, const struct gitobj_object *o,
                       struct err *e)
{
	struct item again = *it;
	struct gitobj_seen *seen;
	int r;

	if (o->type != it->type)
		return wrong_type(&it->id, o->type, it->type, e);
	if (o->type == GITOBJ_BLOB)
		return close_object(w, it, o, e);
	r = gitobj_set_at(w->set, &it->id, &seen, e);
	if (r < 0)
		return r;
	seen->state = GITOBJ_OPEN;
	seen->round = w->round;
	again.again = 1;
	r = push(w, &again, e);
	if (r == 0)
		r = gitobj_children(o->type, span_of(o->data, o->len), visit, w, e);
	return r < 0 ? err_wrap(e, "%s %s", gitobj_type_name(o->type), gitobj_brief(&it->id).text)
	             : 0;
}

static int process(struct walk *w, const struct item *it, struct err *e)
{
	struct gitobj_object o = { .data = NULL };
	struct gitobj_seen *seen;
	int r = gitobj_set_at(w->set, &it->id, &seen, e);

	if (r < 0 || (!it->again && seen->state == GITOBJ_DONE))
		return r;
	r = gitobj_store_read(w->now, &it->id, &o, e);
	if (r == -ENOENT)
		return err_set(e, r, "%s %s is missing", gitobj_type_name(it->type),
		               gitobj_brief(&it->id).text);
	if (r < 0)
		return r;
	r = it->again ? close_object(w, it, &o, e) : open_object(w, it, &o, e);
	free(o.data);
	return r;
}

static int walk_commit(struct walk *w, const struct gitobj_id *id, struct err *e)
{
	int r = visit(w, id, GITOBJ_COMMIT, e);

	while (r == 0 && w->waiting > 0) {
		struct item it = w->stack[--w->waiting];

		r = process(w, &it, e);
	}
	return r;
}

/*
 * A tag with words of its own stands for a commit: that comes home, for its sake the tag's name,
 * and the words do not.
 */
static int peel(struct walk *w, struct gitobj_id *id, struct err *e)
{
	for (int depth = 0; depth < TAGS_DEPTH_MAX; depth++) {
		struct gitobj_object o = { .data = NULL };
		enum gitobj_type type;
		int r = gitobj_store_type(w->now, id, &type, e);

		if (r < 0 || type != GITOBJ_TAG)
			return r == -ENOENT ? err_set(e, r, "object %s is missing",
			                              gitobj_brief(id).text)
			                    : r;
		r = gitobj_store_read(w->now, id, &o, e);
		if (r == 0 && gitobj_parse_tag(span_of(o.data, o.len), id, &type) < 0)
			r = err_set(e, -EBADMSG, "tag %s is malformed", gitobj_brief(id).text);
		free(o.data);
		if (r < 0)
			return r;
	}
	return err_set(e, -EBADMSG, "tags of tags, over %d deep", TAGS_DEPTH_MAX);
}

/* Is that the branch's fault, and not the machine's? */
static bool is_refusal(int r)
{
	return r == -EBADMSG || r == -ENOENT || r == -E2BIG;
}

static int walk_branch(struct walk *w, const struct gitobj_ref *ref, struct err *e)
{
	struct outcome *o = &w->outcomes[w->outcome_count++];
	uint64_t out_at = w->out_at;
	uint32_t objects = w->objects;
	int r;

	*o = (struct outcome){ .name = ref->name, .id = ref->id };
	if (ref->bad || !gitobj_branch_ok(ref->name)) {
		o->refused = true;
		(void)err_set(&o->why, -EBADMSG, "it is no branch that can be read");
		return 0;
	}
	w->round++;
	w->waiting = 0;
	r = gitobj_parse_ref_is_branch(ref->name) ? 0 : peel(w, &o->id, &o->why);
	if (r == 0)
		r = walk_commit(w, &o->id, &o->why);
	if (r == 0)
		return 0;
	if (!is_refusal(r)) {
		*e = o->why;
		return r;
	}
	o->refused = true;
	gitobj_set_undo(w->set, w->round);
	w->out_at = out_at;
	w->objects = objects;
	return 0;
}

/* -- all of them */

static void refuse_rest(struct walk *w, const char *which, int max, const char *why)
{
	struct outcome *o = &w->outcomes[w->outcome_count++];

	*o = (struct outcome){ .name = span_str(which), .refused = true };
	(void)err_set(&o->why, -E2BIG, "over %d %s", max, why);
}

/* A commit without a branch that was checked out at the end. */
static int walk_head(struct walk *w, struct err *e)
{
	struct gitobj_ref head = { .name = span_str("HEAD"), .loose = true };
	struct gitobj_id was;
	bool detached, ignored;

	if (!gitobj_refs_head(w->now_refs, &head.id, &detached) || !detached)
		return 0;
	if (gitobj_refs_head(w->old_refs, &was, &ignored) && gitobj_id_equal(&was, &head.id))
		return 0;
	return walk_branch(w, &head, e);
}

static bool is_new(const struct walk *w, const struct gitobj_ref *ref)
{
	const struct gitobj_ref *old = gitobj_refs_find(w->old_refs, ref->name);

	return !old || old->bad != ref->bad || !gitobj_id_equal(&old->id, &ref->id);
}

static bool is_told(const struct walk *w, const struct gitobj_lost *l)
{
	for (size_t i = 0; i < w->outcome_count; i++)
		if (gitobj_id_equal(&w->outcomes[i].id, &l->id))
			return true; /* it was refused, with the reason */
	return gitobj_refs_find(w->now_refs, span_str(l->name)) != NULL;
}

static int find_lost(struct walk *w, struct err *e)
{
	int r = gitobj_lost_find(w->now, w->old, w->set, &w->lost, e);

	for (size_t i = 0; r == 0 && w->lost.count > 0 && i < gitobj_refs_count(w->now_refs); i++) {
		const struct gitobj_ref *ref = gitobj_refs_at(w->now_refs, i);

		if (ref->stays && !ref->bad)
			r = gitobj_lost_hold(&w->lost, w->now, &ref->id, e);
	}
	return r;
}

/* What no ref holds any more: git alone knows of it, and not for long. */
static int walk_lost(struct walk *w, struct err *e)
{
	int r = find_lost(w, e);
	bool cut = w->lost.cut;

	for (size_t i = 0; r == 0 && i < w->lost.count; i++) {
		const struct gitobj_lost *l = &w->lost.at[i];
		const struct gitobj_ref ref = { .name = span_str(l->name), .id = l->id };

		if (l->held || is_told(w, l))
			continue;
		if (w->outcome_count >= GITOBJ_REFS_CHANGED_MAX - 1) {
			cut = true;
			break;
		}
		r = walk_branch(w, &ref, e);
	}
	if (r == 0 && cut && w->outcome_count < GITOBJ_REFS_CHANGED_MAX)
		refuse_rest(w, "refs/lost-found", GITOBJ_REFS_CHANGED_MAX - 1,
		            "refs, or too many objects: some commits that no ref holds stay here");
	return r;
}

static int walk_branches(struct walk *w, struct err *e)
{
	bool cut = gitobj_refs_cut(w->now_refs) || gitobj_refs_cut(w->old_refs);
	int r = walk_head(w, e);

	/* sorted by name, so refs/heads is before notes, the stash and tags: those have least */
	for (size_t i = 0; r == 0 && i < gitobj_refs_count(w->now_refs); i++) {
		const struct gitobj_ref *ref = gitobj_refs_at(w->now_refs, i);

		if (ref->stays || !is_new(w, ref) ||
		    (cut && !gitobj_parse_ref_is_branch(ref->name)))
			continue;
		if (w->outcome_count == GITOBJ_REFS_CHANGED_MAX - 1) {
			refuse_rest(w, "refs", GITOBJ_REFS_CHANGED_MAX - 1,
			            "branches and tags were changed; the others stay here");
			break;
		}
		r = walk_branch(w, ref, e);
	}
	if (r == 0)
		r = walk_lost(w, e);
	if (r == 0 && cut)
		refuse_rest(w, "refs/tags", GITOBJ_OTHER_REFS_MAX,
		            "tags and other refs: of them none comes back");
	return r;
}

static int write_outcomes(struct walk *w, struct gitobj_walk_totals *ret, struct err *e)
{
	struct gitobj_walk_totals t = { .objects = w->objects };
	struct gitobj_record end = { .kind = GITOBJ_REC_END };
	int r = 0;

	for (size_t i = 0; r == 0 && i < w->outcome_count; i++) {
		const struct outcome *o = &w->outcomes[i];
		struct gitobj_record rec = {
			.kind = o->refused ? GITOBJ_REC_REFUSED : GITOBJ_REC_REF,
			.id = o->id,
			.name = o->name,
			.reason = span_of(o->why.text, o->why.len),
		};

		if (rec.name.len > GITOBJ_REF_MAX)
			rec.name.len = GITOBJ_REF_MAX;
		t.refs += !o->refused;
		t.refused += o->refused;
		r = write_record(w, &rec, e);
	}
	end.objects = t.objects;
	end.refs = t.refs;
	end.refused = t.refused;
	if (r == 0)
		r = write_record(w, &end, e);
	if (r == 0 && ftruncate(w->out_fd, (off_t)w->out_at) < 0)
		r = err_sys(e, "write the new objects");
	if (r == 0)
		*ret = t;
	return r;
}

/* -- repositories that are not read */

static int is_promisor(void *arg, struct span name, bool is_dir, struct err *e)
{
	(void)arg;
	(void)is_dir;
	(void)e;
	return name.len > 9 && memcmp(name.at + name.len - 9, ".promisor", 9) == 0;
}

static int check_kind(const struct gitobj_place *p, struct err *e)
{
	static const struct {
		const char *path, *what;
	} kinds[] = {
		{ "reftable/tables.list", "its refs are kept as reftable" },
		{ "objects/info/alternates", "some of its objects are in another repository" },
		{ "commondir", "it is a part of another repository" },
	};
	int r;

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct gitobj_file f;

		r = gitobj_file_open(p, span_str(kinds[i].path), &f, e);
		if (r == -ENOENT)
			continue;
		if (r < 0)
			return r;
		gitobj_file_close(&f);
		return err_set(e, -EOPNOTSUPP, "the repository cannot be read here: %s",
		               kinds[i].what);
	}
	r = gitobj_list(p, span_str("objects/pack"), is_promisor, NULL, e);
	return r > 0 ? err_set(e, -EOPNOTSUPP,
	                       "the repository cannot be read here: it is a partial clone")
	             : r;
}

static void walk_free(struct walk *w)
{
	if (!w)
		return;
	gitobj_store_free(w->old);
	gitobj_store_free(w->now);
	gitobj_refs_free(w->old_refs);
	gitobj_refs_free(w->now_refs);
	gitobj_set_free(w->set);
	free(w->lost.at);
	free(w->stack);
	free(w);
}
OWN_DEFINE(struct walk, walk_free)

/* Without a repository in the base the guest made its own: all of it is new. */
static int load_old(struct walk *w, const struct gitobj_place *old, struct err *e)
{
	int r = gitobj_refs_load(old, &w->old_refs, e);

	if (r != -ENOENT)
		return r;
	err_clear(e);
	return gitobj_refs_none(&w->old_refs, e);
}

static int open_all(struct walk *w, const struct gitobj_place *old, const struct gitobj_place *now,
                    struct err *e)
{
	int r = check_kind(old, e);

	if (r == 0)
		r = load_old(w, old, e);
	if (r < 0)
		return err_wrap(e, "the workspace as it was");
	r = check_kind(now, e);
	if (r == 0)
		r = gitobj_refs_load(now, &w->now_refs, e);
	if (r == 0)
		r = gitobj_set_new(&w->set, e);
	if (r == 0)
		r = gitobj_store_open(old, &w->budget, &w->old, e);
	return r == 0 ? gitobj_store_open(now, &w->budget, &w->now, e) : r;
}

int gitobj_walk_run(struct base *base, const struct proposal *proposal, struct span git_dir,
                    int out_fd, struct gitobj_walk_totals *ret, struct err *e)
{
	const struct gitobj_place old = { .base = base, .git_dir = git_dir, .host_fd = -1 };
	_own_(walk_free) struct walk *w = calloc(1, sizeof(*w));
	struct gitobj_place now = old;
	uint8_t head[GITOBJ_STREAM_MAGIC_BYTES];
	struct buf b;
	int r;

	if (!w)
		return err_set(e, -ENOMEM, "out of memory");
	w->out_fd = out_fd;
	w->budget.bytes = GITOBJ_INFLATED_BYTES_MAX;
	now.proposal = proposal;
	r = open_all(w, &old, &now, e);
	if (r < 0)
		return r;
	buf_init(&b, head, sizeof(head));
	gitobj_put_stream_head(&b);
	r = write_at(w, b.at, b.len, e);
	if (r == 0)
		r = walk_branches(w, e);
	return r == 0 ? write_outcomes(w, ret, e) : r;
}
