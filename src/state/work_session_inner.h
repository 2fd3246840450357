/*
 * work_session_inner: what the files of work_session share.
 *
 * work_session.c        one session: its words, its lock, its machines, its base on the disk
 * work_session_list.c   all of them: what is listed, what was nobody's, which bases are kept
 */
#pragma once

#include "state/state_internal.h"
#include "state/work_session.h"

/* The folder of all sessions, made on first use. */
_must_ int session_open_folder(int state_fd, int *ret_fd, struct err *e);

/* The same, to be read; NULL with e. The caller closes it. */
DIR *session_open_stream(int state_fd, struct err *e);

/* work_session_open() beneath that folder. */
_must_ int session_open_in(int folder_fd, const char *id, struct work_session *ret, struct err *e);

/* Also one that is damaged: then ret has where it is, its id, and why. */
_must_ int session_open_any(int folder_fd, const char *id, struct work_session *ret, struct err *e);

/* Does nobody hold the lock of the session in this directory? */
bool session_lock_is_free(int dir_fd);
