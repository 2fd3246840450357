#include "session/review_text.h"

#include "base/units.h"
#include "session/change_lines.h"
#include "session/review_words.h"
#include "term/shown.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	TAB_COLUMNS = 8,
	LINE_ROOM = REVIEW_LINE_MAX * TAB_COLUMNS + 128,
	DIGEST_HEX = 64,
	SUBJECT_MAX = 200,
	NAMED_COMMITS_MAX = 1000, /* shown; more are counted */
};

/* Our own colours, and the only escape sequences there are. */
enum tint { TINT_NONE, TINT_OLD, TINT_NEW, TINT_PLACE, TINT_TITLE };
static const char *const tints[] = { "", "\033[31m", "\033[32m", "\033[36m", "\033[1m" };
static const char tint_end[] = "\033[0m";

struct page {
	const struct review_opened *o;
	const struct review_text *how;
	uint64_t added, removed; /* lines, of --stat */
	uint64_t shown;
	char *line; /* LINE_ROOM */
};

/* --- lines --- */

void review_text_put(FILE *f, struct span text)
{
	char storage[1024];
	struct buf b;

	/* in pieces that do not part a character: what is cut would be shown as bytes */
	while (text.len > 0) {
		size_t n = text.len < 128 ? text.len : 128;

		while (n < text.len && n > 120 && (text.at[n] & 0xc0) == 0x80)
			n--;
		buf_init(&b, storage, sizeof(storage));
		buf_put_escaped(&b, span_of(text.at, n));
		(void)fwrite(b.at, 1, b.len, f);
		text = span_of(text.at + n, text.len - n);
	}
}

static void put_path(struct span path)
{
	review_text_put(stdout, path);
}

static void begin_tint(const struct page *p, enum tint t)
{
	if (p->how->colour)
		(void)fputs(tints[t], stdout);
}

static void end_tint(const struct page *p)
{
	if (p->how->colour)
		(void)fputs(tint_end, stdout);
}

/* Escaped, with tabs as the spaces they stand for. */
static void put_line_text(struct buf *b, struct span text)
{
	size_t column = 0;

	while (text.len > 0) {
		if (text.at[0] == '\t') {
			do
				buf_put_u8(b, ' ');
			while (++column % TAB_COLUMNS != 0);
			text = span_of(text.at + 1, text.len - 1);
		} else {
			struct shown one = shown_take(&text, shown_line_width, SHOWN_IN_LINE);

			shown_put(b, &one);
			column += one.columns;
		}
	}
}

static void put_line(const struct page *p, char sign, struct span line)
{
	bool whole = line.len > 0 && line.at[line.len - 1] == '\n';
	size_t len = whole ? line.len - 1 : line.len;
	size_t shown = len < REVIEW_LINE_MAX ? len : REVIEW_LINE_MAX;
	struct buf b;

	while (shown < len && shown > 0 && (line.at[shown] & 0xc0) == 0x80)
		shown--;
	buf_init(&b, p->line, LINE_ROOM);
	buf_put_u8(&b, (uint8_t)sign);
	put_line_text(&b, span_of(line.at, shown));
	if (shown < len)
		buf_printf(&b, " [%zu more bytes]", len - shown);
	begin_tint(p, sign == '-' ? TINT_OLD : sign == '+' ? TINT_NEW : TINT_NONE);
	(void)fwrite(b.at, 1, b.len, stdout);
	if (sign != ' ')
		end_tint(p);
	(void)fputs(whole ? "\n" : "\n\\ No newline at end of file\n", stdout);
}

static void put_lines(const struct page *p, char sign, const struct hunk_text *t, uint32_t at,
                      uint32_t lines)
{
	for (uint32_t i = 0; i < lines; i++)
		put_line(p, sign, hunk_lines(t, at + i, 1));
}

/* --- hunks --- */

