/*
 * egress_log: what became of a sandbox's connections and requests, one JSON object a line
 * (`berm logs --egress`).
 *
 * Shape     sandboxes/<id>/egress.jsonl; before it would pass EGRESS_LOG_FILE_MAX it becomes
 *           egress.jsonl.0, which stays, so that nobody makes it go away by making noise; the next
 *           times egress.jsonl.1, in place of the one before, whose records are counted as
 *           dropped. Every key always there, null where there is nothing to say; keys are only
 *           ever added:
 *             time (RFC 3339, UTC, milliseconds) sandbox by ("gate", "vault", and "supervisor"
 *             for what was dropped) generation
 *             event layer reason rule ("policy.yaml:12:5") host address port method path status
 *             bytes_up bytes_down ms count secret inspected pin_only exec flow
 *           exec is the number of the command that did it, if one alone ran: 1 is the main one
 * Hostile   the texts are the guest's and the upstreams': they leave as JSON strings; what is no
 *           UTF-8 is replaced
 * Limits    the enums below
 */
#pragma once

#include "base/buf.h"
#include "egress/control.h"

enum {
	EGRESS_LOG_FILE_MAX = 8 << 20,
	/* each byte of a text may take six */
	EGRESS_LINE_MAX = 6 * (CONTROL_HOST_MAX + CONTROL_METHOD_MAX + CONTROL_PATH_MAX) + 2048,
};

#define EGRESS_LOG_FILE       "egress.jsonl"
#define EGRESS_LOG_FILE_OLD   "egress.jsonl.1"
#define EGRESS_LOG_FILE_FIRST "egress.jsonl.0"

struct egress_line {
	uint64_t realtime_ns;
	const char *sandbox;
	const char *by;
	struct span rule; /* its origin; empty: none */
	uint32_t exec;    /* 0: not known */
	const struct egress_record *record;
};

/* With its '\n'. Pure. */
void egress_line_put(struct buf *out, const struct egress_line *l);

const char *egress_event_word(uint8_t event); /* "allowed", ...; "unknown" */
const char *egress_layer_word(uint8_t layer); /* "dns", ...; "unknown" */

struct egress_log {
	int dir_fd;          /* borrowed */
	int fd;              /* -1: none is open yet */
	uint64_t file_bytes; /* whole lines in it */
	uint64_t written, lost;
	bool has_first;                 /* the first file is full, and kept */
	uint64_t file_lines, old_lines; /* of the file that is open, of the older one */
	uint64_t dropped; /* with older files, and not yet said: the caller's to reset */
};

/* dir_fd is borrowed until egress_log_close(). The file is made with the first line. */
void egress_log_init(struct egress_log *l, int dir_fd);
void egress_log_close(struct egress_log *l);

/* All of the line or nothing: what cannot be written (a full disk) is counted as lost. */
void egress_log_put(struct egress_log *l, struct span line);
