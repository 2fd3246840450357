/*
 * doctor: can berm run here, how well, and what to do about what is missing.
 *
 * Each thing looked at is one finding: what is so, how bad, and the remedy. The looking changes
 * nothing but the state directory (made on first use) and takes under 200 ms once the probe of
 * /dev/kvm is kept.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "state/paths.h"
#include "state/spec.h"

#include <stdbool.h>

enum {
	DOCTOR_FINDINGS_MAX = 24,
	DOCTOR_TEXT_MAX = 320,
	DOCTOR_JSON_MAX = 64 << 10,          /* DOCTOR_FINDINGS_MAX of the longest, escaped */
	DOCTOR_DISK_BYTES_LOW = 1 << 30,     /* an image, a template and a sandbox */
	DOCTOR_MEMORY_BYTES_LOW = 1 << 30,   /* a default sandbox and its template */
	DOCTOR_MEMORY_BYTES_MIN = 192 << 20, /* below it no guest comes up */
};

enum doctor_severity {
	DOCTOR_OK,
	DOCTOR_NOTE, /* worth knowing; nothing is lost that was asked for */
	DOCTOR_WARN, /* berm runs, with less than it could */
	DOCTOR_FAIL, /* berm cannot run until this is mended */
};

struct doctor_finding {
	const char *id; /* one word, stable: programs look for it */
	enum doctor_severity severity;
	char text[DOCTOR_TEXT_MAX];   /* what is so */
	char remedy[DOCTOR_TEXT_MAX]; /* what to do; "" if nothing */
};

struct doctor_report {
	unsigned count;
	struct doctor_finding findings[DOCTOR_FINDINGS_MAX];
	enum level level; /* the assurance level a run gets here */
	bool can_run;     /* no finding is DOCTOR_FAIL */
};

/*
 * Looks at everything. p is borrowed. 0 with a report, however sick the host is; an error only
 * when looking itself fails (out of memory).
 */
_must_ int doctor_examine(const struct paths *p, struct doctor_report *ret, struct err *e);

/*
 * Starts a gate and a vault that serve nobody, waits until both have closed their jails, and ends
 * them. 0, -ENOENT (not installed), or what the one that failed said.
 */
_must_ int doctor_try_network(const struct paths *p, struct err *e);

/* "ok", "note", "warn", "fail" */
const char *doctor_severity_name(enum doctor_severity s);

/*
 * One object: {"ok":true,"level":"emulated","findings":[{"id","severity","text","remedy"}]}, no
 * newline. DOCTOR_JSON_MAX bytes suffice.
 */
void doctor_put_json(struct buf *b, const struct doctor_report *r);
