/*
 * The documents of an image archive. The input is split at NUL bytes into manifest.json, index.json
 * and the blob both name; digests are left to chance, so the config is also parsed by itself.
 */
#include "base/fdio.h"
#include "image/oci.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put_octal(char *at, size_t len, unsigned long long v)
{
	(void)snprintf(at, len, "%0*llo", (int)len - 1, v);
}

static void put_member(int fd, const char *name, struct span data)
{
	static const char zeros[512];
	char h[512] = { 0 };
	unsigned sum = 0;

	(void)snprintf(h, 100, "%s", name);
	put_octal(h + 100, 8, 0644);
	put_octal(h + 108, 8, 0);
	put_octal(h + 116, 8, 0);
	put_octal(h + 124, 12, data.len);
	put_octal(h + 136, 12, 0);
	memset(h + 148, ' ', 8);
	h[156] = '0';
	memcpy(h + 257, "ustar", 6);
	memcpy(h + 263, "00", 2);
	for (size_t i = 0; i < sizeof(h); i++)
		sum += (unsigned char)h[i];
	(void)snprintf(h + 148, 8, "%06o", sum);
	if (fd_write_all(fd, h, sizeof(h), NULL) < 0 ||
	    fd_write_all(fd, data.at, data.len, NULL) < 0 ||
	    fd_write_all(fd, zeros, (512 - data.len % 512) % 512, NULL) < 0)
		abort();
}

static void load_archive(struct span docker, struct span index, struct span config)
{
	static const char zeros[1024];
	int fd = memfd_create("archive", MFD_CLOEXEC);
	struct source *s = NULL;
	struct oci_image *o = NULL;
	struct err e = { 0 };
	struct job j;

	assert(fd >= 0);
	if (docker.len > 0)
		put_member(fd, "manifest.json", docker);
	put_member(fd, "index.json", index);
	put_member(fd, "config", config);
	if (fd_write_all(fd, zeros, sizeof(zeros), NULL) < 0)
		abort();
	job_init(&j, -1, 1 << 20);
	if (source_open(&j, fd, -1, &s, &e) == 0 && oci_load(&j, s, NULL, &o, &e) < 0)
		assert(!o && e.code < 0);
	oci_image_free(o);
	source_free(s);
	(void)close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = span_of(data, size);
	struct span part[3] = { { data, 0 }, { data, 0 }, { data, 0 } };
	struct oci_image *o = calloc(1, sizeof(*o));
	struct err e = { 0 };
	json_t *doc;
	struct job j;

	assert(o);
	for (int i = 0; i < 3 && take_until(&in, '\0', &part[i]); i++)
		;
	load_archive(part[0], part[1], part[2]);
	job_init(&j, -1, 1 << 20);
	if (json_load(part[2], IMAGE_JSON_MAX, "config", &doc, &e) == 0)
		(void)oci_parse_config(&j, o, doc, &e);
	oci_image_free(o);
	return 0;
}
