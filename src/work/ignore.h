/*
 * ignore: patterns that name files, with the meaning of gitignore(5).
 *
 * Hostile   the patterns and the paths: a workspace brings both
 * Shape     a line is a rule, blank, or a comment. "!" in front takes a path back in; "/" at the
 *           end means directories alone; "/" elsewhere ties the pattern to the directory of its
 *           file, else it is held against the last part of a path, at any depth. "*" and "?" stay
 *           within a part, "**" alone between slashes stands for any number of parts; "[a-z]",
 *           "[!a]", "[[:alpha:]]" are one byte; "\" makes the next byte plain. Bytes are compared
 *           as they are: no case is folded, no encoding assumed
 * Order     the last rule that matches decides, and a file nearer to the path beats one further
 *           up. What lies below an excluded directory cannot be taken back in: whoever walks a tree
 *           does not go there, so it is not asked
 * Cost      a match takes at most pattern times path steps, times the path's depth with "**": there
 *           is no recursion and no pattern that explodes
 */
#pragma once

#include "base/err.h"
#include "base/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	IGNORE_PATTERN_MAX = 4096,
	IGNORE_FILE_MAX = 1 << 20, /* bytes of one file of patterns */
	IGNORE_RULES_MAX = 1 << 16 /* of one set */
};

/* Most patterns are one of the simple shapes, which are answered by one comparison. */
enum ignore_shape {
	IGNORE_GLOB = 0,
	IGNORE_LITERAL,
	IGNORE_SUFFIX, /* "*.o": a star, then plain bytes */
	IGNORE_PREFIX, /* ".env.*": plain bytes, then a star */
};

/* One line that says something. */
struct ignore_rule {
	struct span pattern; /* without the signs below; borrowed from the line */
	bool negated;
	bool dir_only;
	bool anchored; /* held against the whole path, not the last part alone */
	enum ignore_shape shape;
};

/*
 * Pure. `line` is without its newline; a "\r" at the end goes. 0; -ENODATA for a blank line or a
 * comment; -E2BIG over IGNORE_PATTERN_MAX.
 */
_must_ int ignore_parse_line(struct span line, struct ignore_rule *ret);

/*
 * Pure. `path` is canonical (work/path.h), relative to the rule's directory, and not empty; `last`
 * is its last part.
 */
bool ignore_match(const struct ignore_rule *r, struct span path, struct span last, bool is_dir);

/*
 * Pure. The byte that what the rule matches begins with (the last part of its path, for one that is
 * not anchored), or ends with. False: it leaves that open.
 */
bool ignore_first_byte(const struct ignore_rule *r, uint8_t *ret);
bool ignore_last_byte(const struct ignore_rule *r, uint8_t *ret);

/*
 * Pure. Is `path` on the way to what the rule names: if a directory stood there, could the rule
 * match something in it that it names?
 */
bool ignore_leads(const struct ignore_rule *r, struct span path);

/* What a set answers. */
enum ignore_verdict {
	IGNORE_NOTHING_SAID = 0,
	IGNORE_EXCLUDED,
	IGNORE_TAKEN_BACK, /* a negated rule matched last */
};

/* The rules of several files, each tied to a directory. */
struct ignore_set;

struct ignore_hit {
	enum ignore_verdict verdict;
	const char *source; /* as given to ignore_add(); borrowed from the set */
	unsigned line;      /* 1 is the first */
	struct span pattern;
};

_must_ int ignore_set_new(struct ignore_set **ret, struct err *e);
void ignore_set_free(struct ignore_set *s);
OWN_DEFINE(struct ignore_set, ignore_set_free)

/*
 * Adds a file's rules, which stand at directory `dir` ("" is the root). text and both strings are
 * copied. Later additions beat earlier ones, so a walk adds a directory before those below it. A
 * line that is too long is left out and counted in ret_refused (may be NULL). -E2BIG for too much
 * text or too many rules.
 */
_must_ int ignore_add(struct ignore_set *s, struct span dir, const char *source, struct span text,
                      unsigned *ret_refused, struct err *e);

/* The same with a text whose first line is `line` of its source. */
_must_ int ignore_add_at(struct ignore_set *s, struct span dir, const char *source, unsigned line,
                         struct span text, unsigned *ret_refused, struct err *e);

/* Takes off the rules of every directory that is not `dir` itself or above it: for a walk. */
void ignore_leave(struct ignore_set *s, struct span dir);

size_t ignore_count(const struct ignore_set *s);

/* Asks all rules whose directory is above `path`: the last that matches decides. path is not "". */
struct ignore_hit ignore_ask(const struct ignore_set *s, struct span path, bool is_dir);

/* Does any rule that takes nothing back lead through `path`? */
bool ignore_any_leads(const struct ignore_set *s, struct span path);