/* How many hunks from `first` on are shown together: what lies between them is context of both. */
static uint32_t group_of(const struct hunks *h, uint32_t first)
{
	uint32_t n = 1;

	while (first + n < h->count && h->at[first + n].old_at - (h->at[first + n - 1].old_at +
	                                                          h->at[first + n - 1].old_lines) <=
	                                       2 * REVIEW_CONTEXT_LINES)
		n++;
	return n;
}

static void put_place(const struct page *p, uint32_t old_at, uint32_t old_lines, uint32_t new_at,
                      uint32_t new_lines)
{
	begin_tint(p, TINT_PLACE);
	(void)printf("@@ -%u,%u +%u,%u @@", old_lines ? old_at + 1 : old_at, old_lines,
	             new_lines ? new_at + 1 : new_at, new_lines);
	end_tint(p);
	(void)putchar('\n');
}

static void put_group(const struct page *p, const struct hunk_text *old,
                      const struct hunk_text *new, const struct hunk *h, uint32_t count)
{
	const struct hunk *last = &h[count - 1];
	uint32_t lead = h->old_at < REVIEW_CONTEXT_LINES ? h->old_at : REVIEW_CONTEXT_LINES;
	uint32_t end = last->old_at + last->old_lines;
	uint32_t tail =
		old->count - end < REVIEW_CONTEXT_LINES ? old->count - end : REVIEW_CONTEXT_LINES;
	uint32_t at = h->old_at - lead;

	put_place(p, at, end + tail - at, h->new_at - lead,
	          last->new_at + last->new_lines + tail - (h->new_at - lead));
	for (uint32_t i = 0; i < count; i++) {
		put_lines(p, ' ', old, at, h[i].old_at - at);
		put_lines(p, '-', old, h[i].old_at, h[i].old_lines);
		put_lines(p, '+', new, h[i].new_at, h[i].new_lines);
		at = h[i].old_at + h[i].old_lines;
	}
	put_lines(p, ' ', old, at, tail);
}

static void put_hunks(const struct page *p, const struct hunk_text *old,
                      const struct hunk_text *new, const struct hunks *h)
{
	for (uint32_t i = 0, n; i < h->count; i += n) {
		n = group_of(h, i);
		put_group(p, old, new, &h->at[i], n);
	}
}

static void put_names(const struct page *p, const struct change *c, bool old, bool new)
{
	begin_tint(p, TINT_TITLE);
	(void)fputs(old ? "--- a/" : "--- /dev/null", stdout);
	if (old)
		put_path(c->from);
	(void)fputs(new ? "\n+++ b/" : "\n+++ /dev/null", stdout);
	if (new)
		put_path(c->path);
	end_tint(p);
	(void)putchar('\n');
}

/* --- what has no lines --- */

static void put_digest(const struct page *p, size_t i, enum review_side which,
                       const struct change_side *side, const char *name)
{
	char storage[64];
	uint8_t raw[32];
	struct buf b;

	if (!side->exists || side->kind != WORK_FILE)
		return;
	(void)printf("%s: %llu bytes", name, (unsigned long long)side->size);
	if (side->size >= 1024) {
		buf_init(&b, storage, sizeof(storage));
		units_put_size(&b, side->size);
		(void)printf(" (%s)", buf_cstr(&b));
	}
	if (review_digest(p->o->review, i, which, raw, NULL) == 0) {
		(void)fputs(", sha256 ", stdout);
		for (size_t k = 0; k < sizeof(raw); k++)
			(void)printf("%02x", raw[k]);
	}
	(void)putchar('\n');
}

static void put_target(const struct page *p, size_t i, enum review_side which,
                       const struct change_side *side, const char *name)
{
	_own_free_ char *target = NULL;
	size_t len = 0;

	if (!side->exists || side->kind != WORK_LINK)
		return;
	(void)printf("%s: link to ", name);
	if (review_content(p->o->review, i, which, WPATH_MAX, &target, &len, NULL) == 0)
		review_text_put(stdout, span_of(target, len));
	(void)putchar('\n');
}

