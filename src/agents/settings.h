/*
 * settings: a settings file of an agent on the host, as the guest may have it.
 *
 * Owns      a settings_file owns its texts
 * Errors    -EINVAL "PATH:LINE: what", or "PATH: what"; -EFBIG, -ENOMEM
 */
#pragma once

#include "agents/settings_parse.h"
#include "base/err.h"

enum settings_format {
	SETTINGS_TEXT, /* goes as it is: instructions */
	SETTINGS_JSON,
	SETTINGS_JSONC,
	SETTINGS_TOML,
	SETTINGS_FOLDER, /* all regular files beneath it, as they are */
	SETTINGS_FORMATS,
};

/* "text", "json", ... */
const char *settings_format_word(enum settings_format f);

struct settings_file {
	char *text; /* for the guest; NUL-ended, which does not count */
	size_t len;
	char *removed; /* names of what was left out, a NUL behind each */
	size_t removed_len;
	unsigned removed_count; /* all of them, also those there was no room to name */
};

/* label is what errors call the file; keys, NULL-ended, are not asked for in SETTINGS_TEXT. */
_must_ int settings_filter(const char *label, enum settings_format f, struct span in,
                           const char *const *keys, struct settings_file **ret, struct err *e);
void settings_file_free(struct settings_file *f);
OWN_DEFINE(struct settings_file, settings_file_free)
