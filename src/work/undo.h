/*
 * undo: takes an apply back.
 *
 * What an apply displaced lies in the session's undo/<generation>/, beside the journal that says
 * where it was. Undo makes a plan of both, the other way round, and applies it. So it is as atomic
 * as an apply, and a path that was edited since returns to its user instead of being overwritten.
 *
 * Trusts    the session directory
 */
#pragma once

#include "work/apply.h"

enum { UNDO_GENERATIONS_MAX = 9999 };

/* The newest generation that can be undone; 0: none. */
_must_ int undo_last(int session_fd, uint32_t *ret_generation, struct err *e);

/*
 * Undoes generation (0: the newest). APPLY_ALL: one path edited since, and nothing is changed. With
 * APPLY_REST the generation stays, for the paths that were left out. -ENOENT: there is none.
 */
_must_ int undo_run(const struct apply_on *on, uint32_t generation, enum apply_mode mode,
                    struct apply_result *ret, struct err *e);
