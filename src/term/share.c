#include "term/share.h"
#include "base/fdio.h"
#include "base/log.h"

#include <errno.h>
#include <string.h>

int cli_paths(struct cli *c, struct err *e)
{
	int r;

	if (c->have_paths)
		return 0;
	r = paths_find(&c->paths, e);
	c->have_paths = r == 0;
	return r;
}

int cli_state(struct cli *c, struct err *e)
{
	int r;

	if (c->state_fd >= 0)
		return 0;
	r = cli_paths(c, e);
	if (r < 0)
		return r;
	return paths_open_state(&c->paths, &c->state_fd, e);
}

int cli_fail(const struct err *e)
{
	log_error("%s", e->text);
	return CLI_EXIT_ERROR;
}

const char *cli_env(const struct cli *c, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; c->envp[i]; i++)
		if (strncmp(c->envp[i], name, len) == 0 && c->envp[i][len] == '=')
			return c->envp[i] + len + 1;
	return NULL;
}

bool cli_colour(const struct cli *c)
{
	const char *no = cli_env(c, "NO_COLOR");

	return cli_redraws(c, c->out_tty) && (!no || !*no);
}

bool cli_redraws(const struct cli *c, bool tty)
{
	const char *term = cli_env(c, "TERM");

	return tty && term && *term && strcmp(term, "dumb") != 0;
}

int cli_out(const void *data, size_t len, struct err *e)
{
	int r = fd_write_all(STDOUT_FILENO, data, len, e);

	return r == -EPIPE ? 0 : r;
}

void cli_put_text(FILE *f, const char *text)
{
	char storage[ERR_TEXT_MAX * 4]; /* every byte as \xNN */
	struct buf b;

	buf_init(&b, storage, sizeof(storage));
	buf_put_escaped(&b, span_of(text, strnlen(text, ERR_TEXT_MAX)));
	(void)fwrite(b.at, 1, b.len, f);
}

void cli_put_age(struct buf *b, uint64_t then_ns, uint64_t now_ns)
{
	uint64_t s = now_ns > then_ns ? (now_ns - then_ns) / 1000000000 : 0;

	if (s < 60)
		buf_printf(b, "%llu s", (unsigned long long)s);
	else if (s < 3600)
		buf_printf(b, "%llu min", (unsigned long long)s / 60);
	else if (s < 48 * 3600ULL)
		buf_printf(b, "%llu h", (unsigned long long)s / 3600);
	else
		buf_printf(b, "%llu d", (unsigned long long)s / 86400);
}
