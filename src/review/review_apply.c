/*
 * Theory of operation. apply.h makes the changes or none of them; here is written down, afterwards,
 * what became of each item. A crash in between loses nothing: the next review_open() finds that the
 * host has what was accepted (review_list.c), and says done as well.
 *
 * apply says each path by the operation's own pointer, and names lie in the order of operations, so
 * the pointer tells which one is meant, however often a path occurs.
 */
#include "review/review_inner.h"

#include "work/undo.h"

#include <errno.h>
#include <string.h>

struct listener {
	struct review *r;
	struct review_plan *p;
};

static void hear(void *arg, const char *path, enum apply_word w)
{
	struct listener *l = arg;
	size_t low = 0, high = l->p->count;

	if (l->r->on.said)
		l->r->on.said(l->r->on.said_arg, path, w);
	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (l->p->ops[mid].path < path)
			low = mid + 1;
		else
			high = mid;
	}
	if (low < l->p->count && l->p->ops[low].path == path && w != APPLY_LABEL_LOST)
		l->p->word[low] = (uint8_t)w;
}

static bool is_done(uint8_t word)
{
	return word == APPLY_APPLIED || word == APPLY_ALREADY || word == APPLY_STAYS ||
	       word == APPLY_MOMENT_ABSENT;
}

static bool is_back(uint8_t word)
{
	return word == APPLY_KEPT_BOTH || (word >= APPLY_BACK_CHANGED && word <= APPLY_BACK_LINKS);
}

enum fate { FATE_NONE = 0, FATE_DONE, FATE_BACK, FATE_STAYS };

/* An item is done if all of its operations are. */
static void judge(const struct review_plan *p, bool made, uint8_t *fates)
{
	for (size_t k = 0; k < p->count; k++) {
		uint8_t *fate;

		if (p->item[k] == UINT32_MAX)
			continue;
		fate = &fates[p->item[k]];
		if (is_back(p->word[k]))
			*fate = FATE_BACK;
		else if (made && is_done(p->word[k]) && *fate == FATE_NONE)
			*fate = p->word[k] == APPLY_STAYS ? FATE_STAYS : FATE_DONE;
	}
	for (size_t k = 0; k < p->back_count; k++)
		fates[p->back[k]] = FATE_BACK;
}

/* Is anything beneath it still to be decided on, or to be applied? */
static bool is_waited_for(const struct review *r, size_t i, const uint8_t *fates)
{
	const struct change *c = r->items[i].change;

	for (size_t k = review_change_index(r, c) + 1; k < r->count; k++) {
		size_t at = r->of_change[k];
		const struct review_item *it = &r->items[at];

		if (!wpath_beneath(c->path, it->change->path, NULL))
			break;
		if (review_is_open(it) && it->choice != REVIEW_REJECT && fates[at] != FATE_DONE)
			return true;
	}
	return false;
}

/*
 * A directory that stays for what is undecided in it stays accepted: it goes with the last of it.
 * What is deeper comes first.
 */
static void settle_stays(const struct review *r, uint8_t *fates)
{
	for (size_t k = r->count; k > 0; k--) {
		size_t i = r->of_change[k - 1];

		if (fates[i] == FATE_STAYS)
			fates[i] = is_waited_for(r, i, fates) ? FATE_NONE : FATE_DONE;
	}
}

static struct review_change as_back(const struct review *r, size_t i)
{
	struct review_change ch = review_change_of(r, i);

	ch.choice = REVIEW_UNDECIDED;
	ch.done = ch.has_result = false;
	ch.back = true;
	ch.hunks = NULL;
	ch.hunk_count = 0;
	return ch;
}

/* Writes down what is done and what went back. */
static int write_fates(struct review *r, const uint8_t *fates, uint32_t generation,
                       struct review_outcome *out, struct err *e)
{
	_own_free_ struct review_change *changes = calloc(r->count + 1, sizeof(*changes));
	size_t n = 0;