static void put_whole(const struct page *p, size_t i)
{
	const struct change *c = review_at(p->o->review, i)->change;

	if (c->op == CHANGE_MODE || c->op == CHANGE_RENAME)
		return;
	put_digest(p, i, REVIEW_BASE, &c->base, "old");
	put_digest(p, i, REVIEW_GUEST, &c->guest, "new");
}

/* --- one change --- */

static void put_title(const struct page *p, const struct review_item *item)
{
	const struct change *c = item->change;
	const struct change_side *side = c->guest.exists ? &c->guest : &c->base;

	begin_tint(p, TINT_TITLE);
	if (c->op == CHANGE_TYPE) {
		(void)printf("%s becomes %s ", review_kind_word(c->base.kind),
		             review_kind_word(c->guest.kind));
	} else {
		(void)printf("%s %s ", review_op_word(c->op), review_kind_word(side->kind));
	}
	put_path(c->path);
	end_tint(p);
	if (item->flags & RV_DONE)
		(void)fputs(" [done]", stdout);
	else if (item->flags & RV_NEEDS)
		(void)fputs(" [accepted, but what it needs is rejected]", stdout);
	else if (item->flags & RV_REDECIDE)
		(void)fputs(" [undecided again: it changed since it was decided]", stdout);
	else if (item->flags & RV_DECIDABLE)
		(void)printf(" [%s]", review_choice_word(item->choice));
	if (review_reason(item)) {
		(void)fputs(": ", stdout);
		review_text_put(stdout, span_str(review_reason(item)));
	}
	if (review_out_runs(item))
		(void)fputs("; " REVIEW_RUNS_WORDS, stdout);
	(void)putchar('\n');
}

static void put_facts(const struct page *p, size_t i)
{
	const struct change *c = review_at(p->o->review, i)->change;

	if (!span_equal(c->path, c->from)) {
		(void)fputs("from: ", stdout);
		put_path(c->from);
		(void)putchar('\n');
	}
	if (c->hint.len > 0) {
		(void)fputs("the host seems to have it at: ", stdout);
		put_path(c->hint);
		(void)putchar('\n');
	}
	if (c->op == CHANGE_ADD && c->guest.kind == WORK_FILE)
		(void)printf("mode: %o\n", c->guest.mode);
	else if (c->base.exists && c->guest.exists && c->base.kind != WORK_LINK &&
	         c->base.mode != c->guest.mode)
		(void)printf("mode: %o, was %o\n", c->guest.mode, c->base.mode);
	put_target(p, i, REVIEW_BASE, &c->base, "old");
	put_target(p, i, REVIEW_GUEST, &c->guest, "new");
}

static void put_edit(const struct page *p, const struct change *c, const struct change_lines *l)
{
	const struct review_texts *t = l->texts;
	bool both = t && t->host && t->to_host;

	put_names(p, c, c->base.exists && c->base.kind == WORK_FILE,
	          c->guest.exists && c->guest.kind == WORK_FILE);
	put_hunks(p, l->old, l->new, l->hunks);
	if (!both)
		return;
	(void)printf("the host has edited it too (%u of the hunks above overlap):\n", t->conflicts);
	put_hunks(p, t->base, t->host, t->to_host);
}

static int put_diff(const struct page *p, size_t i, struct err *e)
{
	_own_(change_lines_free) struct change_lines *l = NULL;
	const struct review_item *item = review_at(p->o->review, i);
	struct err why = { 0 };
	int r;

	put_title(p, item);
	if (item->section == REVIEW_OUT || item->section == REVIEW_THERE)
		return 0;
	r = change_lines(p->o->review, i, &l, &why);
	put_facts(p, i);
	if (r == 0) {
		put_edit(p, item->change, l);
	} else if (r == -ENOMEM) {
		*e = why;
		return r;
	} else {
		if (why.len > 0) {
			(void)fputs("not shown line by line: ", stdout);
			review_text_put(stdout, span_str(why.text));
			(void)putchar('\n');
		}
		put_whole(p, i);
	}
	(void)putchar('\n');
	return 0;
}

