#include "base/fdio.h"
#include "work/apply_inner.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/* -1 in r->stage_fd: there is none. */
static int open_stage(struct apply_run *r, struct err *e)
{
	int got = apply_stage_open(r, false, e);

	if (got != -ENOENT)
		return got;
	err_clear(e);
	return 0;
}

/* Before the commit mark: nothing was moved. If all steps can be read, that is made sure of. */
static int take_back(struct apply_run *r, const struct journal_read *j, struct err *e)
{
	int got = 0;

	if (j->steps_ok && r->stage_fd >= 0)
		got = apply_back_steps(r, e);
	return got < 0 ? got : apply_abandon(r, e);
}

static int go_on(struct apply_run *r, const struct journal_read *j, enum apply_recovered *ret,
                 struct err *e)
{
	bool aborted = j->marks[JOURNAL_ABORT];
	int got = 0;

	if (j->marks[JOURNAL_DONE]) {
		*ret = aborted ? APPLY_TAKEN_BACK : APPLY_GONE_FORWARD;
		return apply_finish(r, aborted, e);
	}
	if (!j->marks[JOURNAL_COMMIT]) {
		*ret = APPLY_TAKEN_BACK;
		return take_back(r, j, e);
	}
	if (r->stage_fd < 0)
		return err_set(e, -EBADMSG, "the staging directory is gone: nothing was touched");
	got = aborted ? apply_back(r, e) : apply_forward(r, false, e);
	if (got < 0)
		return got;
	*ret = aborted ? APPLY_TAKEN_BACK : APPLY_GONE_FORWARD;
	return apply_finish(r, aborted, e);
}

/* A head is synced before anything else is made. So without one, nothing may be there. */
static int no_head(struct apply_run *r, struct err *e)
{
	char name[APPLY_STAGE_NAME_MAX];

	apply_stage_name(r->on, name);
	if (faccessat(r->on->root_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return err_set(e, -EBADMSG, "the journal is damaged: nothing was touched");
	return apply_abandon(r, e);
}

static int recover_locked(struct apply_run *r, enum apply_recovered *ret, struct err *e)
{
	_own_(journal_read_free) struct journal_read *j = NULL;
	int got = journal_open(r->on->session_fd, APPLY_JOURNAL_NAME, &j, e);

	if (got == -ENOENT) {
		err_clear(e);
		*ret = APPLY_WAS_CLEAN;
		return 0;
	}
	if (got == 0)
		got = apply_at(r->on, AP_RECOVER_READ, e);
	if (got < 0)
		return got;
	if (!j->head_ok) {
		*ret = APPLY_TAKEN_BACK;
		return no_head(r, e);
	}
	if (strcmp(j->head.session, r->on->session) != 0)
		return err_set(e, -EBADMSG, "the journal is another session's");
	r->head = j->head;
	r->journal = j->j;
	r->steps = j->steps;
	r->steps_count = j->steps_count;
	got = open_stage(r, e);
	if (got == 0)
		got = apply_at(r->on, AP_RECOVER_JUDGED, e);
	return got < 0 ? got : go_on(r, j, ret, e);
}

int apply_recover(const struct apply_on *on, enum apply_recovered *ret,
                  struct apply_result *ret_result, struct err *e)
{
	enum apply_recovered how = APPLY_WAS_CLEAN;
	struct apply_run r;
	int got = 0;

	apply_run_init(&r, on);
	r.recovering = true;
	if (apply_interrupted(on->session_fd)) {
		got = apply_lock(&r, e);
		if (got == 0)
			got = apply_at(on, AP_RECOVER_LOCKED, e);
		if (got == 0)
			got = recover_locked(&r, &how, e);
	}
	r.result.end = how == APPLY_GONE_FORWARD ? APPLY_DONE : APPLY_NOTHING;
	if (how == APPLY_GONE_FORWARD && r.head.kind == JOURNAL_APPLY)
		r.result.generation = r.head.generation;
	apply_run_fini(&r);
	if (got < 0)
		return got;
	*ret = how;
	*ret_result = r.result;
	return 0;
}
