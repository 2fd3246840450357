/*
 * settings_parse: what of an agent's settings file may be shown to a guest.
 *
 * The file is the user's own; where it ends up is hostile. So the readers keep what a list names
 * and leave the rest behind, and what they do not understand they refuse: a part that was misread
 * could be the part with the key in it. Pure: no allocation, no I/O.
 *
 * Hostile   nothing, but a file that another program wrote may be wrong in any way
 * Errors    -EBADMSG: not of the format, or of a part of it that is not read; -EMSGSIZE: out is
 *           full
 * Source    RFC 8259 (JSON); TOML 1.0.0 (toml.io); ADR 0009 has what of TOML is not read
 */
#pragma once

#include "base/buf.h"
#include "base/span.h"

enum {
	SETTINGS_FILE_MAX = 1 << 20, /* bytes of one file; people write them by hand */
	SETTINGS_OUT_MAX = 2 << 20,  /* of what is left of it: written anew, with blanks */
	SETTINGS_REMOVED_MAX =
		16 << 10,        /* of the names of what was left out; more is only counted */
	SETTINGS_DEPTH_MAX = 32, /* of arrays and objects in each other */
	SETTINGS_PARTS_MAX = 16, /* of a TOML key: a.b.c */
	SETTINGS_KEY_MAX = 128,  /* bytes of one key in TOML */
};

/* What a filter writes. removed: each key's path, "a.b", a NUL behind it. */
struct settings_out {
	struct buf text;
	struct buf removed;
	unsigned removed_count;
};

/* Does a key of that name usually hold a credential: "apiKey", "auth_token"? */
bool settings_parse_secret_key(struct span key);

/* Does a text look like one: a prefix that vendors give their keys, a PEM header? */
bool settings_parse_secret_value(struct span text);

/*
 * Is a file of that path beneath a home directory one that usually holds a credential, by its own
 * name (.env, *.pem) or by a folder it is in (.ssh, .config/gh)? What the folder is itself counts.
 */
bool settings_parse_secret_path(struct span path);

/*
 * JSON with comments as plain JSON of the same length: // and block comments become blanks, as
 * does a comma in front of a closing bracket. Without `comments` both are -EBADMSG. Brackets
 * match, strings end, nothing nests deeper than SETTINGS_DEPTH_MAX; the rest is a JSON reader's
 * to judge.
 */
_must_ int settings_jsonc_parse(struct span in, bool comments, struct buf *out);

/*
 * The top-level keys and tables of a TOML file that `keys` (NULL-ended) names, without comments,
 * and without what looks like a credential at any depth.
 */
_must_ int settings_toml_parse(struct span in, const char *const *keys, struct settings_out *out,
                               unsigned *ret_line);