static bool could_run(const struct review_item *item)
{
	return item->section <= REVIEW_X1 || review_out_runs(item);
}

/* Ends a line of --stat: of what could run, with the reason. */
static void put_why(const struct review_item *item)
{
	if (could_run(item) && review_reason(item)) {
		(void)fputs(" | ", stdout);
		review_text_put(stdout, span_str(review_reason(item)));
		(void)fputs(review_out_runs(item) ? "; " REVIEW_RUNS_WORDS : "", stdout);
	}
	(void)putchar('\n');
}

static void put_stat(struct page *p, size_t i)
{
	_own_(change_lines_free) struct change_lines *l = NULL;
	const struct review_item *item = review_at(p->o->review, i);
	uint64_t added = 0;
	uint64_t removed = 0;
	int r = change_lines(p->o->review, i, &l, NULL);

	(void)printf(" %-8s ", review_section_name(item->section));
	put_path(item->change->path);
	if (r == 0) {
		for (uint32_t k = 0; k < l->hunks->count; k++) {
			added += l->hunks->at[k].new_lines;
			removed += l->hunks->at[k].old_lines;
		}
		(void)printf(" | +%llu -%llu", (unsigned long long)added,
		             (unsigned long long)removed);
		put_why(item);
		p->added += added;
		p->removed += removed;
		return;
	}
	if (item->change->op == CHANGE_EDIT)
		(void)printf(" | %llu -> %llu bytes", (unsigned long long)item->change->base.size,
		             (unsigned long long)item->change->guest.size);
	else
		(void)printf(" | %s", review_op_word(item->change->op));
	put_why(item);
}

static int put_item(struct page *p, size_t i, struct err *e)
{
	p->shown++;
	if (p->how->form == REVIEW_FORM_DIFF)
		return put_diff(p, i, e);
	if (p->how->form == REVIEW_FORM_STAT) {
		put_stat(p, i);
	} else {
		put_path(review_at(p->o->review, i)->change->path);
		(void)putchar('\n');
	}
	return 0;
}

/* --- all --- */

bool review_text_wants(const struct review_text *how, const struct review_item *item)
{
	for (size_t i = 0; i < how->path_count; i++)
		if (review_item_beneath(item, span_str(how->paths[i])))
			return true;
	return how->path_count == 0;
}

static int check_paths(const struct review_opened *o, const struct review_text *how, struct err *e)
{
	for (size_t i = 0; i < how->path_count; i++) {
		char shown[256];
		struct buf b;
		bool found = false;

		for (size_t k = 0; !found && k < review_count(o->review); k++)
			found = review_item_beneath(review_at(o->review, k),
			                            span_str(how->paths[i]));
		if (found)
			continue;
		buf_init(&b, shown, sizeof(shown));
		buf_put_escaped(&b, span_of(how->paths[i], strnlen(how->paths[i], 60)));
		return err_set(e, -ENOENT,
		               "nothing has changed at '%s' (berm diff --name-only %s lists what "
		               "has)",
		               buf_cstr(&b), o->s.info.id);
	}
	return 0;
}

static void put_section_head(const struct page *p, enum review_section s, size_t count)
{
	if (p->how->form != REVIEW_FORM_DIFF)
		return;
	begin_tint(p, TINT_TITLE);
	(void)printf("== %s: %s (%zu)", review_section_name(s), review_section_title(s), count);
	end_tint(p);
	(void)printf("\n   %s\n\n", review_section_about(s));
}

/*
 * One of git's objects? A commit makes dozens, which nobody reads one by one. What else an agent
 * writes into a repository, a hook say, keeps its line.
 */
static bool is_git_object(const struct page *p, const struct review_item *item)
{
	struct span rest = item->change->path;
	struct span part;

	if (p->how->form != REVIEW_FORM_DIFF || p->how->path_count > 0 ||
	    item->section != REVIEW_OUT || item->change->why != CHANGE_WHY_GIT)
		return false;
	while (wpath_next(&rest, &part))
		if (span_is(part, "objects"))
			return true;
	return false;
}

