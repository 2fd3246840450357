#include "image/job.h"

#include "base/clock.h"
#include "base/fdio.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

void job_init(struct job *j, int report_fd, uint64_t unpacked_max)
{
	*j = (struct job){ .report_fd = report_fd, .unpacked_max = unpacked_max };
}

/* A caller that went away is no reason to fail here: it took our life with it, or soon will. */
static void say(struct job *j, const struct report *r)
{
	uint8_t storage[REPORT_LINE_MAX];
	struct buf line;

	if (j->report_fd < 0)
		return;
	buf_init(&line, storage, sizeof(storage));
	report_put(&line, r);
	if (fd_write_all(j->report_fd, line.at, line.len, NULL) < 0)
		j->report_fd = -1;
}

void job_progress(struct job *j)
{
	const struct report r = { .kind = REPORT_PROGRESS,
		                  .in_bytes = j->in_bytes,
		                  .total_bytes = j->in_total,
		                  .out_bytes = j->out_bytes,
		                  .entries = j->entries };

	say(j, &r);
}

int job_count(struct job *j, uint64_t in_bytes, uint64_t out_bytes, struct err *e)
{
	uint64_t now_ms;

	j->in_bytes += in_bytes;
	if (out_bytes > j->unpacked_max - j->out_bytes)
		return err_set(e, -E2BIG,
		               "the image unpacks to more than %llu bytes; if you trust it, raise "
		               "the limit with --max-size",
		               (unsigned long long)j->unpacked_max);
	j->out_bytes += out_bytes;
	if (j->in_bytes + j->out_bytes - j->last_at < JOB_REPORT_STEP_BYTES)
		return 0;
	j->last_at = j->in_bytes + j->out_bytes;
	now_ms = clock_mono_ms();
	if (now_ms - j->last_ms >= JOB_REPORT_STEP_MS) {
		j->last_ms = now_ms;
		job_progress(j);
	}
	return 0;
}

void job_phase(struct job *j, const char *name)
{
	const struct report r = { .kind = REPORT_PHASE, .text = span_str(name) };

	say(j, &r);
}

void job_warn(struct job *j, const char *fmt, ...)
{
	char text[REPORT_LINE_MAX];
	struct report r = { .kind = REPORT_WARN };
	va_list ap;

	if (j->warnings++ >= JOB_WARNINGS_MAX)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	r.text = span_str(text);
	say(j, &r);
}

void job_say_id(struct job *j, enum report_kind kind, const char *id)
{
	const struct report r = { .kind = kind, .text = span_str(id) };

	say(j, &r);
}

void job_say_fail(struct job *j, const struct err *e)
{
	const struct report r = { .kind = REPORT_FAIL,
		                  .fail = job_fail_of(e->code),
		                  .text = span_of(e->text, e->len) };

	say(j, &r);
}

enum image_fail job_fail_of(int code)
{
	switch (code) {
	case -ENOEXEC:
		return IMAGE_FAIL_NOT_IMAGE;
	case -EBADMSG:
		return IMAGE_FAIL_DAMAGED;
	case -EPERM:
		return IMAGE_FAIL_REFUSED;
	case -ENOTSUP:
		return IMAGE_FAIL_ARCH;
	case -EFBIG:
	case -E2BIG:
		return IMAGE_FAIL_LIMIT;
	case -ENOSPC:
	case -EDQUOT:
		return IMAGE_FAIL_SPACE;
	default:
		return IMAGE_FAIL_INTERNAL;
	}
}