	if (changes == NULL)
		return err_set(e, -ENOMEM, "no memory to write down what was applied");
	for (size_t i = 0; i < r->count; i++) {
		if (fates[i] == FATE_BACK) {
			changes[n++] = as_back(r, i);
			out->back++;
		} else if (fates[i] == FATE_DONE) {
			changes[n] = review_change_of(r, i);
			if (changes[n].choice != REVIEW_HUNKS) /* or it was taken along */
				changes[n].choice = REVIEW_ACCEPT;
			changes[n].done = true;
			changes[n++].generation = generation;
			out->items++;
		}
	}
	return review_write(r, changes, n, e);
}

static struct apply_on on_of(const struct review *r)
{
	return (struct apply_on){ .root_fd = r->on.root_fd,
		                  .root = r->on.root,
		                  .session_fd = r->on.session_fd,
		                  .session = r->on.session };
}

static int run_plan(struct review *r, struct review_plan *p, enum apply_mode mode,
                    struct review_outcome *out, struct err *e)
{
	_own_free_ uint8_t *fates = calloc(r->count + 1, 1);
	struct listener l = { .r = r, .p = p };
	struct apply_on on = on_of(r);
	struct err why = { 0 };
	bool made;
	int got = 0;

	if (fates == NULL)
		return err_set(e, -ENOMEM, "no memory to apply");
	on.said = hear;
	on.said_arg = &l;
	out->needs = p->needs;
	out->applied.end = APPLY_NOTHING;
	if (mode == APPLY_ALL && p->back_count > 0)
		out->applied.end = APPLY_RETURNED;
	else if (p->count > 0)
		got = apply_run(&on, p->ops, p->count, mode, &out->applied, e);
	if (got < 0)
		return got;
	made = out->applied.end != APPLY_RETURNED;
	judge(p, made, fates);
	settle_stays(r, fates);
	got = write_fates(r, fates, out->applied.generation, out, &why);
	if (got < 0)
		return err_set(e, got, "%s, but it cannot be written down which: %s",
		               made ? "the changes were applied" : "nothing was applied", why.text);
	return 0;
}

static uint64_t count_accepted(const struct review *r)
{
	struct review_totals t;

	review_totals(r, &t);
	return t.accepted;
}

/* Has somebody made a link by which the host would run what was accepted as something else? */
static int look_again(struct review *r, struct review_outcome *out, struct err *e)
{
	uint32_t links = review_links_count(r->links);
	bool more = review_links_more(r->links);
	uint64_t accepted = count_accepted(r);
	int got = review_look(r, e);

	if (got < 0 ||
	    (review_links_count(r->links) == links && review_links_more(r->links) == more))
		return got;
	got = review_list_make(r, e); /* a decision is about the class as well */
	out->back = got == 0 && count_accepted(r) < accepted ? accepted - count_accepted(r) : 0;
	return got;
}

int review_apply(struct review *r, enum apply_mode mode, bool commits, struct review_outcome *ret,
                 struct err *ret_commits_e, struct err *e)
{
	_own_(review_plan_free) struct review_plan *p = NULL;
	struct review_outcome out = { 0 };
	struct err commits_e = { 0 };
	int got = look_again(r, &out, e);

	if (got == 0 && out.back > 0 && mode == APPLY_ALL) {
		out.applied.end = APPLY_RETURNED;
		*ret = out;
		return 0;
	}
	if (got == 0)
		got = review_plan_new(r, &p, e);
	if (got == 0)
		got = run_plan(r, p, mode, &out, e);
	if (got < 0)
		return got;
	if (commits && out.applied.end != APPLY_RETURNED)
		out.commits_refs = review_commits_import(r, &commits_e);
	got = review_list_make(r, e);
	if (got < 0)
		return err_wrap(e, "%s; but after that",
		                out.applied.end == APPLY_DONE ? "applied" : "nothing to apply");
	if (ret_commits_e != NULL)
		*ret_commits_e = commits_e;
	*ret = out;
	return 0;
}

/* -- undo -- */

