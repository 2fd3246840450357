#include "work/gitobj.h"

#include "base/fdio.h"
#include "work/gitobj_inner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int malformed(struct err *e, const char *what)
{
	return err_set(e, -EBADMSG, "the new commits cannot be taken: %s", what);
}

static int read_at(const struct gitobj *g, uint64_t off, uint8_t *at, size_t len, struct err *e)
{
	size_t got;

	if (fd_read_at(g->stream_fd, off, at, len, &got) < 0)
		return err_sys(e, "read the new commits");
	return got < len ? malformed(e, "the stream is cut") : 0;
}

/* -- all records, in order */

static int scan_object(const struct gitobj *g, const struct gitobj_record *rec, uint64_t at,
                       gitobj_scan_fn *each, void *arg, struct err *e)
{
	_own_free_ uint8_t *data = NULL;
	struct gitobj_id id;
	int r;

	if (rec->len > g->stream_bytes - at)
		return malformed(e, "the stream is cut");
	data = malloc((size_t)rec->len + 1);
	if (!data)
		return err_set(e, -ENOMEM, "out of memory");
	r = read_at(g, at, data, (size_t)rec->len, e);
	if (r == 0)
		r = gitobj_hash(rec->type, span_of(data, (size_t)rec->len), &id, e);
	if (r < 0)
		return r;
	if (!gitobj_id_equal(&id, &rec->id))
		return malformed(e, "an object is not what its id says");
	return each(arg, rec, span_of(data, (size_t)rec->len), e);
}

int gitobj_scan(const struct gitobj *g, gitobj_scan_fn *each, void *arg, struct err *e)
{
	uint8_t window[GITOBJ_STREAM_HEAD_MAX];
	uint64_t at = 0;

	for (bool begun = false;;) {
		uint64_t left = g->stream_bytes - at;
		size_t n = left < sizeof(window) ? (size_t)left : sizeof(window);
		struct span in = span_of(window, n);
		struct gitobj_record rec;
		int r = read_at(g, at, window, n, e);

		if (r < 0)
			return r;
		if (!begun && gitobj_parse_stream_head(&in) < 0)
			return malformed(e, "the stream has no head");
		if (gitobj_parse_record(&in, &rec) < 0)
			return malformed(e, "a record of the stream");
		begun = true;
		at += n - in.len;
		if (rec.kind == GITOBJ_REC_OBJECT)
			r = scan_object(g, &rec, at, each, arg, e);
		else
			r = each(arg, &rec, span_of(NULL, 0), e);
		if (r != 0)
			return r;
		at += rec.len;
		if (rec.kind == GITOBJ_REC_END)
			return at == g->stream_bytes ? 0
			                             : malformed(e, "something follows its end");
	}
}

/* -- judging them */

static int child(void *arg, const struct gitobj_id *id, enum gitobj_type type, struct err *e)
{
	struct gitobj *g = arg;
	struct gitobj_seen *seen;
	enum gitobj_type is = type;
	int r = gitobj_set_at(g->set, id, &seen, e);

	if (r < 0)
		return r;
	if (seen->state == GITOBJ_UNSEEN) {
		r = g->store ? gitobj_store_type(g->store, id, &is, e) : 0;
		if (r == -ENOENT)
			return err_set(
				e, -EBADMSG,
				"the new commits cannot be taken: they need object %s, which "
				"the repository does not have",
				gitobj_brief(id).text);
		if (r < 0)
			return r;
		seen->state = GITOBJ_OUTSIDE;
		seen->type = (uint8_t)is;
	}
	if (seen->type != type)
		return malformed(e, "an object is of another type than it has to be");
	if (type == GITOBJ_TREE && seen->height >= g->height)
		g->height = (uint16_t)(seen->height + 1);
	return 0;
}

static int judge_object(struct gitobj *g, const struct gitobj_record *rec, struct span data,
                        struct err *e)
{
	struct gitobj_seen *seen;
	int r;

	if (g->totals.refs + g->totals.refused > 0)
		return malformed(e, "an object comes after the refs");
	g->height = 1;
	r = gitobj_children(rec->type, data, child, g, e);
	if (r == 0)
		r = gitobj_set_at(g->set, &rec->id, &seen, e);
	if (r != 0)
		return r;
	if (seen->state != GITOBJ_UNSEEN || g->height > GITOBJ_HEIGHT_MAX)
		return malformed(e, "an object is there twice, or nested too deep");
	seen->state = GITOBJ_DONE;
	seen->type = (uint8_t)rec->type;
	seen->height = g->height;
	g->totals.objects++;
	g->totals.commits += rec->type == GITOBJ_COMMIT;
	g->totals.bytes += rec->len;
	return 0;
}

static int copy(struct span s, struct span *ret, struct err *e)
{
	uint8_t *at = malloc(s.len + 1);

	if (!at)
		return err_set(e, -ENOMEM, "out of memory");
	if (s.len > 0)
		memcpy(at, s.at, s.len);
	*ret = span_of(at, s.len);
	return 0;
}

static bool is_there(const struct gitobj *g, struct span name)
{
	for (uint32_t i = 0; i < g->totals.refs + g->totals.refused; i++) {
		if (!g->branches[i].refused && span_equal(g->branches[i].name, name))
			return true;
	}
	return false;
}

