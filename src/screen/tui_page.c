#include "screen/tui_inner.h"

#include <inttypes.h>
#include <string.h>

enum { COMMITS_SHOWN_MAX = REVIEW_COMMITS_MAX, RECORDS_SHOWN_MAX = 20000, ID_SHOWN = 12 };

/* --- a page --- */

char *tui_page_room(struct tui *t, struct buf *b)
{
	char *room = malloc(TUI_PAGE_MAX);

	if (!room)
		tui_warn(t, "out of memory");
	buf_init(b, room, TUI_PAGE_MAX);
	return room;
}

void tui_page_show(struct tui *t, char *room, struct buf *b, const char *keys)
{
	struct hunk_text *text = NULL;
	struct err e = { 0 };

	if (!buf_ok(b)) {
		b->over = false;
		tui_say(t, "there is more of it than can be shown");
	}
	if (hunk_text_new(buf_span(b), &text, &e) < 0) {
		free(room);
		tui_warn_err(t, &e);
		return;
	}
	if (t->screen != TUI_PAGE)
		t->back = t->screen;
	hunk_text_free(t->page.text);
	free(t->page.bytes);
	t->page = (struct tui_page){ .bytes = room, .text = text, .keys = keys };
	t->screen = TUI_PAGE;
}

void tui_page_close(struct tui *t)
{
	hunk_text_free(t->page.text);
	free(t->page.bytes);
	t->page = (struct tui_page){ 0 };
	if (t->screen == TUI_PAGE)
		t->screen = t->back;
}

void tui_page_draw(struct tui *t)
{
	unsigned rows = tui_body_rows(t, VIEW_HEADER_ROWS);

	view_draw_header(t->canvas, &t->header);
	view_draw_text(t->canvas, VIEW_HEADER_ROWS, VIEW_HEADER_ROWS + rows, t->page.text,
	               t->page.top, t->page.skip, false, span_of("", 0));
	if (!t->said[0] && t->page.text->count > rows)
		tui_say(t, "lines %u to %u of %u; space goes on", t->page.top + 1,
		        t->page.top + rows < t->page.text->count ? t->page.top + rows
		                                                 : t->page.text->count,
		        t->page.text->count);
}

static void scroll(struct tui *t, int64_t lines)
{
	unsigned rows = tui_body_rows(t, VIEW_HEADER_ROWS);
	int64_t last = (int64_t)t->page.text->count - rows;
	int64_t to = (int64_t)t->page.top + lines;

	to = to < last ? to : last;
	t->page.top = to > 0 ? (uint32_t)to : 0;
}

void tui_page_key(struct tui *t, uint32_t key)
{
	int64_t rows = tui_body_rows(t, VIEW_HEADER_ROWS);

	switch (key) {
	case 'j':
	case TUI_KEY_DOWN:
		scroll(t, 1);
		break;
	case 'k':
	case TUI_KEY_UP:
		scroll(t, -1);
		break;
	case ' ':
	case TUI_KEY_PAGE_DOWN:
		scroll(t, rows);
		break;
	case 'b':
	case TUI_KEY_PAGE_UP:
		scroll(t, -rows);
		break;
	case 'g':
	case TUI_KEY_HOME:
		t->page.top = 0;
		break;
	case 'G':
	case TUI_KEY_END:
		scroll(t, t->page.text->count);
		break;
	case TUI_KEY_RIGHT:
		t->page.skip += VIEW_TAB;
		break;
	case TUI_KEY_LEFT:
		t->page.skip -= t->page.skip >= VIEW_TAB ? VIEW_TAB : t->page.skip;
		break;
	default:
		if (t->ask == TUI_ASK_NONE)
			tui_page_close(t);
		break;
	}
}

/* --- help --- */

