/*
 * slots: things by a small number, for the `user` of an egress_stream. 0 is never given out.
 */
#pragma once

#include "base/own.h"

#include <stdbool.h>
#include <stdint.h>

struct slots {
	void **at; /* those in use, and between them NULL */
	uint32_t size, count, max;
	uint32_t hint; /* everything below is in use */
};

void slots_init(struct slots *s, uint32_t max);
void slots_fini(struct slots *s); /* the things are the caller's */

/* -ENFILE: max are in use; -ENOMEM. */
_must_ int slots_add(struct slots *s, void *thing, uint32_t *ret_number);
void *slots_find(const struct slots *s, uint32_t number); /* NULL: none of that number */
void slots_remove(struct slots *s, uint32_t number);

/* The next one from *number on, which is moved behind it; begin with 1. NULL: no more. */
void *slots_next(const struct slots *s, uint32_t *number);
