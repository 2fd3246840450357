/*
 * gitdrive: reads a guest's commits and brings them home, as the tests tell it.
 *
 *     gitdrive walk SPOOL BASE INDEX STREAM GIT_DIR          in this process; makes the index, too
 *     gitdrive unpack SPOOL BASE INDEX STREAM GIT_DIR PROGRAM   in the jailed job; likewise
 *     gitdrive show STREAM ROOT            one JSON object a line: branches, then commits
 *     gitdrive import STREAM ROOT SESSION
 *     gitdrive cat GIT_DIR                 objects of the ids on stdin, as git cat-file --batch
 *
 * ROOT is the working tree, or "-" for none. Exit 1 with "ERRNO TEXT" on a failure.
 */
#include "base/fdio.h"
#include "work/gitobj.h"
#include "work/gitobj_job.h"
#include "work/proposal_job.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { LINE_BYTES = 64 };

static int find_in_base(void *arg, struct span path, struct proposal_found *ret, struct err *e)
{
	struct base_node node;
	struct err why = { 0 };
	int r = base_lookup(arg, path, &node, &why);

	(void)e;
	*ret = (struct proposal_found){ 0 };
	if (r == 0)
		*ret = (struct proposal_found){ true, node.kind == WORK_DIR, node.nid };
	return 0;
}

struct files {
	int spool, base, index, stream;
};

static int open_files(char **argv, struct files *f, struct err *e)
{
	int r = fd_open(argv[0], O_RDONLY, 0, &f->spool, e);

	if (r == 0)
		r = fd_open(argv[1], O_RDONLY, 0, &f->base, e);
	if (r == 0)
		r = fd_open(argv[2], O_RDWR | O_CREAT | O_TRUNC, 0600, &f->index, e);
	if (r == 0)
		r = fd_open(argv[3], O_RDWR | O_CREAT | O_TRUNC, 0600, &f->stream, e);
	return r;
}

static int walk(char **argv, const char *program, struct err *e)
{
	_own_(proposal_free) struct proposal *proposal = NULL;
	_own_(base_free) struct base *base = NULL;
	struct proposal_base ask = { .find = find_in_base };
	struct gitobj_walk_totals t = { 0 };
	struct files f;
	int r = open_files(argv, &f, e);

	if (r == 0)
		r = base_open(f.base, -1, &base, e);
	ask.arg = base;
	if (r == 0)
		r = proposal_job_run(f.spool, &ask, f.index, e);
	if (r == 0 && program) {
		struct gitobj_unpack u = {
			program, f.spool, f.base, f.index, f.stream, argv[4], 0
		};

		return gitobj_unpack(&u, e);
	}
	if (r == 0)
		r = proposal_open(f.index, f.spool, &proposal, e);
	if (r == 0)
		r = gitobj_walk_run(base, proposal, span_str(argv[4]), f.stream, &t, e);
	if (r == 0)
		(void)printf("{\"objects\": %u, \"refs\": %u, \"refused\": %u}\n", t.objects,
		             t.refs, t.refused);
	return r;
}

/* -- what came back */

static void print_text(const char *key, struct span s)
{
	char room[4096];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	buf_put_json_str(&b, s);
	(void)printf("\"%s\": %s", key, buf_cstr(&b));
}

static void print_id(const char *key, const struct gitobj_id *id)
{
	char room[GITOBJ_HEX_BYTES + 1];
	struct buf b;

	buf_init(&b, room, sizeof(room));
	gitobj_put_hex(&b, id);
	print_text(key, buf_span(&b));
}

static int print_commit(void *arg, const struct gitobj_id *id, const struct gitobj_commit *c,
                        struct err *e)
{
	(void)arg;
	(void)e;
	(void)printf("{\"parents\": %u, ", c->parent_count);
	print_id("commit", id);
	(void)printf(", ");
	print_text("author", c->author);
	(void)printf(", ");
	print_text("message", c->message);
	(void)printf("}\n");
	return 0;
}

struct opened {
	int stream, root, repo;
	struct gitobj *g;
};

