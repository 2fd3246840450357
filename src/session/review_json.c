#include "session/review_json.h"

#include "session/change_lines.h"
#include "session/review_words.h"
#include "term/json_out.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	PAGE_BYTES = 256 << 10,
	CHANGE_BYTES_MAX = 8 << 10, /* of a change without its paths, reason and texts */
	BRANCH_BYTES_MAX = 8 * (2 * GITOBJ_REF_MAX + ERR_TEXT_MAX) + 1024,
	SUBJECT_MAX = 1024,
};

/* Output that is written out when it is full; its room grows for what is larger than all of it. */
struct page {
	const struct review_opened *o;
	char *room;
	size_t size;
	struct buf b;
	struct err *e;
	int r;
};

static void flush(struct page *p)
{
	(void)fwrite(p->b.at, 1, p->b.len, stdout);
	p->b.len = 0;
}

/* From here on so many bytes fit. */
static bool need(struct page *p, size_t bytes)
{
	char *more;

	if (p->r == 0 && !buf_ok(&p->b))
		p->r = err_set(p->e, -EMSGSIZE, "a change is larger than was made room for");
	if (p->r < 0)
		return false;
	if (bytes <= p->size - p->b.len)
		return true;
	flush(p);
	if (bytes <= p->size)
		return true;
	more = realloc(p->room, bytes);
	if (!more) {
		p->r = err_set(p->e, -ENOMEM, "out of memory");
		return false;
	}
	p->room = more;
	p->size = bytes;
	buf_init(&p->b, more, bytes);
	return true;
}

static bool need_bytes(struct page *p, struct span s)
{
	return need(p, 8 * s.len + 200);
}

static void put_member(struct page *p, const char *name, struct span s)
{
	if (!need_bytes(p, s))
		return;
	buf_put_str(&p->b, ",");
	review_json_put_bytes(&p->b, name, s);
}

static void put_text(struct page *p, const char *name, const char *text)
{
	if (text)
		put_member(p, name, span_str(text));
	else if (need(p, 200))
		buf_printf(&p->b, ",\"%s\":null", name);
}

/* --- the summary --- */

static void put_sections(struct buf *b, const struct review_totals *t)
{
	buf_put_str(b, ",\"sections\":[");
	for (int s = 0; s < REVIEW_SECTIONS; s++) {
		buf_printf(b, "%s{\"name\":\"%s\",\"title\":", s > 0 ? "," : "",
		           review_section_name((enum review_section)s));
		buf_put_json_str(b, span_str(review_section_title((enum review_section)s)));
		buf_printf(b, ",\"count\":%llu,\"undecided\":%llu}",
		           (unsigned long long)t->per_section[s],
		           (unsigned long long)t->undecided_of[s]);
	}
	buf_put_str(b, "]");
}

/* Without the brace that ends it. */
static void begin_summary(struct buf *b, const struct review_opened *o)
{
	struct review_totals t = { 0 };

	if (o->review)
		review_totals(o->review, &t);
	buf_printf(b, "{\"version\":%d,\"session\":", REVIEW_JSON_VERSION);
	review_json_put_session(b, &o->s.info, work_session_disk_bytes(&o->s));
	buf_printf(b,
	           ",\"totals\":{\"undecided\":%llu,\"accepted\":%llu,\"rejected\":%llu,"
	           "\"done\":%llu,\"host_changes\":%llu,\"left_out\":%llu}",
	           (unsigned long long)t.undecided, (unsigned long long)t.accepted,
	           (unsigned long long)t.rejected, (unsigned long long)t.done,
	           (unsigned long long)t.host_changes, (unsigned long long)t.left_out);
	put_sections(b, &t);
}

void review_json_put_summary(struct buf *b, const struct review_opened *o)
{
	begin_summary(b, o);
	buf_put_str(b, "}");
}

/* --- one change --- */

static void put_side(struct page *p, size_t i, const char *name, enum review_side which,
                     const struct change_side *side)
{
	_own_free_ char *target = NULL;
	size_t len = 0;

	if (!need(p, CHANGE_BYTES_MAX))
		return;
	if (!side->exists) {
		buf_printf(&p->b, ",\"%s\":null", name);
		return;
	}
	buf_printf(&p->b, ",\"%s\":{\"kind\":\"%s\",\"mode\":\"%04o\",\"size\":%llu", name,
	           review_kind_word(side->kind), side->mode, (unsigned long long)side->size);
	if (side->kind == WORK_LINK &&
	    review_content(p->o->review, i, which, WPATH_MAX, &target, &len, NULL) == 0)
		put_member(p, "target", span_of(target, len));
	if (need(p, CHANGE_BYTES_MAX))
		buf_put_str(&p->b, "}");
}

