/*
 * proposal_run: the job over a stream in this process, against a base that is a list of names; and
 * the index it makes, opened.
 */
#pragma once

#include "proposal_stream.h"
#include "test.h"
#include "work/proposal_job.h"

#include <errno.h>
#include <sys/mman.h>

struct result {
	int spool_fd, index_fd;
	struct err e;
};

/* What the base has; a name that ends in '/' is a directory. */
static const char *const base_names[] = { "",         "a",         "dir/",       "dir/file",
	                                  "dir/sub/", "dir/sub/x", "link",       "old/",
	                                  "old/one",  ".git/",     ".git/config" };

static inline int fake_find(void *arg, struct span path, struct proposal_found *ret, struct err *e)
{
	(void)arg;
	(void)e;
	*ret = (struct proposal_found){ 0 };
	for (size_t i = 0; i < sizeof(base_names) / sizeof(base_names[0]); i++) {
		struct span name = span_str(base_names[i]);
		bool dir = name.len > 0 && name.at[name.len - 1] == '/';

		if (dir)
			name.len--;
		if (!span_equal(name, path))
			continue;
		*ret = (struct proposal_found){ .there = true, .dir = dir || i == 0, .id = i };
		return 0;
	}
	return 0;
}

static inline int memory_file(struct span content)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	CHECK(fd >= 0);
	CHECK_EQ(pwrite(fd, content.at, content.len, 0), (ssize_t)content.len);
	return fd;
}

static inline int run_span(struct span bytes, struct result *ret)
{
	const struct proposal_base base = { .find = fake_find };

	*ret = (struct result){ .spool_fd = memory_file(bytes),
		                .index_fd = memory_file(span_of("", 0)) };
	return proposal_job_run(ret->spool_fd, &base, ret->index_fd, &ret->e);
}

static inline void close_result(struct result *r)
{
	(void)close(r->spool_fd);
	(void)close(r->index_fd);
}

/* The bytes are refused for that reason, and leave no index. Frees the stream. */
static inline void refused_for(struct span bytes, enum proposal_bad bad)
{
	struct proposal *p = NULL;
	struct result r;
	int got = run_span(bytes, &r);

	if (got >= 0 || !strstr(r.e.text, proposal_bad_text(bad)))
		test_fail(__FILE__, __LINE__, "got %d '%s', wanted '%s'", got, r.e.text,
		          proposal_bad_text(bad));
	CHECK_EQ(got, bad == PROPOSAL_BAD_ENTRIES ? -E2BIG : -EBADMSG);
	CHECK_EQ(proposal_open(r.index_fd, r.spool_fd, &p, NULL), -EBADMSG);
	CHECK(!p);
	close_result(&r);
}

/* The stream, not yet ended, is refused once it is. Frees it. */
static inline void refused(struct stream *s, enum proposal_bad bad)
{
	stream_end(s);
	CHECK(buf_ok(&s->out));
	refused_for(buf_span(&s->out), bad);
	free(s);
}

/* The stream, not yet ended, is taken, and here is what is read of it. Frees it. */
static inline struct proposal *taken(struct stream *s)
{
	struct proposal *p = NULL;
	struct result r;

	stream_end(s);
	CHECK(buf_ok(&s->out));
	CHECK_OK(run_span(buf_span(&s->out), &r), &r.e);
	CHECK_OK(proposal_open(r.index_fd, r.spool_fd, &p, &r.e), &r.e);
	close_result(&r);
	free(s);
	return p;
}

static inline struct proposal_node node_at(const struct proposal *p, const char *path)
{
	struct proposal_node n = { 0 };

	if (!proposal_find(p, span_str(path), &n))
		test_fail(__FILE__, __LINE__, "'%s' is not in the proposal", path);
	return n;
}
