/*
 * berm-diff: finds where two texts differ, and ends.
 *
 * Started with two texts of unknown origin as fds (work/hunk_job.h). Before it looks at a byte of
 * them it closes the jail around itself: what is left is these two, room for the answer, and
 * memory.
 */
#include "base/fdio.h"
#include "base/log.h"
#include "jail/jail.h"
#include "work/hunk_job.h"
#include "work/workjob.h"

#include <errno.h>
#include <git2.h>
#include <stdlib.h>
#include <sys/resource.h>

enum { OUT_OF_JAIL = 125 };

static int enter_jail(struct err *e)
{
	static const struct jail_limit limits[] = {
		{ RLIMIT_DATA, HUNK_JOB_MEMORY_MAX, "texts of any kind need no more" },
		{ RLIMIT_CPU, HUNK_JOB_CPU_S_MAX, "nor longer" },
		{ RLIMIT_FSIZE, HUNK_ANSWER_MAX, "an answer is no larger" },
	};
	static const int keep[] = { HUNK_FD_OLD, HUNK_FD_NEW, HUNK_FD_ANSWER, HUNK_FD_REPORT };
	const struct jail_params p = { .limits = limits,
		                       .limit_count = sizeof(limits) / sizeof(limits[0]),
		                       .keep_fds = keep,
		                       .keep_fd_count = sizeof(keep) / sizeof(keep[0]) };

	return jail_enter(&jail_profile_unpack, &p, NULL, e);
}

static int answer(const struct hunk *hunks, uint32_t count, struct err *e)
{
	_own_free_ uint8_t *room = malloc(HUNK_ANSWER_MAX);
	struct buf out;

	if (room == NULL)
		return err_set(e, -ENOMEM, "no memory for a comparison");
	buf_init(&out, room, HUNK_ANSWER_MAX);
	hunk_put(&out, hunks, count);
	return fd_write_all(HUNK_FD_ANSWER, out.at, out.len, e);
}

static int run(struct err *e)
{
	_own_free_ struct hunk *hunks = calloc(HUNK_COUNT_MAX, sizeof(*hunks));
	_own_free_ char *old = NULL, *new = NULL;
	size_t old_len, new_len;
	uint32_t count = 0;
	int r;

	if (hunks == NULL)
		return err_set(e, -ENOMEM, "no memory for a comparison");
	r = fd_read_text(HUNK_FD_OLD, HUNK_TEXT_MAX, &old, &old_len, e);
	if (r == 0)
		r = fd_read_text(HUNK_FD_NEW, HUNK_TEXT_MAX, &new, &new_len, e);
	if (r == 0)
		r = hunk_git(span_of(old, old_len), span_of(new, new_len), hunks, &count, e);
	return r < 0 ? r : answer(hunks, count, e);
}

int main(void)
{
	struct err e = { 0 };

	log_init("berm-diff");
	if (git_libgit2_init() < 0) { /* it reads files of its own, which the jail has not */
		log_error("libgit2 cannot be set up");
		return OUT_OF_JAIL;
	}
	if (enter_jail(&e) < 0) {
		workjob_report(HUNK_FD_REPORT, &e);
		return OUT_OF_JAIL;
	}
	if (run(&e) < 0) {
		workjob_report(HUNK_FD_REPORT, &e);
		return 1;
	}
	return 0;
}
