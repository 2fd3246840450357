/*
 * comparedrive: what comparing base, proposal and host comes to.
 *
 *     comparedrive BASE-DIR INDEX SPOOL HOST [HIDDEN-PATH]
 *
 * BASE-DIR is basetool's. Prints one JSON object a change, in order. Exit 1 with a line on a
 * failure.
 */
#include "base/buf.h"
#include "base/fdio.h"
#include "work/compare.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static bool is_hidden(void *arg, struct span path)
{
	return arg != NULL && span_is(path, arg);
}

static void put_path(const char *key, struct span path)
{
	char text[6 * WPATH_MAX + 3];
	struct buf b;

	buf_init(&b, text, sizeof(text));
	buf_put_json_str(&b, path);
	(void)printf("\"%s\": %s, ", key, buf_cstr(&b));
}

static void put_side(const char *key, const struct change_side *s)
{
	if (s->exists)
		(void)printf("\"%s\": [%u, %u], ", key, s->kind, s->mode);
	else
		(void)printf("\"%s\": null, ", key);
}

static void print(const struct change *c)
{
	(void)printf("{");
	put_path("path", c->path);
	put_path("from", c->from);
	put_path("hint", c->hint);
	put_side("base", &c->base);
	put_side("host", &c->host);
	put_side("guest", &c->guest);
	(void)printf("\"op\": %u, \"state\": %u, \"why\": %u, \"proposal_why\": %u, \"flags\": %u, "
	             "\"mode\": %u}\n",
	             c->op, c->state, c->why, c->proposal_why, c->flags, c->result_mode);
}

static int open_at(const char *dir, const char *name, int flags, int *ret, struct err *e)
{
	char path[1024];

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	return fd_open(path, flags, 0, ret, e);
}

static int run(char **argv, const char *hidden, struct err *e)
{
	_own_fd_ int image = -1, manifest = -1, index = -1, spool = -1, root = -1;
	_own_(base_free) struct base *base = NULL;
	_own_(proposal_free) struct proposal *proposal = NULL;
	_own_(compare_free) struct compare *c = NULL;
	struct compare_options opt = { .hidden = is_hidden };
	int r = open_at(argv[1], "base.erofs", O_RDONLY, &image, e);

	if (r == 0)
		r = open_at(argv[1], "base.manifest", O_RDONLY, &manifest, e);
	if (r == 0)
		r = fd_open(argv[2], O_RDONLY, 0, &index, e);
	if (r == 0)
		r = fd_open(argv[3], O_RDONLY, 0, &spool, e);
	if (r == 0)
		r = fd_open(argv[4], O_RDONLY | O_DIRECTORY, 0, &root, e);
	if (r == 0)
		r = base_open(image, manifest, &base, e);
	if (r == 0)
		r = proposal_open(index, spool, &proposal, e);
	if (r < 0)
		return r;
	opt.base = base;
	opt.proposal = proposal;
	opt.root_fd = root;
	opt.hidden_arg = (void *)(uintptr_t)hidden;
	r = compare_run(&opt, &c, e);
	for (size_t i = 0; r == 0 && i < compare_count(c); i++)
		print(compare_at(c, i));
	return r;
}

int main(int argc, char **argv)
{
	struct err e = { 0 };

	if (argc < 5 || argc > 6)
		return 2;
	if (run(argv, argc == 6 ? argv[5] : NULL, &e) == 0)
		return 0;
	(void)fprintf(stderr, "%s\n", e.text);
	return 1;
}
