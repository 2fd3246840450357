/*
 * gitconfig: a repository's configuration, read strictly, and written anew with what may enter a
 * guest.
 *
 * Hostile   the file: a workspace may have come from anywhere, and a guest may have written it
 * Shape     git-config(1), "Syntax": sections, subsections, "key = value" with quotes, escapes and
 *           lines that go on behind a backslash
 * Why       a configuration can name programs (core.fsmonitor, filter.*.clean, ...), other files
 *           (include.path) and hold credentials (a URL's user and password). What is kept is a list
 *           of keys that do none of that. Nothing of the file is copied as it stands: items are
 *           parsed and written in one canonical form, so that no quirk of the syntax can carry a
 *           line past the list
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	GITCONFIG_FILE_MAX = 1 << 20,
	GITCONFIG_NAME_MAX = 128,  /* a section, a key */
	GITCONFIG_SUB_MAX = 1024,  /* a subsection: branch names are long */
	GITCONFIG_VALUE_MAX = 8192 /* a value, escapes taken off */
};

/* One "key = value" and where it stands. Texts lie in the reader. */
struct gitconfig_item {
	struct span section; /* lower case */
	struct span sub;     /* as written; has_sub tells an empty one from none */
	struct span key;     /* lower case */
	struct span value;   /* without quotes and escapes; has_value is false for "key" alone */
	bool has_sub, has_value;
	unsigned line; /* where it begins; 1 is the first */
};

/* Where a reader stands. Init with gitconfig_begin(). */
struct gitconfig_reader {
	struct span in;
	unsigned line;
	bool in_section, has_sub;
	uint16_t section_len, sub_len, key_len, value_len;
	char section[GITCONFIG_NAME_MAX];
	char sub[GITCONFIG_SUB_MAX];
	char key[GITCONFIG_NAME_MAX];
	char value[GITCONFIG_VALUE_MAX];
};

void gitconfig_begin(struct gitconfig_reader *r, struct span text);

/*
 * Pure. 0 and the next item, valid until the next call; -ENODATA at the end; -EBADMSG for what git
 * would not read either; -E2BIG beyond a limit above. After an error r->line is the line it is in.
 */
_must_ int gitconfig_next(struct gitconfig_reader *r, struct gitconfig_item *ret);

/* Why an item does not enter. */
enum gitconfig_why {
	GITCONFIG_KEPT = 0,
	GITCONFIG_CHANGED,  /* kept, without the user and password of its URL */
	GITCONFIG_UNLISTED, /* not among the keys that do no harm */
	GITCONFIG_URL,      /* a URL that names a program, or none that can be read */
	GITCONFIG_OUTSIDE,  /* a path that leaves the workspace */
};

const char *gitconfig_why_text(enum gitconfig_why why);

/* Is told each item that is not kept as it is. */
typedef void gitconfig_dropped_fn(void *arg, const struct gitconfig_item *item,
                                  enum gitconfig_why why);

/*
 * Writes what may enter of `text` to out. depth is the number of directories between the root of
 * the workspace and the directory the file is in: a core.worktree may go up so far. dropped may be
 * NULL.
 * -EBADMSG, -E2BIG with the line in e: nothing was written, and the file may not enter at all.
 */
_must_ int gitconfig_clean(struct span text, unsigned depth, struct buf *out,
                           gitconfig_dropped_fn *dropped, void *arg, struct err *e);