/*
 * What stays out is shown in two parts: `runs`, what could run on a host, beside what comes back
 * and could, and the rest at the end.
 */
static bool is_of(const struct page *p, const struct review_item *item, bool runs)
{
	return review_text_wants(p->how, item) &&
	       (item->section != REVIEW_OUT || review_out_runs(item) == runs);
}

static int put_section(struct page *p, enum review_section s, bool runs, struct err *e)
{
	struct review_span span = review_of(p->o->review, s);
	size_t objects = 0;
	size_t count = 0;
	int r = 0;

	for (size_t i = span.first; i < span.first + span.count; i++)
		count += is_of(p, review_at(p->o->review, i), runs);
	if (count > 0)
		put_section_head(p, s, count);
	for (size_t i = span.first; r == 0 && i < span.first + span.count; i++) {
		if (!is_of(p, review_at(p->o->review, i), runs))
			continue;
		if (is_git_object(p, review_at(p->o->review, i)))
			objects++;
		else
			r = put_item(p, i, e);
	}
	if (objects > 0)
		(void)printf("and %zu of git's objects (berm diff --name-only %s lists them)\n",
		             objects, p->o->s.info.id);
	if (count > 0 && p->how->form == REVIEW_FORM_DIFF && (s == REVIEW_OUT || s == REVIEW_THERE))
		(void)putchar('\n');
	return r;
}

