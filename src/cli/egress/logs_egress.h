/*
 * logs_egress: the record of a sandbox's network (lib/egress_log.h), for people or as it is.
 *
 * Hostile   its texts are a guest's and upstreams' words: they are escaped
 */
#pragma once

#include "cli/cli.h"

struct logs_egress {
	bool denied;       /* only what was refused, violations, and what is missing */
	bool follow;       /* go on until the sandbox ends */
	uint64_t tail;     /* only the last so many lines; UINT64_MAX: all */
	uint64_t since_ms; /* only what came then or later */
};

/* -EPIPE: the reader has had enough. -ENODEV: it has no network. */
_must_ int logs_egress_show(const struct logs_egress *l, struct cli *c, const char *ref,
                            struct err *e);

/*
 * One record, as berm writes it, in a line for a person without its end. colour: what became of it
 * is coloured, for a terminal. False: it is no record.
 * Pure but for what reading JSON allocates.
 */
_must_ bool logs_egress_put(struct buf *b, struct span line, bool colour);
