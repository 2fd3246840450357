/*
 * A packing report and, from its two parsers' side, a manifest: behind the first byte the file's
 * bytes. Contracts: opening ends; what was opened lists as many records as it finds, in order, and
 * finds each of them again.
 */
#include "work/manifest.h"
#include "work/pack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static int each(void *arg, const struct pack_record *r, struct err *e)
{
	uint8_t path[WPATH_MAX + 1];
	struct pack_record found;
	size_t len = r->path.len;

	must(wpath_parse(r->path, NULL) == 0 && r->why > PACK_WHY_NONE && r->why < PACK_WHY_COUNT);
	must(pack_why_text(r->why) != NULL);
	memcpy(path, r->path.at, len);
	must(pack_report_find(arg, span_of(path, len), &found, e) == 0);
	must(span_equal(found.path, span_of(path, len)));
	return 0;
}

static void manifest(struct span in)
{
	struct host_record record;
	struct manifest_header header;
	uint8_t bytes[MANIFEST_HEADER_BYTES];

	if (in.len >= MANIFEST_RECORD_BYTES &&
	    manifest_parse_record(span_of(in.at, MANIFEST_RECORD_BYTES), &record) == 0) {
		manifest_put_record(bytes, &record);
		must(memcmp(bytes, in.at, MANIFEST_RECORD_BYTES) == 0);
	}
	if (in.len >= MANIFEST_HEADER_BYTES &&
	    manifest_parse_header(span_of(in.at, MANIFEST_HEADER_BYTES), &header) == 0) {
		manifest_put_header(bytes, &header);
		must(memcmp(bytes, in.at, MANIFEST_HEADER_BYTES) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_own_(pack_report_free) struct pack_report *r = NULL;
	struct err e = { 0 };
	int fd, got;

	manifest(span_of(data, size));
	fd = memfd_create("fuzz", MFD_CLOEXEC);
	must(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	got = pack_report_open(fd, &r, &e);
	(void)close(fd);
	if (got < 0) {
		must((got == -EBADMSG || got == -EPROTO) && e.len > 0);
		return 0;
	}
	must(pack_report_each(r, each, r, &e) == 0);
	return 0;
}
