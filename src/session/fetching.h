/*
 * fetching: what whoever waits for a session's work is told while it comes.
 *
 * How much will come is the guest's own word (sup/collect.c), known before the first byte. Of
 * much one line says so at once, with about how long that takes; after that a line that is redrawn
 * follows it.
 */
#pragma once

#include "state/work_session.h"
#include "term/share.h"
#include "term/term.h"

enum {
	FETCHING_QUIET_MS = 600,    /* the work of most sessions is here before */
	FETCHING_MEASURE_MS = 1000, /* of it, before its own rate says how long the rest takes */
	FETCHING_LINE_BYTES = 64 << 20, /* what is less is not worth a line that stays */
};

/* Bytes a ms until it is measured: of a console port, about (docs/benchmarks.md). */
#define FETCHING_RATE UINT64_C(150000)

struct fetching {
	int state_fd; /* borrowed */
	const struct work_session *s;
	struct spinner *spinner;
	uint64_t began_ms, moved_ms; /* 0: no byte has come */
	uint64_t expect;             /* 0: not known */
	bool told;
};

void fetching_init(struct fetching *f, int state_fd, const struct work_session *s,
                   struct spinner *spinner);

/* Now and then, while it goes on. s->dir_fd must be open; its lock is another's. */
void fetching_tick(struct fetching *f);

/* "2.1 GiB, about 15 s", or "120 MiB of 2.1 GiB, about 40 s more". ms since the first byte; pure */
void fetching_put(struct buf *b, uint64_t done, uint64_t expect, uint64_t ms);
