/*
 * store: the values of one sandbox's secrets, and the placeholders that stand for them.
 *
 * Owns      one stretch of locked memory: memfd_secret(2) where the kernel has it, which not even
 *           the kernel maps; else mmap and mlock. Left out of core files, not inherited by a fork,
 *           wiped before it is given back. All memory is taken by store_new(): afterwards the store
 *           makes no system call but read(2) in store_read(), and those of store_export()
 * Hostile   nobody: names and values are the user's own. What a value may not be is refused
 *           because it would break requests or replies
 * Errors    texts name the secret and never show a value
 * Rotation  a value that was replaced or removed is still taken out of the replies that were under
 *           way then, and wiped when the last of their scrubs ends. A name keeps its placeholder
 *           for the life of the store, removed or not: running commands have it in their
 *           environment. A removed secret's placeholder is refused everywhere
 */
#pragma once

#include "base/err.h"
#include "base/span.h"
#include "policy/limits.h"

enum {
	STORE_SECRETS_MAX = POLICY_SECRETS_MAX, /* names, those of removed secrets included */
	STORE_VALUE_MAX = 16384,                /* bytes; a long JWT has 4000 */
	/*
	 * Shorter values stand in replies by chance, and scrubbing them would damage those; nor is
	 * a value of 7 bytes hard to guess. Refused.
	 */
	STORE_VALUE_MIN = 8,
	STORE_RETIRED_MAX = 64, /* old values still scrubbed for; beyond it the oldest is wiped */
	/* of a placeholder: it travels in a control packet, and in an environment */
	STORE_PLACEHOLDER_MAX = 2048,
};

struct store;

/* -ENOMEM, or -EPERM: the limit of locked memory (RLIMIT_MEMLOCK) is too low. */
_must_ int store_new(struct store **ret, struct err *e);
void store_free(struct store *s); /* no scan and no scrub of it may live */
OWN_DEFINE(struct store, store_free)

/* "memfd_secret" or "mlock": which of them holds the values. */
const char *store_kind(const struct store *s);

/*
 * Sets or replaces a secret; the value is copied, and wiping the argument is the caller's.
 * name     as in the policy: letters, digits, '_'; at most POLICY_SECRET_NAME_MAX
 * Returns  0, -EINVAL (empty, CR, LF, NUL or another control byte but TAB, blanks around it,
 *          a placeholder in it, or it is in the text around placeholders), -ERANGE (under
 *          STORE_VALUE_MIN or over STORE_VALUE_MAX), -ENOSPC. After an error all is as it was
 */
_must_ int store_set(struct store *s, struct span name, struct span value, struct err *e);

/*
 * The same with what fd holds up to its end, read straight into locked memory: a memfd from its
 * offset on, or a pipe whose writer is done. fd stays the caller's. -EIO or what read(2) said, too.
 */
_must_ int store_read(struct store *s, struct span name, int fd, struct err *e);

/* The next request with it fails. -ENOENT: there is no such secret, or not any more. */
_must_ int store_remove(struct store *s, struct span name);

/* Secrets with a value. 0: nothing to swap, to scan for or to scrub. */
unsigned store_count(const struct store *s);

/* Good until the store changes; empty if there is no such name. */
struct span store_placeholder(const struct store *s, struct span name);

/*
 * For the vault of a copy: the next secret that has a value, from number *at on, which is moved
 * behind it; begin with 0. *ret_fd: a sealed memory file with the value, the caller's to give away
 * at once. -ENOENT: no more; or what memfd_create(2) or write(2) said.
 */
_must_ int store_export(const struct store *s, unsigned *at, struct span *ret_name, int *ret_fd,
                        struct err *e);