static void put_digest(struct page *p, size_t i, const char *name, enum review_side which,
                       const struct change_side *side)
{
	uint8_t raw[32];

	if (!side->exists || side->kind != WORK_FILE || !need(p, CHANGE_BYTES_MAX) ||
	    review_digest(p->o->review, i, which, raw, NULL) < 0)
		return;
	buf_printf(&p->b, ",\"%s\":\"", name);
	for (size_t k = 0; k < sizeof(raw); k++)
		buf_printf(&p->b, "%02x", raw[k]);
	buf_put_str(&p->b, "\"");
}

static const char *yes_or_no(bool yes)
{
	return yes ? "true" : "false";
}

static void put_hunk(struct page *p, const struct review_item *item, const struct change_lines *l,
                     uint32_t k)
{
	const struct hunk *h = &l->hunks->at[k];
	bool some = item->choice == REVIEW_HUNKS && k < item->hunk_count;

	if (!need(p, CHANGE_BYTES_MAX))
		return;
	buf_printf(&p->b,
	           "%s{\"old_at\":%u,\"old_lines\":%u,\"new_at\":%u,\"new_lines\":%u,"
	           "\"chosen\":%s",
	           k > 0 ? "," : "", h->old_at, h->old_lines, h->new_at, h->new_lines,
	           some ? yes_or_no(item->hunks[k] != 0) : "null");
	if (l->texts && l->texts->fates)
		buf_printf(&p->b, ",\"fate\":\"%s\"", review_fate_word(l->texts->fates[k]));
	put_member(p, "old", hunk_lines(l->old, h->old_at, h->old_lines));
	put_member(p, "new", hunk_lines(l->new, h->new_at, h->new_lines));
	if (need(p, CHANGE_BYTES_MAX))
		buf_put_str(&p->b, "}");
}

static void put_lines(struct page *p, size_t i)
{
	_own_(change_lines_free) struct change_lines *l = NULL;
	const struct review_item *item = review_at(p->o->review, i);
	struct err why = { 0 };
	int r = change_lines(p->o->review, i, &l, &why);

	if (!need(p, CHANGE_BYTES_MAX))
		return;
	buf_put_str(&p->b, ",\"hunks\":");
	if (r == 0) {
		buf_put_str(&p->b, "[");
		for (uint32_t k = 0; k < l->hunks->count; k++)
			put_hunk(p, item, l, k);
		if (need(p, CHANGE_BYTES_MAX))
			buf_put_str(&p->b, "]");
		put_text(p, "not_by_line", NULL);
		return;
	}
	buf_put_str(&p->b, "null");
	put_text(p, "not_by_line", why.len > 0 ? why.text : NULL);
	if (item->section == REVIEW_OUT || item->change->op == CHANGE_MODE ||
	    item->change->op == CHANGE_RENAME)
		return;
	put_digest(p, i, "base_sha256", REVIEW_BASE, &item->change->base);
	put_digest(p, i, "guest_sha256", REVIEW_GUEST, &item->change->guest);
}

static void put_change(struct page *p, size_t i, bool first)
{
	const struct review_item *item = review_at(p->o->review, i);
	const struct change *c = item->change;

	if (!need_bytes(p, c->path))
		return;
	buf_put_str(&p->b, first ? "\n{" : ",\n{");
	review_json_put_bytes(&p->b, "path", c->path);
	if (!span_equal(c->path, c->from))
		put_member(p, "from", c->from);
	if (c->hint.len > 0)
		put_member(p, "hint", c->hint);
	if (!need(p, CHANGE_BYTES_MAX))
		return;
	buf_printf(&p->b,
	           ",\"op\":\"%s\",\"outcome\":\"%s\",\"section\":\"%s\",\"class\":\"%s\","
	           "\"choice\":\"%s\",\"decidable\":%s,\"done\":%s,\"decide_again\":%s,"
	           "\"needs_rejected\":%s,\"result_mode\":\"%04o\"",
	           review_op_word(c->op), review_outcome_word(c->state),
	           review_section_name(item->section), class_name(item->class),
	           review_choice_word(item->choice), yes_or_no(item->flags & RV_DECIDABLE),
	           yes_or_no(item->flags & RV_DONE), yes_or_no(item->flags & RV_REDECIDE),
	           yes_or_no(item->flags & RV_NEEDS), c->result_mode);
	put_text(p, "reason", review_reason(item));
	put_side(p, i, "base", REVIEW_BASE, &c->base);
	put_side(p, i, "host", REVIEW_HOST, &c->host);
	put_side(p, i, "guest", REVIEW_GUEST, &c->guest);
	put_lines(p, i);
	if (need(p, CHANGE_BYTES_MAX))
		buf_put_str(&p->b, "}");
}

