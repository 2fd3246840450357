#include "base/ck.h"
#include "work/apply_inner.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

void apply_plan_free(struct apply_plan *p)
{
	if (!p)
		return;
	free(p->fate);
	free(p->found);
	free(p->made);
	free(p->gone);
	free(p->chmod);
	free(p->steps);
	free(p->step_op);
	while (p->names) {
		struct apply_name *next = p->names->next;

		free(p->names);
		p->names = next;
	}
	free(p);
}

/* -- a plan judged alone ----------------------------------------------------------------------- */

/*
 * What is in a git directory is never a file to apply, whatever was decided: that is where the host
 * would run it. And the staging directories of all sessions are ours.
 */
static bool reserved(struct span path)
{
	struct span first, name, rest = path;
	struct span stage = span_str(APPLY_STAGE_PREFIX);

	if (!wpath_next(&rest, &first))
		return true; /* the root is not a thing of the plan */
	if (first.len >= stage.len && memcmp(first.at, stage.at, stage.len) == 0)
		return true;
	rest = path;
	while (wpath_next(&rest, &name))
		if (name.len == 4 && strncasecmp((const char *)name.at, ".git", 4) == 0)
			return true;
	return false;
}

static int judge_path(const char *path, struct err *e)
{
	enum wpath_fault fault;

	if (!path)
		return err_set(e, -EINVAL, "an operation without a path");
	if (wpath_parse(span_str(path), &fault) < 0)
		return err_set(e, -EINVAL, "'%s': %s", path, wpath_fault_text(fault));
	if (reserved(span_str(path)))
		return err_set(e, -EINVAL, "'%s' is never applied", path);
	return 0;
}

static int judge_content(const struct apply_op *op, struct err *e)
{
	const struct apply_content *c = &op->content;
	uint64_t end = 0;

	if (c->size >> APPLY_FILE_MAX_SHIFT)
		return err_set(e, -EFBIG, "'%s' is too large", op->path);
	if (c->bytes || c->name)
		return 0;
	for (size_t i = 0; i < c->extents_count; i++) {
		const struct apply_extent *x = &c->extents[i];
		uint64_t past;

		if (x->at < end || !ck_range(x->at, x->len, c->size) ||
		    !ck_add(x->from, x->len, &past) || past > INT64_MAX)
			return err_set(e, -EINVAL, "'%s': its extents contradict each other",
			               op->path);
		end = x->at + x->len;
	}
	return 0;
}

static int judge_put(const struct apply_op *op, struct err *e)
{
	if (op->kind == APPLY_FILE)
		return judge_content(op, e);
	if (op->kind != APPLY_LINK || !op->target || !*op->target || strlen(op->target) > WPATH_MAX)
		return err_set(e, -EINVAL, "'%s': neither a file nor a link", op->path);
	return 0;
}

static int judge(const struct apply_op *op, struct err *e)
{
	int r = judge_path(op->path, e);

	if (r < 0)
		return r;
	if (op->what > APPLY_RMDIR || op->seen.kind >= APPLY_OTHER)
		return err_set(e, -EINVAL, "'%s': no operation of ours", op->path);
	if (op->what == APPLY_PUT)
		return judge_put(op, e);
	if (op->what == APPLY_MOVE) {
		r = judge_path(op->from, e);
		if (r == 0 && (wpath_beneath(span_str(op->from), span_str(op->path), NULL) ||
		               op->seen.kind == APPLY_ABSENT))
			r = err_set(e, -EINVAL, "'%s' cannot move to '%s'", op->from, op->path);
		return r;
	}
	if (op->what == APPLY_RMDIR && op->seen.kind != APPLY_DIR)
		return err_set(e, -EINVAL, "'%s' was no directory", op->path);
	if (op->what == APPLY_DELETE && op->seen.kind != APPLY_FILE && op->seen.kind != APPLY_LINK)
		return err_set(e, -EINVAL, "'%s' was neither file nor link", op->path);
	if (op->what == APPLY_CHMOD && op->seen.kind != APPLY_FILE && op->seen.kind != APPLY_DIR)
		return err_set(e, -EINVAL, "'%s' has no mode to change", op->path);
	return 0;
}