/* The moment, not how long ago it was: what is printed twice is the same. */
static void put_moment(uint64_t ns)
{
	time_t at = (time_t)(ns / 1000000000);
	struct tm tm;

	if (ns > 0 && gmtime_r(&at, &tm))
		(void)printf("; packed %04d-%02d-%02d %02d:%02d:%02d UTC", tm.tm_year + 1900,
		             tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

static void put_head(const struct page *p)
{
	const struct work_session_info *info = &p->o->s.info;
	struct review_totals t;

	review_totals(p->o->review, &t);
	(void)printf("session %s: ", info->id);
	review_text_put(stdout, span_str(*info->agent ? info->agent : "a command"));
	(void)fputs(" on ", stdout);
	review_text_put(stdout, span_str(info->root));
	(void)fputs("\nimage ", stdout);
	review_text_put(stdout, span_str(*info->image ? info->image : "unknown"));
	if (*info->image_id)
		(void)printf(" (%.12s)", info->image_id);
	put_moment(info->snapshot_ns);
	(void)printf("; since then the host has changed %llu of these paths\n\n",
	             (unsigned long long)t.host_changes);
}

/* --- commits --- */

struct commits {
	uint64_t count;
};

static int put_commit(void *arg, const struct gitobj_id *id, const struct gitobj_commit *c,
                      struct err *e)
{
	struct commits *all = arg;
	struct span rest = c->message;
	struct span subject = { 0 };
	const uint8_t *mail = c->author.len ? memchr(c->author.at, '<', c->author.len) : NULL;
	size_t name = mail ? (size_t)(mail - c->author.at) : c->author.len;
	char hex[GITOBJ_HEX_BYTES + 1];
	struct buf b;

	(void)e;
	if (all->count++ >= NAMED_COMMITS_MAX)
		return 0;
	if (!take_until(&rest, '\n', &subject))
		subject = rest;
	buf_init(&b, hex, sizeof(hex));
	gitobj_put_hex(&b, id);
	(void)printf("  %.10s ", buf_cstr(&b));
	while (name > 0 && c->author.at[name - 1] == ' ')
		name--;
	review_text_put(stdout, span_of(c->author.at, name));
	(void)fputs(": ", stdout);
	review_text_put(stdout,
	                span_of(subject.at, subject.len < SUBJECT_MAX ? subject.len : SUBJECT_MAX));
	(void)putchar('\n');
	return 0;
}

static int put_repo(const struct page *p, const struct review_repo *repo, struct err *e)
{
	struct gitobj *g = repo->commits;
	struct gitobj_totals t = { 0 };
	struct commits all = { 0 };
	int r;

	if (g)
		gitobj_totals(g, &t);
	if (g ? t.refs + t.refused == 0 : *repo->why == '\0')
		return 0;
	begin_tint(p, TINT_TITLE);
	(void)fputs("== commits", stdout);
	if (repo->at.len > 0) {
		(void)fputs(" of ", stdout);
		review_text_put(stdout, repo->at);
	}
	end_tint(p);
	(void)putchar('\n');
	if (!g) {
		(void)fputs("   none come back: ", stdout);
		review_text_put(stdout, span_str(repo->why));
		(void)fputs("\n\n", stdout);
		return 0;
	}
	for (uint32_t i = 0; i < t.refs + t.refused; i++) {
		struct gitobj_branch branch;

		gitobj_branch(g, i, &branch);
		(void)fputs(branch.refused ? "   refused " : "   to refs/berm: ", stdout);
		review_text_put(stdout, branch.name);
		if (branch.refused) {
			(void)fputs(": ", stdout);
			review_text_put(stdout, branch.reason);
		}
		(void)putchar('\n');
	}
	r = gitobj_commits(g, put_commit, &all, e);
	if (all.count > NAMED_COMMITS_MAX)
		(void)printf("  and %llu more\n",
		             (unsigned long long)(all.count - NAMED_COMMITS_MAX));
	(void)putchar('\n');
	return r;
}

static int put_commits(const struct page *p, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < review_repos(p->o->review); i++)
		r = put_repo(p, review_repo(p->o->review, i), e);
	return r;
}

static int print_page(struct page *p, struct err *e)
{
	const struct review_text *how = p->how;
	int r = 0;

	if (how->form == REVIEW_FORM_DIFF)
		put_head(p);
	for (int s = 0; r == 0 && s < REVIEW_SECTIONS; s++) {
		r = put_section(p, (enum review_section)s, false, e);
		if (r == 0 && s == REVIEW_X1)
			r = put_section(p, REVIEW_OUT, true, e);
	}
	if (r == 0 && how->form == REVIEW_FORM_DIFF && how->path_count == 0)
		r = put_commits(p, e);
	if (r == 0 && how->form == REVIEW_FORM_STAT)
		(void)printf(" %llu paths, %llu lines added, %llu removed\n",
		             (unsigned long long)p->shown, (unsigned long long)p->added,
		             (unsigned long long)p->removed);
	return r;
}

int review_text_print(const struct review_opened *o, const struct review_text *how, struct err *e)
{
	_own_free_ char *line = malloc(LINE_ROOM);
	struct page p = { .o = o, .how = how, .line = line };
	struct shown_locale l;
	int r = line ? check_paths(o, how, e) : err_set(e, -ENOMEM, "out of memory");

	if (r < 0)
		return r;
	shown_locale_begin(&l);
	r = print_page(&p, e);
	shown_locale_end(&l);
	return r;
}

/* --- what the other verbs say --- */

void review_text_said(const struct review_opened *o, FILE *f)
{
	for (size_t i = 0; i < o->said_count; i++) {
		review_text_put(f, span_str(o->said[i].path));
		(void)fprintf(f, ": %s\n", apply_word_text(o->said[i].word));
	}
	if (o->said_more > 0)
		(void)fprintf(f, "and %zu more paths\n", o->said_more);
}

static void put_counts(const struct review_totals *t, FILE *f)
{
	const char *gap = " (";

	for (int s = 0; s < REVIEW_SECTIONS; s++) {
		if (t->undecided_of[s] == 0)
			continue;
		(void)fprintf(f, "%s%llu %s", gap, (unsigned long long)t->undecided_of[s],
		              review_section_name((enum review_section)s));
		gap = ", ";
	}
	(void)fputs(*gap == ',' ? ")" : "", f);
}

static void put_count(uint64_t count, const char *word, FILE *f)
{
	if (count > 0)
		(void)fprintf(f, ", %llu %s", (unsigned long long)count, word);
}

static void put_git(struct review_opened *o, uint64_t files, FILE *f)
{
	uint64_t commits = review_opened_commits(o);
	uint64_t lost = review_opened_git_lost(o);

	if (files > 0)
		(void)fprintf(f, "%llu " REVIEW_GIT_WORDS "\n", (unsigned long long)files);
	if (commits > 0)
		(void)fprintf(f, "%llu commit%s not in your repository yet\n",
		              (unsigned long long)commits, commits == 1 ? " is" : "s are");
	for (size_t i = 0; i < review_repos(o->review); i++) {
		const struct review_repo *repo = review_repo(o->review, i);

		if (repo->commits || repo->objects == 0 || repo->nowhere)
			continue;
		(void)fprintf(f, "%llu " REVIEW_LOST_WORDS ": ", (unsigned long long)repo->objects);
		if (i > 0) {
			review_text_put(f, repo->at);
			(void)fputs(": ", f);
		}
		review_text_put(f, span_str(repo->why));
		(void)putc('\n', f);
		lost -= repo->objects;
	}
	if (lost > 0)
		(void)fprintf(f,
		              "%llu " REVIEW_LOST_WORDS ": they are of a repository within the "
		              "workspace that you do not have\n",
		              (unsigned long long)lost);
}

void review_text_counts(struct review_opened *o, FILE *f)
{
	struct review_totals t;

	review_totals(o->review, &t);
	(void)fprintf(f, "session %s: ", o->s.info.id);
	if (t.undecided + t.accepted + t.rejected + t.done == 0) {
		(void)fputs("no change to decide on", f);
	} else {
		(void)fprintf(f, "%llu undecided", (unsigned long long)t.undecided);
		put_counts(&t, f);
		put_count(t.accepted, "accepted", f);
		put_count(t.rejected, "rejected", f);
		put_count(t.done, "applied", f);
	}
	(void)putc('\n', f);
	if (t.per_section[REVIEW_OUT] > t.out_git)
		(void)fprintf(f, "%llu more do not come back: berm diff tells why\n",
		              (unsigned long long)(t.per_section[REVIEW_OUT] - t.out_git));
	put_git(o, t.out_git, f);
}

void review_text_runs(const struct review_opened *o, struct buf *out)
{
	enum { PATH_SHOWN = 200 };
	uint64_t count = 0;

	for (size_t i = 0; i < review_count(o->review); i++) {
		const struct review_item *item = review_at(o->review, i);
		struct span path = item->change->path;

		if (!could_run(item) || count++ >= REVIEW_RUNS_NAMED)
			continue;
		buf_printf(out, "  %s ", review_section_name(item->section));
		buf_put_escaped(out,
		                span_of(path.at, path.len < PATH_SHOWN ? path.len : PATH_SHOWN));
		buf_put_str(out, path.len > PATH_SHOWN ? "...: " : ": ");
		if (review_reason(item))
			buf_put_escaped(out, span_str(review_reason(item)));
		buf_put_str(out, review_out_runs(item) ? "; " REVIEW_RUNS_WORDS "\n" : "\n");
	}
	if (count > REVIEW_RUNS_NAMED)
		buf_printf(out, "  and %llu more that could run: berm diff --stat %s\n",
		           (unsigned long long)(count - REVIEW_RUNS_NAMED), o->s.info.id);
}

void review_text_summary(struct review_opened *o, FILE *f)
{
	const char *id = o->s.info.id;
	struct review_totals t;

	if (!o->review) {
		(void)fprintf(f,
		              "session %s: its base is session %s's now, so its changes cannot be "
		              "decided on again\n",
		              id, o->s.info.handed_to);
		return;
	}
	review_totals(o->review, &t);
	review_text_counts(o, f);
	if (t.undecided > 0)
		(void)fprintf(f, "next: berm review %s (diff shows it, discard gives it up)\n", id);
	else if (review_opened_waits(o))
		(void)fprintf(f, "next: berm apply %s\n", id);
}
