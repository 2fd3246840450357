/*
 * hunk_job: one jailed run that compares two texts, and how it is started.
 *
 * Hostile   to the job both texts; to who started it also the answer, which hunk_parse() judges
 * Source    libgit2, git_patch_from_buffers(): no repository is opened, no file, no configuration
 * Limits    those of hunk.h; HUNK_JOB_MEMORY_MAX, HUNK_JOB_CPU_S_MAX
 */
#pragma once

#include "work/hunk.h"

/* The fds that berm-diff is started with. */
enum {
	HUNK_FD_OLD = 3, /* the texts, open for reading, from their start */
	HUNK_FD_NEW = 4,
	HUNK_FD_ANSWER = 5, /* an empty file: the answer, if it ends with 0 */
	HUNK_FD_REPORT = 6, /* workjob.h */
	HUNK_FD_COUNT = 7,
};

enum {
	HUNK_JOB_CPU_S_MAX = 20, /* of texts made to be slow; an honest 32 MiB take one */
	HUNK_JOB_WAIT_MS = 60000,
};

#define HUNK_JOB_MEMORY_MAX (UINT64_C(768) << 20)

/* Compares. ret_hunks has room for HUNK_COUNT_MAX. -E2BIG for more; -EIO what the library says. */
_must_ int hunk_git(struct span old, struct span new, struct hunk *ret_hunks, uint32_t *ret_count,
                    struct err *e);

/*
 * Runs berm-diff over two texts and reads its answer. diff_path is absolute. -E2BIG: too large to
 * be compared, or too different; -ETIMEDOUT: too slow; -ECANCELED: it crashed. None of them is
 * trouble of the session's: the two are shown whole, or in summary.
 */
_must_ int hunk_compare(const char *diff_path, const struct hunk_text *old,
                        const struct hunk_text *new, struct hunks **ret, struct err *e);