static const char help_text[] =
	"= what is shown\n"
	"  Changes that could run something come first, the soonest first: X0 by itself,\n"
	"  X1 by an ordinary command, X2 in CI, X3 newly executable. Then conflicts with\n"
	"  what you changed meanwhile, what steers agents (X4), plain changes, what git\n"
	"  ignores, what does not come back, and what you have already.\n"
	"  [ ] undecided  [y] accepted  [n] rejected  [~] some hunks  [*] applied\n"
	"  [?] changed since you decided  [!] needs what was rejected\n"
	"  > at the right: the line goes on; at the left: what the keys are about;\n"
	"  / there: the search found it. \\x1b and the like: a byte that a terminal\n"
	"  would obey, or that nobody sees.\n"
	"  Nothing touches your files before w. Decisions are kept when you leave.\n"
	"\n"
	"= the list\n"
	"  j k arrows PgUp PgDn g G  move     Tab        next section\n"
	"  space h l left right      fold     + -        unfold, fold a section\n"
	"  Enter  look at a change            .          next undecided\n"
	"  / n N  search paths                f          undecided ones only\n"
	"\n"
	"= deciding\n"
	"  y  accept it; on a directory, all that is undecided in it\n"
	"  r  reject it: yours stays          c  undecided again\n"
	"  a  accept all plain changes and ask to apply: Enter applies. X0 to X4,\n"
	"     conflicts and what git ignores stay undecided\n"
	"  A  accept all but X0, conflicts and what git ignores\n"
	"  u  undo the last decision\n"
	"  X0 is accepted one by one, by typing its path.\n"
	"  Of a conflict y accepts the agent's version.\n"
	"\n"
	"= a change\n"
	"  ] [    next, previous hunk         t s  take, skip this hunk\n"
	"  v      side by side                left right  scroll aside\n"
	"  1 2 3  as packed, yours, the agent's, whole\n"
	"  d  the difference                  i  sizes, digests, targets\n"
	"  J K    next, previous change       q  back\n"
	"  y r c u . / n N  as in the list\n"
	"\n"
	"= the session\n"
	"  w  apply what is accepted: shows a summary and asks\n"
	"  o  the agent's commits             i  the session, what never entered it\n"
	"  D  discard the session: asks       q  leave; berm review goes on later\n";

void tui_page_help(struct tui *t)
{
	struct buf b;
	char *room = tui_page_room(t, &b);

	if (!room)
		return;
	buf_put_str(&b, help_text);
	tui_page_show(t, room, &b, "space goes on, any other key closes");
}

/* --- the session --- */

static int put_record(void *arg, const struct pack_record *record, struct err *e)
{
	struct buf *b = arg;

	(void)e;
	buf_put_str(b, "  ");
	buf_put_escaped(b, record->path);
	buf_printf(b, "  %s", pack_why_text(record->why));
	if (record->rule.len > 0) {
		buf_put_str(b, " (");
		buf_put_escaped(b, record->rule);
		buf_put_str(b, ")");
	}
	buf_put_str(b, "\n");
	return buf_ok(b) ? 0 : 1;
}

static void put_field(struct buf *b, const char *name, const char *value)
{
	buf_printf(b, "  %-12s ", name);
	buf_put_escaped(b, span_str(value));
	buf_put_str(b, "\n");
}

void tui_page_info(struct tui *t)
{
	const struct work_session_info *info = &t->o->s.info;
	struct pack_report *report = review_report(t->o->review);
	struct err e = { 0 };
	struct buf b;
	char *room = tui_page_room(t, &b);

	if (!room)
		return;
	buf_put_str(&b, "= session\n");
	put_field(&b, "id", info->id);
	put_field(&b, "agent", info->agent);
	put_field(&b, "image", info->image);
	put_field(&b, "digest", t->image);
	put_field(&b, "workspace", info->root);
	put_field(&b, "in the guest", info->mount);
	put_field(&b, "packed", t->packed);
	if (info->ended[0])
		put_field(&b, "ended", info->ended);
	if (info->message[0])
		put_field(&b, "message", info->message);
	buf_printf(&b, "  %" PRIu64 " of the paths the agent touched were changed here as well\n\n",
	           t->header.totals.host_changes);
	buf_put_str(&b, "= what did not enter the guest\n");
	if (!report)
		buf_put_str(&b, "  the report of it cannot be read\n");
	else if (t->header.totals.left_out == 0)
		buf_put_str(&b, "  nothing: all of the workspace was there\n");
	else if (pack_report_each(report, put_record, &b, &e) < 0)
		put_field(&b, "", e.text);
	tui_page_show(t, room, &b, "space goes on, any other key closes");
}

