#include "review/review_inner.h"

#include <errno.h>
#include <string.h>

struct section_words {
	const char *name, *title, *about;
};

static const struct section_words words[REVIEW_SECTIONS] = {
	[REVIEW_X0] = { "X0", "runs by itself",
	                "Something runs these unasked. Each is accepted by typing its path." },
	[REVIEW_X1] = { "X1", "runs when you build, test, install or commit",
	                "An ordinary command would run these, as you." },
	[REVIEW_X2] = { "X2", "runs in continuous integration",
	                "Your CI would run these with its own credentials." },
	[REVIEW_X3] = { "X3", "newly executable",
	                "These became programs, scripts, archives, or links to elsewhere." },
	[REVIEW_CONFLICTS] = { "conflicts", "changed here as well",
	                       "Both of you changed these. Yours stay unless you accept the agent's." },
	[REVIEW_X4] = { "X4", "steers an agent or editor",
	                "Agents and editors outside would take these for instructions." },
	[REVIEW_PLAIN] = { "plain", "plain changes", "Nothing runs these by itself." },
	[REVIEW_IGNORED] = { "ignored", "ignored by git",
	                     "Git would not list these. They come back only if you ask for them." },
	[REVIEW_OUT] = { "out", "never comes back",
	                 "These stay with the session, each with why; git's own files always do." },
	[REVIEW_THERE] = { "there", "already there", "Your workspace has these already." },
};

const char *review_section_name(enum review_section s)
{
	return (unsigned)s < REVIEW_SECTIONS ? words[s].name : "";
}

const char *review_section_title(enum review_section s)
{
	return (unsigned)s < REVIEW_SECTIONS ? words[s].title : "";
}

const char *review_section_about(enum review_section s)
{
	return (unsigned)s < REVIEW_SECTIONS ? words[s].about : "";
}

const char *review_reason(const struct review_item *it)
{
	const struct change *c = it->change;
	bool hosts = it->class == CLASS_PLAIN &&
	             (c->state == CHANGE_CONFLICT || c->state == CHANGE_BOTH);

	/* the host's file is the result of the apply now, and no edit of the user's */
	if (hosts && (it->flags & RV_DONE) && it->choice != REVIEW_REJECT)
		return NULL;
	return it->reason;
}

bool review_out_runs(const struct review_item *it)
{
	const struct change *c = it->change;
	bool dir = c->guest.exists && c->guest.kind == WORK_DIR;

	if (it->section != REVIEW_OUT || it->class > CLASS_X1 || dir || !c->guest.exists)
		return false;
	return !class_in_git(c->path) || class_git_runs(c->path);
}

void review_free(struct review *r)
{
	if (r == NULL)
		return;
	review_commits_free(r);
	review_list_drop(r);
	proposal_free(r->proposal);
	base_free(r->base);
	pack_report_free(r->report);
	review_links_free(r->links);
	own_close_fd(&r->image_fd);
	own_close_fd(&r->manifest_fd);
	own_close_fd(&r->index_fd);
	own_close_fd(&r->log.fd);
	free(r);
}

/* The same directory, by the rule of apply: its device's number may have changed. */
static int check_root(const struct review_on *on, struct err *e)
{
	struct apply_root now;
	int got = apply_root_of(on->root_fd, &now, e);

	if (got < 0)
		return got;
	if (now.ino != on->root.ino ||
	    (now.btime_ns != 0 && on->root.btime_ns != 0 ? now.btime_ns != on->root.btime_ns
	                                                 : now.dev != on->root.dev))
		return err_set(e, -ESTALE,
		               "the workspace is not the directory that session %s began with; "
		               "nothing was changed, and the session is kept: put that one back, "
		               "or give the session up with berm discard %s",
		               on->session, on->session);
	return 0;
}

int review_recover(const struct review_on *on, enum apply_recovered *ret, struct err *e)
{
	struct apply_on a = { .root_fd = on->root_fd,
		              .root = on->root,
		              .session_fd = on->session_fd,
		              .session = on->session,
		              .said = on->said,
		              .said_arg = on->said_arg };
	struct apply_result result;
	int got = check_root(on, e);

	if (got < 0)
		return got;
	got = apply_recover(&a, ret, &result, e);
	return got < 0 ? err_wrap(e, "end an apply that was interrupted") : 0;
}

int review_open(const struct review_on *on, struct review **ret,
                enum apply_recovered *ret_recovered, struct err *e)
{
	_own_(review_free) struct review *r = calloc(1, sizeof(*r));
	enum apply_recovered how = APPLY_WAS_CLEAN;
	int got;

	if (r == NULL)
		return err_set(e, -ENOMEM, "no memory for a review");
	r->on = *on;
	r->image_fd = r->manifest_fd = r->index_fd = r->log.fd = -1;
	got = review_recover(on, &how, e);
	if (got == 0)
		got = review_files_open(r, e);
	if (got == 0)
		got = review_log_open(on->session_fd, &r->log, e);
	if (got == 0)
		got = review_list_make(r, e);
	if (got == 0)
		got = review_commits_new(r, e);
	if (got < 0)
		return got;
	if (ret_recovered != NULL)
		*ret_recovered = how;
	*ret = steal_ptr(&r);
	return 0;
}

size_t review_count(const struct review *r)
{
	return r->count;
}

const struct review_item *review_at(const struct review *r, size_t i)
{
	return &r->items[i];
}

struct review_span review_of(const struct review *r, enum review_section s)
{
	return r->spans[s];
}

struct pack_report *review_report(struct review *r)
{
	return r->report;
}

/* Has the host changed it since it was packed, and not by an apply of this session? */
static bool host_changed(const struct review_item *it)
{
	const struct change *c = it->change;

	if ((it->flags & RV_DONE) != 0 || c->state == CHANGE_STAYS_OUT ||
	    c->why == CHANGE_WHY_HOST_WAY)
		return false;
	if (c->state != CHANGE_PROPOSED)
		return true;
	return c->base.exists && c->host.exists && (c->flags & CHANGE_HOST_UNTOUCHED) == 0;
}

/* What is changed or removed is git's own housekeeping. */
bool review_is_git_object(const struct change *c)
{
	struct span rest = c->path;
	struct span part;

	if (c->op != CHANGE_ADD || c->guest.kind != WORK_FILE || !class_in_git(c->path))
		return false;
	while (wpath_next(&rest, &part))
		if (span_is(part, "objects"))
			return true;
	return false;
}

void review_totals(const struct review *r, struct review_totals *ret)
{
	struct review_totals t = { 0 };

	for (size_t i = 0; i < r->count; i++) {
		const struct review_item *it = &r->items[i];

		t.per_section[it->section]++;
		t.host_changes += host_changed(it);
		if (it->section == REVIEW_OUT &&
		    (class_in_git(it->change->path) || class_in_git(it->change->from))) {
			t.out_git++;
			t.git_objects += review_is_git_object(it->change);
		}
		if ((it->flags & RV_DONE) != 0) {
			t.done += (it->flags & RV_HALF) == 0;
		} else if (!review_is_open(it)) {
			continue;
		} else if (it->choice == REVIEW_UNDECIDED) {
			t.undecided++;
			t.undecided_of[it->section]++;
		} else if (it->choice == REVIEW_REJECT) {
			t.rejected++;
			t.rejected_of[it->section]++;
		} else {
			t.accepted++;
		}
	}
	for (size_t i = 0; i < PACK_WHY_COUNT; i++)
		t.left_out += r->left_out.left_out[i];
	*ret = t;
}
