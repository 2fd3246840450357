#include "work/gitdir.h"

#include <string.h>

static const struct setting {
	const char *section, *key, *value;
} settings[] = {
	/* a packed tree has its files' times and sizes, and other inodes, owners and change times
	 */
	{ "core", "trustctime", "false" },
	{ "core", "checkStat", "minimal" },
	/* its cache is bound to the host's name and path, and git warns about it each time */
	{ "core", "untrackedCache", "false" },
	/* a repack would carry the whole history into the proposal */
	{ "gc", "auto", "0" },
	{ "maintenance", "auto", "false" },
	/* worktrees elsewhere on the host are not gone */
	{ "gc", "worktreePruneExpire", "never" },
	/* whoever runs git in the guest; the guest itself is the boundary */
	{ "safe", "directory", "*" },
};

enum { SETTINGS = sizeof(settings) / sizeof(settings[0]) };

void gitdir_put_guest_config(struct buf *out)
{
	buf_put_str(out, "# for a workspace that was packed: see berm-code(1)\n");
	for (size_t i = 0; i < SETTINGS; i++) {
		if (i == 0 || strcmp(settings[i].section, settings[i - 1].section) != 0)
			buf_printf(out, "[%s]\n", settings[i].section);
		buf_printf(out, "\t%s = %s\n", settings[i].key, settings[i].value);
	}
}

void gitdir_put_guest_env(struct buf *out)
{
	buf_printf(out, "GIT_CONFIG_COUNT=%d", (int)SETTINGS);
	buf_put_u8(out, 0);
	for (size_t i = 0; i < SETTINGS; i++) {
		buf_printf(out, "GIT_CONFIG_KEY_%zu=%s.%s", i, settings[i].section,
		           settings[i].key);
		buf_put_u8(out, 0);
		buf_printf(out, "GIT_CONFIG_VALUE_%zu=%s", i, settings[i].value);
		buf_put_u8(out, 0);
	}
}
