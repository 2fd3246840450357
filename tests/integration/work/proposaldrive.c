/*
 * proposaldrive: runs the job over a spool, and prints what a proposal holds.
 *
 *     proposaldrive unpack BERM-UNPACK SPOOL BASE INDEX [TIMEOUT-MS]
 *     proposaldrive list INDEX SPOOL      one JSON object a line, paths in hex
 *     proposaldrive cat INDEX SPOOL PATH  a file's content
 *
 * Exit 1 with "ERRNO TEXT" on a failure.
 */
#include "base/buf.h"
#include "base/fdio.h"
#include "base/units.h"
#include "work/proposal_job.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { CHUNK_BYTES = 64 << 10 };

static int fail(const struct err *e)
{
	(void)fprintf(stderr, "%d %s\n", -e->code, e->text);
	return 1;
}

static void print_hex(const char *key, const uint8_t *at, size_t len)
{
	(void)printf(", \"%s\": \"", key);
	for (size_t i = 0; i < len; i++)
		(void)printf("%02x", at[i]);
	(void)printf("\"");
}

static void print_node(const struct proposal_node *n)
{
	(void)printf(
		"{\"kind\": %u, \"flags\": %u, \"why\": %u, \"mode\": %u, \"mtime_s\": %" PRId64
		", \"mtime_ns\": %u, \"size\": %" PRIu64 ", \"stored\": %" PRIu64
		", \"parent\": %u, \"end\": %u, \"extents\": %u",
		n->kind, n->flags, n->why, n->mode, n->mtime_s, n->mtime_ns, n->size,
		n->stored_bytes, n->parent, n->end, n->extent_count);
	print_hex("path", n->path.at, n->path.len);
	print_hex("target", n->target.at, n->target.len);
	print_hex("sha256", n->sha256, n->sha256 ? PROPOSAL_SHA256_BYTES : 0);
	(void)printf("}\n");
}

static int list(const struct proposal *p)
{
	struct proposal_totals t;

	proposal_totals(p, &t);
	for (uint32_t i = 0; i < t.entries; i++) {
		struct proposal_node n;

		proposal_node(p, i, &n);
		print_node(&n);
	}
	return 0;
}

static int cat(const struct proposal *p, const char *path, struct err *e)
{
	static uint8_t chunk[CHUNK_BYTES];
	struct proposal_node n;

	if (!proposal_find(p, span_str(path), &n))
		return err_set(e, -ENOENT, "there is no '%s'", path);
	for (uint64_t at = 0; at < n.size; at += CHUNK_BYTES) {
		size_t len = n.size - at < CHUNK_BYTES ? (size_t)(n.size - at) : CHUNK_BYTES;
		int r = proposal_read(p, &n, at, chunk, len, e);

		if (r < 0)
			return r;
		(void)fwrite(chunk, 1, len, stdout);
	}
	return 0;
}

static int ask(char **argv, const char *path, struct err *e)
{
	_own_(proposal_free) struct proposal *p = NULL;
	_own_fd_ int index_fd = -1;
	_own_fd_ int spool_fd = -1;
	int r = fd_open(argv[0], O_RDONLY, 0, &index_fd, e);

	if (r == 0)
		r = fd_open(argv[1], O_RDONLY, 0, &spool_fd, e);
	if (r == 0)
		r = proposal_open(index_fd, spool_fd, &p, e);
	if (r < 0)
		return r;
	return path ? cat(p, path, e) : list(p);
}

static int unpack(char **argv, const char *timeout, struct err *e)
{
	struct proposal_unpack u = { .unpack_path = argv[0] };
	_own_fd_ int spool_fd = -1;
	_own_fd_ int base_fd = -1;
	_own_fd_ int index_fd = -1;
	int r = fd_open(argv[1], O_RDONLY, 0, &spool_fd, e);

	if (r == 0)
		r = fd_open(argv[2], O_RDONLY, 0, &base_fd, e);
	if (r == 0)
		r = fd_open(argv[3], O_RDWR | O_CREAT | O_TRUNC, 0600, &index_fd, e);
	if (r == 0 && timeout)
		r = units_parse_count(timeout, 1, UINT32_MAX, &u.timeout_ms, e);
	if (r < 0)
		return r;
	u.spool_fd = spool_fd;
	u.base_fd = base_fd;
	u.index_fd = index_fd;
	return proposal_unpack(&u, e);
}

int main(int argc, char **argv)
{
	struct err e = { 0 };
	int r = err_set(&e, -EINVAL, "unpack, list or cat");

	if ((argc == 6 || argc == 7) && strcmp(argv[1], "unpack") == 0)
		r = unpack(argv + 2, argv[6], &e);
	else if (argc == 4 && strcmp(argv[1], "list") == 0)
		r = ask(argv + 2, NULL, &e);
	else if (argc == 5 && strcmp(argv[1], "cat") == 0)
		r = ask(argv + 2, argv[4], &e);
	return r < 0 ? fail(&e) : 0;
}