/* --- commits --- */

struct commits {
	struct page *p;
	uint64_t count;
};

static int put_commit(void *arg, const struct gitobj_id *id, const struct gitobj_commit *c,
                      struct err *e)
{
	struct commits *all = arg;
	struct page *p = all->p;
	struct span rest = c->message;
	struct span subject = { 0 };

	(void)e;
	if (all->count++ >= REVIEW_COMMITS_MAX || !need(p, CHANGE_BYTES_MAX))
		return p->r;
	if (!take_until(&rest, '\n', &subject))
		subject = rest;
	if (subject.len > SUBJECT_MAX)
		subject.len = SUBJECT_MAX;
	buf_put_str(&p->b, all->count > 1 ? ",{\"id\":\"" : "{\"id\":\"");
	gitobj_put_hex(&p->b, id);
	buf_put_str(&p->b, "\"");
	put_member(p, "author", c->author);
	put_member(p, "subject", subject);
	if (need(p, CHANGE_BYTES_MAX))
		buf_put_str(&p->b, "}");
	return p->r;
}

static void put_branches(struct page *p, struct gitobj *g, const struct gitobj_totals *t)
{
	for (uint32_t i = 0; i < t->refs + t->refused && need(p, BRANCH_BYTES_MAX); i++) {
		struct gitobj_branch branch;

		gitobj_branch(g, i, &branch);
		buf_put_str(&p->b, i > 0 ? ",{" : "{");
		review_json_put_bytes(&p->b, "name", branch.name);
		buf_printf(&p->b, ",\"refused\":%s", yes_or_no(branch.refused));
		if (branch.refused)
			put_member(p, "reason", branch.reason);
		else if (need(p, BRANCH_BYTES_MAX)) {
			buf_put_str(&p->b, ",\"id\":\"");
			gitobj_put_hex(&p->b, &branch.id);
			buf_put_str(&p->b, "\"");
		}
		if (need(p, CHANGE_BYTES_MAX))
			buf_put_str(&p->b, "}");
	}
}

/* The members of one repository, the first of them without a comma before it. */
static void put_repo(struct page *p, const struct review_repo *repo)
{
	struct gitobj *g = repo->commits;
	struct gitobj_totals t = { 0 };
	struct commits all = { .p = p };

	if (!need(p, CHANGE_BYTES_MAX))
		return;
	if (g)
		gitobj_totals(g, &t);
	buf_printf(&p->b, "\"count\":%u", t.commits);
	put_text(p, "none_because", g || !*repo->why ? NULL : repo->why);
	if (need(p, CHANGE_BYTES_MAX))
		buf_put_str(&p->b, ",\"branches\":[");
	if (g)
		put_branches(p, g, &t);
	if (need(p, CHANGE_BYTES_MAX))
		buf_put_str(&p->b, "],\"list\":[");
	if (g && p->r == 0)
		p->r = gitobj_commits(g, put_commit, &all, p->e);
	if (need(p, CHANGE_BYTES_MAX))
		buf_put_str(&p->b, "]");
}

