#include "cli/code/code.h"

#include "base/fdio.h"
#include "work/gitconfig.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* Text that stays on its line; another is none. */
static void take(struct span value, char *ret, size_t size)
{
	if (value.len == 0 || value.len >= size)
		return;
	for (size_t i = 0; i < value.len; i++)
		if (value.at[i] < ' ' || value.at[i] == 0x7f)
			return;
	memcpy(ret, value.at, value.len);
	ret[value.len] = '\0';
}

/* What can be read up to the first mistake counts; what it includes is not looked for. */
static void read_text(struct span text, struct code_identity *ret)
{
	_own_free_ struct gitconfig_reader *r = malloc(sizeof(*r));
	struct gitconfig_item item;

	if (!r)
		return;
	gitconfig_begin(r, text);
	while (gitconfig_next(r, &item) == 0) {
		if (item.has_sub || !item.has_value || !span_is(item.section, "user"))
			continue;
		if (span_is(item.key, "name"))
			take(item.value, ret->name, sizeof(ret->name));
		else if (span_is(item.key, "email"))
			take(item.value, ret->email, sizeof(ret->email));
	}
}

static void read_one(const char *folder, const char *name, struct code_identity *ret)
{
	_own_free_ char *text = NULL;
	char path[PATH_MAX];
	size_t len = 0;
	int n = snprintf(path, sizeof(path), "%s/%s", folder, name);

	if (n > 0 && (size_t)n < sizeof(path) &&
	    fd_read_file(AT_FDCWD, path, GITCONFIG_FILE_MAX, &text, &len, NULL) == 0)
		read_text(span_of(text, len), ret);
}

/* As git has it: the second file's word is the later one. */
void code_git_identity(const struct cli *c, struct code_identity *ret)
{
	const char *home = cli_env(c, "HOME");
	const char *config = cli_env(c, "XDG_CONFIG_HOME");

	*ret = (struct code_identity){ .name = "" };
	if (config && config[0] == '/')
		read_one(config, "git/config", ret);
	else if (home && home[0] == '/')
		read_one(home, ".config/git/config", ret);
	if (home && home[0] == '/')
		read_one(home, ".gitconfig", ret);
}

static void put_value(struct buf *b, const char *key, const char *value)
{
	if (!*value)
		return;
	buf_printf(b, "\t%s = \"", key);
	for (; *value; value++) {
		if (*value == '"' || *value == '\\')
			buf_put_u8(b, '\\');
		buf_put_u8(b, (uint8_t)*value);
	}
	buf_put_str(b, "\"\n");
}

void code_put_identity(struct buf *b, const struct code_identity *id)
{
	if (!*id->name && !*id->email)
		return;
	buf_put_str(b, "[user]\n");
	put_value(b, "name", id->name);
	put_value(b, "email", id->email);
}