static int open_stream(const char *stream, const char *root, struct opened *o, struct err *e)
{
	int r = fd_open(stream, O_RDONLY, 0, &o->stream, e);

	o->repo = -1;
	if (r == 0 && strcmp(root, "-") != 0) {
		r = fd_open(root, O_RDONLY | O_DIRECTORY, 0, &o->root, e);
		if (r == 0)
			r = gitobj_repository(o->root, &o->repo, e);
	}
	return r == 0 ? gitobj_open(o->stream, o->repo, &o->g, e) : r;
}

static int show(struct opened *o, struct err *e)
{
	struct gitobj_totals t;

	gitobj_totals(o->g, &t);
	for (uint32_t i = 0; i < t.refs + t.refused; i++) {
		struct gitobj_branch b;

		gitobj_branch(o->g, i, &b);
		(void)printf("{\"refused\": %s, ", b.refused ? "true" : "false");
		print_text("branch", b.name);
		(void)printf(", ");
		print_text("reason", b.reason);
		(void)printf(", ");
		print_id("id", &b.id);
		(void)printf("}\n");
	}
	return gitobj_commits(o->g, print_commit, NULL, e);
}

/* -- objects of a repository on the host */

static int cat_one(struct gitobj_store *s, struct span line, struct err *e)
{
	struct gitobj_object o;
	enum gitobj_type type;
	struct gitobj_id id;
	int r = gitobj_parse_hex(line, &id);

	if (r == 0)
		r = gitobj_store_type(s, &id, &type, e);
	if (r == 0)
		r = gitobj_store_read(s, &id, &o, e);
	if (r == -ENOENT)
		return err_set(e, r, "%.*s is missing", (int)line.len, (const char *)line.at);
	if (r < 0)
		return r;
	if (o.type != type)
		return err_set(e, -EIO, "two answers for a type");
	(void)printf("%.*s %s %zu\n", (int)line.len, (const char *)line.at,
	             gitobj_type_name(o.type), o.len);
	(void)fwrite(o.data, 1, o.len, stdout);
	(void)putchar('\n');
	free(o.data);
	return 0;
}

static int cat(const char *git_dir, struct err *e)
{
	_own_(gitobj_store_free) struct gitobj_store *s = NULL;
	struct gitobj_budget budget = { GITOBJ_INFLATED_BYTES_MAX };
	struct gitobj_place place = { .host_fd = -1 };
	char line[LINE_BYTES];
	int r = fd_open(git_dir, O_RDONLY | O_DIRECTORY, 0, &place.host_fd, e);

	if (r == 0)
		r = gitobj_store_open(&place, &budget, &s, e);
	while (r == 0 && fgets(line, sizeof(line), stdin))
		r = cat_one(s, span_of(line, strcspn(line, "\n")), e);
	return r;
}

static int dispatch(int argc, char **argv, struct err *e)
{
	struct opened o = { -1, -1, -1, NULL };
	const char *what = argc > 1 ? argv[1] : "";
	int r = -EINVAL;

	if (strcmp(what, "walk") == 0 && argc == 7)
		return walk(argv + 2, NULL, e);
	if (strcmp(what, "unpack") == 0 && argc == 8)
		return walk(argv + 2, argv[7], e);
	if (strcmp(what, "cat") == 0 && argc == 3)
		return cat(argv[2], e);
	if (strcmp(what, "show") == 0 && argc == 4) {
		r = open_stream(argv[2], argv[3], &o, e);
		r = r == 0 ? show(&o, e) : r;
	} else if (strcmp(what, "import") == 0 && argc == 5) {
		r = open_stream(argv[2], argv[3], &o, e);
		r = r == 0 ? gitobj_import(o.g, argv[4], e) : r;
	} else {
		(void)err_set(e, -EINVAL, "see the head of gitdrive.c");
	}
	gitobj_free(o.g);
	own_close_fd(&o.stream);
	own_close_fd(&o.root);
	own_close_fd(&o.repo);
	return r;
}

int main(int argc, char **argv)
{
	struct err e = { 0 };

	if (dispatch(argc, argv, &e) >= 0)
		return 0;
	(void)fprintf(stderr, "%d %s\n", -e.code, e.text);
	return 1;
}
