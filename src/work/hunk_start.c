#include "work/hunk_job.h"

#include "base/fdio.h"
#include "work/workjob.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

static int read_answer(int fd, const struct hunk_text *old, const struct hunk_text *new,
                       struct hunks **ret, struct err *e)
{
	_own_free_ char *text = NULL;
	size_t len;
	int r;

	if (lseek(fd, 0, SEEK_SET) < 0)
		return err_sys(e, "read a comparison");
	r = fd_read_text(fd, HUNK_ANSWER_MAX, &text, &len, e);
	return r < 0 ? r : hunk_parse(span_of(text, len), old, new, ret, e);
}

int hunk_compare(const char *diff_path, const struct hunk_text *old, const struct hunk_text *new,
                 struct hunks **ret, struct err *e)
{
	static const char *const argv[] = { "berm-diff", NULL };
	_own_fd_ int old_fd = -1, new_fd = -1, answer_fd = -1;
	struct workjob j = { .unpack_path = diff_path,
		             .argv = argv,
		             .fd_count = HUNK_FD_COUNT,
		             .report_fd = HUNK_FD_REPORT,
		             .timeout_ms = HUNK_JOB_WAIT_MS,
		             .what = "the two texts" };
	int r = fd_sealed("berm-old", old->text.at, old->text.len, &old_fd, e);

	if (r == 0)
		r = fd_sealed("berm-new", new->text.at, new->text.len, &new_fd, e);
	if (r < 0)
		return r;
	answer_fd = memfd_create("berm-hunks", MFD_CLOEXEC);
	if (answer_fd < 0)
		return err_sys(e, "make room for a comparison");
	j.fds[HUNK_FD_OLD] = old_fd;
	j.fds[HUNK_FD_NEW] = new_fd;
	j.fds[HUNK_FD_ANSWER] = answer_fd;
	r = workjob_run(&j, e);
	return r < 0 ? r : read_answer(answer_fd, old, new, ret, e);
}
