/*
 * job: what one run of berm-unpack is allowed, has used so far, and says about it.
 *
 * The codes below go through every module here as an err's code; job_fail_of() makes them the class
 * that the report carries:
 *   -ENOEXEC not an image   -EBADMSG damaged     -EPERM refused entry   -ENOTSUP other architecture
 *   -E2BIG   a limit        -ENOSPC  disk full   anything else: internal
 */
#pragma once

#include "base/err.h"
#include "image/limits.h"
#include "image/report.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	JOB_REPORT_STEP_BYTES = 4 << 20, /* between two looks at the clock */
	JOB_REPORT_STEP_MS = 100,
	JOB_WARNINGS_MAX = 16, /* after that they are only counted */
};

struct job {
	int report_fd;         /* borrowed; -1: silent */
	uint64_t unpacked_max; /* bytes of all layers together */
	uint64_t in_bytes, in_total;
	uint64_t out_bytes; /* unpacked so far */
	uint64_t entries;
	uint64_t last_ms, last_at;
	unsigned warnings;
};

void job_init(struct job *j, int report_fd, uint64_t unpacked_max);

/* More input was read, of which so much came out. -E2BIG past the limit on unpacked bytes. */
_must_ int job_count(struct job *j, uint64_t in_bytes, uint64_t out_bytes, struct err *e);

void job_phase(struct job *j, const char *name);
void job_warn(struct job *j, const char *fmt, ...) _printf_(2, 3);
void job_say_id(struct job *j, enum report_kind kind, const char *id);
void job_say_fail(struct job *j, const struct err *e);
void job_progress(struct job *j); /* now */

enum image_fail job_fail_of(int code);