/* -- finding operations by path ---------------------------------------------------------------- */

static const char *gone_name(const struct apply_op *op)
{
	return op->what == APPLY_MOVE ? op->from : op->path;
}

static int by_path(const void *a, const void *b, void *arg)
{
	const struct apply_op *ops = arg;

	return wpath_cmp(span_str(ops[*(const uint32_t *)a].path),
	                 span_str(ops[*(const uint32_t *)b].path));
}

static int by_gone(const void *a, const void *b, void *arg)
{
	const struct apply_op *ops = arg;

	return wpath_cmp(span_str(gone_name(&ops[*(const uint32_t *)a])),
	                 span_str(gone_name(&ops[*(const uint32_t *)b])));
}

static const struct apply_op *find(const struct apply_plan *p, const uint32_t *index,
                                   uint32_t count, bool gone, struct span want)
{
	uint32_t low = 0, high = count;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		const struct apply_op *op = &p->ops[index[mid]];
		int c = wpath_cmp(span_str(gone ? gone_name(op) : op->path), want);

		if (c == 0)
			return op;
		if (c < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

const struct apply_op *apply_plan_made(const struct apply_plan *p, struct span path)
{
	return find(p, p->made, p->made_count, false, path);
}

const struct apply_op *apply_plan_gone(const struct apply_plan *p, struct span host)
{
	return find(p, p->gone, p->gone_count, true, host);
}

uint8_t apply_plan_fate(const struct apply_plan *p, const struct apply_op *op)
{
	return p->fate[op - p->ops];
}

const struct apply_op *apply_plan_maker(const struct apply_plan *p, const struct apply_op *chmod)
{
	const struct apply_op *op = apply_plan_made(p, span_str(chmod->path));

	return op && op->what == APPLY_MKDIR && apply_plan_fate(p, op) == APPLY_APPLIED ? op : NULL;
}

static int twice(const struct apply_plan *p, const uint32_t *index, uint32_t count, bool gone,
                 struct err *e)
{
	for (uint32_t i = 1; i < count; i++) {
		const struct apply_op *a = &p->ops[index[i - 1]], *b = &p->ops[index[i]];
		const char *x = gone ? gone_name(a) : a->path;

		if (strcmp(x, gone ? gone_name(b) : b->path) == 0)
			return err_set(e, -EINVAL, "'%s' is in the plan twice", x);
	}
	return 0;
}

static int make_indexes(struct apply_plan *p, struct err *e)
{
	void *ops = (void *)(uintptr_t)p->ops; /* qsort_r's argument is not const */
	int r;

	for (uint32_t i = 0; i < p->count; i++) {
		uint8_t what = p->ops[i].what;

		if (what == APPLY_PUT || what == APPLY_MKDIR || what == APPLY_MOVE)
			p->made[p->made_count++] = i;
		if (what == APPLY_DELETE || what == APPLY_RMDIR || what == APPLY_MOVE)
			p->gone[p->gone_count++] = i;
		if (what == APPLY_CHMOD)
			p->chmod[p->chmod_count++] = i;
	}
	qsort_r(p->made, p->made_count, sizeof(*p->made), by_path, ops);
	qsort_r(p->gone, p->gone_count, sizeof(*p->gone), by_gone, ops);
	qsort_r(p->chmod, p->chmod_count, sizeof(*p->chmod), by_path, ops);
	r = twice(p, p->made, p->made_count, false, e);
	if (r == 0)
		r = twice(p, p->gone, p->gone_count, true, e);
	if (r == 0)
		r = twice(p, p->chmod, p->chmod_count, false, e);
	return r;
}

int apply_plan_new(const struct apply_op *ops, size_t count, struct apply_plan **ret, struct err *e)
{
	_own_(apply_plan_free) struct apply_plan *p = NULL;
	int r;

	if (count > APPLY_OPS_MAX)
		return err_set(e, -E2BIG, "over %d operations", APPLY_OPS_MAX);
	for (size_t i = 0; i < count; i++) {
		r = judge(&ops[i], e);
		if (r < 0)
			return r;
	}
	p = calloc(1, sizeof(*p));
	if (!p)
		return err_set(e, -ENOMEM, "out of memory");
	p->ops = ops;
	p->count = (uint32_t)count;
	p->fate = calloc(count + 1, sizeof(*p->fate));
	p->found = calloc(count + 1, sizeof(*p->found));
	p->made = calloc(count + 1, sizeof(*p->made));
	p->gone = calloc(count + 1, sizeof(*p->gone));
	p->chmod = calloc(count + 1, sizeof(*p->chmod));
	if (!p->fate || !p->found || !p->made || !p->gone || !p->chmod)
		return err_set(e, -ENOMEM, "out of memory");
	r = make_indexes(p, e);
	if (r < 0)
		return r;
	*ret = steal_ptr(&p);
	return 0;
}

/* -- from the result's names to the host's ----------------------------------------------------- */

/* Is it, or a directory above it but below `keep` bytes of it, deleted or moved away? */
static enum apply_where still_there(const struct apply_plan *p, struct span host, size_t keep)
{
	for (struct span at = host; at.len > keep; at = wpath_parent(at)) {
		const struct apply_op *op = apply_plan_gone(p, at);

		if (op && apply_plan_fate(p, op) == APPLY_APPLIED)
			return at.len == host.len ? WHERE_VACANT : WHERE_NO_PARENT;
	}
	return WHERE_HOST;
}

static void put_host(char *ret, struct span a, struct span b)
{
	memcpy(ret, a.at, a.len);
	if (b.len) {
		ret[a.len] = '/';
		memcpy(ret + a.len + 1, b.at, b.len);
	}
	ret[a.len + (b.len ? b.len + 1 : 0)] = '\0';
}

/* What the nearest operation above (or at) path, which is op, makes of it. */
static enum apply_where through(const struct apply_plan *p, const struct apply_op *op,
                                struct span path, struct span rest, char *ret)
{
	uint8_t fate = apply_plan_fate(p, op);
	struct span from;

	if (fate == APPLY_ALREADY && op->what != APPLY_PUT) { /* the host has the result's names */
		put_host(ret, path, span_of("", 0));
		return still_there(p, path, path.len - rest.len);
	}
	if (fate != APPLY_APPLIED || op->what == APPLY_PUT)
		return WHERE_NO_PARENT;
	if (op->what == APPLY_MKDIR) /* empty, so the directories between must be made as well */
		return memchr(rest.at, '/', rest.len) ? WHERE_NO_PARENT : WHERE_VACANT;
	from = span_str(op->from);
	if (from.len + 1 + rest.len > WPATH_MAX)
		return WHERE_NO_PARENT;
	put_host(ret, from, rest);
	return still_there(p, span_str(ret), from.len);
}

enum apply_where apply_plan_where(const struct apply_plan *p, const char *path,
                                  const struct apply_op *but, char *ret)
{
	struct span all = span_str(path);

	for (struct span at = all; at.len > 0; at = wpath_parent(at)) {
		const struct apply_op *op = apply_plan_made(p, at);
		struct span rest = span_of("", 0);

		if (!op || op == but)
			continue;
		/* what is put or made at the path itself does not say what it replaces */
		if (at.len == all.len && op->what != APPLY_MOVE)
			continue;
		(void)wpath_beneath(at, all, &rest);
		return through(p, op, all, rest, ret);
	}
	put_host(ret, all, span_of("", 0));
	return still_there(p, all, 0);
}