static int judge_ref(struct gitobj *g, const struct gitobj_record *rec, struct err *e)
{
	uint32_t n = g->totals.refs + g->totals.refused;
	struct gitobj_branch *b = &g->branches[n];
	int r = 0;

	if (n > GITOBJ_REFS_CHANGED_MAX)
		return malformed(e, "too many refs");
	if (rec->kind == GITOBJ_REC_REF && is_there(g, rec->name))
		return malformed(e, "a ref is there twice");
	if (rec->kind == GITOBJ_REC_REF)
		r = child(g, &rec->id, GITOBJ_COMMIT, e);
	if (r == 0)
		r = copy(rec->name, &b->name, e);
	if (r == 0)
		r = copy(rec->reason, &b->reason, e);
	if (r < 0)
		return r;
	b->id = rec->id;
	b->refused = rec->kind == GITOBJ_REC_REFUSED;
	g->totals.refs += !b->refused;
	g->totals.refused += b->refused;
	return 0;
}

static int judge(void *arg, const struct gitobj_record *rec, struct span data, struct err *e)
{
	struct gitobj *g = arg;

	switch (rec->kind) {
	case GITOBJ_REC_OBJECT:
		return judge_object(g, rec, data, e);
	case GITOBJ_REC_REF:
	case GITOBJ_REC_REFUSED:
		return judge_ref(g, rec, e);
	case GITOBJ_REC_END:
		break;
	}
	return rec->objects == g->totals.objects && rec->refs == g->totals.refs &&
	                       rec->refused == g->totals.refused
	               ? 0
	               : malformed(e, "its sums");
}

int gitobj_open(int stream_fd, int repo_fd, struct gitobj **ret, struct err *e)
{
	const struct gitobj_place place = { .host_fd = repo_fd };
	_own_(gitobj_free) struct gitobj *g = calloc(1, sizeof(*g));
	struct stat st;
	int r;

	if (!g)
		return err_set(e, -ENOMEM, "out of memory");
	g->stream_fd = stream_fd;
	g->repo_fd = repo_fd;
	g->budget.bytes = GITOBJ_INFLATED_BYTES_MAX;
	g->branches = calloc(GITOBJ_REFS_CHANGED_MAX + 2, sizeof(*g->branches));
	if (!g->branches)
		return err_set(e, -ENOMEM, "out of memory");
	if (fstat(stream_fd, &st) < 0)
		return err_sys(e, "look at the new commits");
	g->stream_bytes = (uint64_t)st.st_size;
	r = gitobj_set_new(&g->set, e);
	if (r == 0 && repo_fd >= 0)
		r = gitobj_store_open(&place, &g->budget, &g->store, e);
	if (r == 0)
		r = gitobj_scan(g, judge, g, e);
	if (r < 0)
		return r;
	*ret = steal_ptr(&g);
	return 0;
}

void gitobj_free(struct gitobj *g)
{
	if (!g)
		return;
	for (uint32_t i = 0; g->branches && i < GITOBJ_REFS_CHANGED_MAX + 2; i++) {
		free((void *)(uintptr_t)g->branches[i].name.at);
		free((void *)(uintptr_t)g->branches[i].reason.at);
	}
	free(g->branches);
	gitobj_store_free(g->store);
	gitobj_set_free(g->set);
	free(g);
}

/* -- asking */

void gitobj_totals(const struct gitobj *g, struct gitobj_totals *ret)
{
	*ret = g->totals;
}

void gitobj_branch(const struct gitobj *g, uint32_t i, struct gitobj_branch *ret)
{
	*ret = g->branches[i];
}

struct commits {
	gitobj_commit_fn *each;
	void *arg;
};

static int tell_commit(void *arg, const struct gitobj_record *rec, struct span data, struct err *e)
{
	const struct commits *c = arg;
	enum gitobj_bad bad = GITOBJ_BAD_NONE;
	struct gitobj_commit commit;

	if (rec->kind != GITOBJ_REC_OBJECT || rec->type != GITOBJ_COMMIT)
		return 0;
	if (gitobj_parse_commit(data, &commit, &bad) < 0)
		return malformed(e, gitobj_bad_text(bad));
	return c->each(c->arg, &rec->id, &commit, e);
}

int gitobj_commits(struct gitobj *g, gitobj_commit_fn *each, void *arg, struct err *e)
{
	struct commits c = { each, arg };

	return gitobj_scan(g, tell_commit, &c, e);
}

bool gitobj_side_ref(const char *session, struct span branch, struct buf *out)
{
	size_t before = out->len;

	if (!gitobj_branch_ok(branch) || strlen(session) > GITOBJ_SESSION_MAX)
		return false;
	if (gitobj_parse_ref_is_branch(branch))
		branch = span_of(branch.at + GITOBJ_HEADS_BYTES, branch.len - GITOBJ_HEADS_BYTES);
	buf_put_str(out, "refs/berm/");
	buf_put_str(out, session);
	buf_put_u8(out, '/');
	buf_put_span(out, branch);
	return buf_ok(out) &&
	       gitobj_parse_ref_name_ok(span_of(out->at + before, out->len - before));
}