static void put_commits(struct page *p)
{
	size_t count = review_repos(p->o->review);

	if (!need(p, CHANGE_BYTES_MAX))
		return;
	buf_put_str(&p->b, ",\"commits\":{");
	put_repo(p, review_repo(p->o->review, 0));
	if (need(p, CHANGE_BYTES_MAX))
		buf_put_str(&p->b, ",\"within\":[");
	for (size_t i = 1; i < count; i++) {
		const struct review_repo *repo = review_repo(p->o->review, i);

		if (!need_bytes(p, repo->at))
			return;
		buf_put_str(&p->b, i > 1 ? ",{" : "{");
		review_json_put_bytes(&p->b, "path", repo->at);
		buf_put_str(&p->b, ",");
		put_repo(p, repo);
		if (need(p, CHANGE_BYTES_MAX))
			buf_put_str(&p->b, "}");
	}
	if (need(p, CHANGE_BYTES_MAX))
		buf_put_str(&p->b, "]}");
}

/* --- documents --- */

static int begin_page(struct page *p, const struct review_opened *o, struct err *e)
{
	*p = (struct page){ .o = o, .room = malloc(PAGE_BYTES), .size = PAGE_BYTES, .e = e };
	if (!p->room)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&p->b, p->room, PAGE_BYTES);
	begin_summary(&p->b, o);
	return 0;
}

static int end_page(struct page *p)
{
	if (need(p, CHANGE_BYTES_MAX)) {
		buf_put_str(&p->b, "}\n");
		flush(p);
	}
	free(p->room);
	return p->r;
}

int review_json_print(const struct review_opened *o, const struct review_text *how, struct err *e)
{
	struct page p;
	bool first = true;
	int r = begin_page(&p, o, e);

	if (r < 0)
		return r;
	if (need(&p, CHANGE_BYTES_MAX))
		buf_put_str(&p.b, ",\"changes\":[");
	for (size_t i = 0; p.r == 0 && i < review_count(o->review); i++) {
		if (!review_text_wants(how, review_at(o->review, i)))
			continue;
		put_change(&p, i, first);
		first = false;
	}
	if (need(&p, CHANGE_BYTES_MAX))
		buf_put_str(&p.b, "]");
	put_commits(&p);
	return end_page(&p);
}

static const char *end_word(enum apply_end end)
{
	return end == APPLY_DONE ? "done" : end == APPLY_NOTHING ? "nothing" : "returned";
}

/* As programs know them; apply_word_text() is for people. */
static const char *said_word(enum apply_word w)
{
	static const char *const words[APPLY_WORDS] = {
		[APPLY_APPLIED] = "applied",
		[APPLY_ALREADY] = "already",
		[APPLY_STAYS] = "stays",
		[APPLY_BACK_CHANGED] = "changed",
		[APPLY_BACK_EXISTS] = "exists",
		[APPLY_BACK_KIND] = "kind",
		[APPLY_BACK_PARENT] = "parent",
		[APPLY_BACK_LINKS] = "links",
		[APPLY_KEPT_BOTH] = "kept-both",
		[APPLY_LABEL_LOST] = "label-lost",
		[APPLY_MOMENT_ABSENT] = "moment-absent",
	};

	return w < APPLY_WORDS && words[w] ? words[w] : "other";
}

int review_json_print_outcome(const struct review_opened *o, const struct review_outcome *done,
                              const struct err *commits_e, struct err *e)
{
	struct page p;
	int r = begin_page(&p, o, e);

	if (r < 0)
		return r;
	if (need(&p, CHANGE_BYTES_MAX))
		buf_printf(&p.b,
		           ",\"did\":{\"end\":\"%s\",\"items\":%llu,\"back\":%llu,\"needs\":%llu,"
		           "\"commits_refs\":%u",
		           end_word(done->applied.end), (unsigned long long)done->items,
		           (unsigned long long)done->back, (unsigned long long)done->needs,
		           done->commits_refs);
	put_text(&p, "commits_error", commits_e->len > 0 ? commits_e->text : NULL);
	if (need(&p, CHANGE_BYTES_MAX))
		buf_printf(&p.b, ",\"more\":%zu,\"paths\":[", o->said_more);
	for (size_t i = 0; i < o->said_count; i++) {
		struct span path = span_str(o->said[i].path);

		if (!need_bytes(&p, path))
			break;
		buf_put_str(&p.b, i > 0 ? ",{" : "{");
		review_json_put_bytes(&p.b, "path", path);
		buf_printf(&p.b, ",\"word\":\"%s\"}", said_word(o->said[i].word));
	}
	if (need(&p, CHANGE_BYTES_MAX))
		buf_put_str(&p.b, "]}");
	return end_page(&p);
}