/* --- commits --- */

struct commit_list {
	struct buf *b;
	uint32_t count;
};

static int put_commit(void *arg, const struct gitobj_id *id, const struct gitobj_commit *c,
                      struct err *e)
{
	struct commit_list *l = arg;
	char hex[64];
	struct buf h;
	struct span rest = c->message;
	struct span line = { 0 };
	const uint8_t *mail;

	(void)e;
	if (l->count++ >= COMMITS_SHOWN_MAX)
		return 0;
	buf_init(&h, hex, sizeof(hex));
	gitobj_put_hex(&h, id);
	if (!take_until(&rest, '\n', &line))
		line = rest;
	buf_printf(l->b, "  %.*s  ", ID_SHOWN, buf_cstr(&h));
	buf_put_escaped(l->b, line);
	buf_put_str(l->b, "\n                by ");
	mail = c->author.len > 0 ? memrchr(c->author.at, '>', c->author.len) : NULL;
	buf_put_escaped(l->b, mail ? span_of(c->author.at, (size_t)(mail + 1 - c->author.at))
	                           : c->author);
	buf_put_str(l->b, "\n");
	return 0;
}

static void put_branch(const struct tui *t, const struct gitobj_branch *branch, struct buf *b)
{
	char ref[1024];
	struct buf r;

	buf_init(&r, ref, sizeof(ref));
	buf_put_str(b, "  ");
	buf_put_escaped(b, branch->name);
	if (branch->refused) {
		buf_put_str(b, " is refused: ");
		buf_put_escaped(b, branch->reason);
	} else if (gitobj_side_ref(t->o->s.info.id, branch->name, &r) && buf_ok(&r)) {
		buf_put_str(b, " becomes ");
		buf_put_escaped(b, buf_span(&r));
	}
	buf_put_str(b, "\n");
}

static void put_title(struct buf *b, const char *title, struct span at)
{
	buf_printf(b, "= %s", title);
	if (at.len > 0) {
		buf_put_str(b, " of ");
		buf_put_escaped(b, at);
	}
}

static void put_repo(const struct tui *t, const struct review_repo *repo, struct buf *b)
{
	struct gitobj_totals totals = { 0 };
	struct commit_list list = { .b = b };
	struct err e = { 0 };

	if (repo->commits)
		gitobj_totals(repo->commits, &totals);
	if (!repo->commits && *repo->why) {
		put_title(b, "commits", repo->at);
		buf_put_str(b, "\n  none come back: ");
		buf_put_escaped(b, span_str(repo->why));
		buf_put_str(b, "\n\n");
	}
	if (totals.refs + totals.refused == 0)
		return;
	put_title(b, "branches", repo->at);
	buf_put_str(b, ", which w brings to your repository under other names\n");
	for (uint32_t i = 0; i < totals.refs + totals.refused; i++) {
		struct gitobj_branch branch;

		gitobj_branch(repo->commits, i, &branch);
		put_branch(t, &branch, b);
	}
	buf_put_str(b, "  They hold all that was committed, also what you reject here.\n\n");
	put_title(b, "commits", repo->at);
	buf_put_str(b, ", oldest first\n");
	if (gitobj_commits(repo->commits, put_commit, &list, &e) < 0)
		put_field(b, "", e.text);
	if (list.count > COMMITS_SHOWN_MAX)
		buf_printf(b, "  and %u more\n", list.count - COMMITS_SHOWN_MAX);
	buf_put_str(b, "\n");
}

void tui_page_commits(struct tui *t)
{
	size_t count = review_repos(t->o->review);
	const char *why = review_repo(t->o->review, 0)->why;
	struct gitobj_totals all;
	struct buf b;
	char *room;

	review_repos_totals(t->o->review, &all);
	if (all.refs + all.refused == 0 && count == 1) {
		tui_say(t, "there are no commits%s%s", why[0] ? ": " : "", why);
		return;
	}
	room = tui_page_room(t, &b);
	if (!room)
		return;
	for (size_t i = 0; i < count; i++)
		put_repo(t, review_repo(t->o->review, i), &b);
	tui_page_show(t, room, &b, "space goes on, any other key closes");
}