/* Paths that an undo left as they are. */
struct left {
	struct review *r;
	char **paths;
	size_t count, room;
	bool lost; /* no memory: then nothing is known of any */
};

static void hear_left(void *arg, const char *path, enum apply_word w)
{
	struct left *l = arg;

	if (l->r->on.said)
		l->r->on.said(l->r->on.said_arg, path, w);
	if (!is_back((uint8_t)w) || l->lost)
		return;
	if (l->count == l->room) {
		size_t room = l->room == 0 ? 64 : 2 * l->room;
		char **more = reallocarray(l->paths, room, sizeof(*more));

		l->lost = more == NULL;
		if (more == NULL)
			return;
		l->paths = more;
		l->room = room;
	}
	l->paths[l->count] = strdup(path);
	if (l->paths[l->count] == NULL)
		l->lost = true;
	else
		l->count++;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool was_left(const struct left *l, struct span path)
{
	char room[WPATH_MAX + 1];
	const char *key = room;

	memcpy(room, path.at, path.len);
	room[path.len] = '\0';
	return l->count > 0 &&
	       bsearch(&key, l->paths, l->count, sizeof(*l->paths), by_text) != NULL;
}

static int write_undone(struct review *r, const struct left *l, uint32_t generation,
                        struct review_outcome *out, struct err *e)
{
	_own_free_ struct review_change *changes = calloc(r->count + 1, sizeof(*changes));
	size_t n = 0;

	if (changes == NULL || l->lost)
		return err_set(e, -ENOMEM, "no memory to write down what was undone");
	for (size_t i = 0; i < r->count; i++) {
		const struct change *c = r->items[i].change;

		if ((r->items[i].flags & RV_DONE) == 0 || r->more[i].generation != generation)
			continue;
		if (was_left(l, c->path) || was_left(l, c->from)) {
			out->back++;
			continue;
		}
		changes[n] = as_back(r, i);
		changes[n].back = false;
		changes[n++].generation = 0;
		out->items += (r->items[i].flags & RV_HALF) == 0;
	}
	return review_write(r, changes, n, e);
}

/* What went back is counted and told; the rest of the paths were undone. */
int review_undo_files(const struct review_on *on, enum apply_mode mode, struct review_outcome *ret,
                      struct err *e)
{
	struct review_outcome out = { 0 };
	const struct apply_on a = { .root_fd = on->root_fd,
		                    .root = on->root,
		                    .session_fd = on->session_fd,
		                    .session = on->session,
		                    .said = on->said,
		                    .said_arg = on->said_arg };
	int got = undo_run(&a, 0, mode, &out.applied, e);

	if (got < 0)
		return got;
	for (unsigned w = 0; w < APPLY_WORDS; w++) {
		if (is_back((uint8_t)w))
			out.back += out.applied.words[w];
		else if (is_done((uint8_t)w) && out.applied.end != APPLY_RETURNED)
			out.items += out.applied.words[w];
	}
	*ret = out;
	return 0;
}

int review_undo(struct review *r, enum apply_mode mode, struct review_outcome *ret, struct err *e)
{
	struct left left = { .r = r };
	struct review_outcome out = { 0 };
	struct apply_on on = on_of(r);
	uint32_t generation;
	int got = undo_last(r->on.session_fd, &generation, e);

	if (got == 0 && generation == 0)
		got = err_set(e, -ENOENT, "nothing was applied that could be undone");
	if (got < 0)
		return got;
	on.said = hear_left;
	on.said_arg = &left;
	got = undo_run(&on, generation, mode, &out.applied, e);
	if (left.count > 0)
		qsort(left.paths, left.count, sizeof(*left.paths), by_text);
	if (got == 0 && out.applied.end != APPLY_RETURNED)
		got = write_undone(r, &left, generation, &out, e);
	else
		out.back = left.count;
	for (size_t i = 0; i < left.count; i++)
		free(left.paths[i]);
	free(left.paths);
	if (got == 0)
		got = review_list_make(r, e);
	if (got == 0)
		*ret = out;
	return got;
}
