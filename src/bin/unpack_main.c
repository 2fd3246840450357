/*
 * berm-unpack: turns one archive of unknown origin into one image, and ends.
 *
 * Started by the image store with fds (image/unpack.h). It closes the jail around itself before it
 * reads a byte of the archive: what is left is that archive, the staging directory, and memory.
 *
 * Its other jobs, each with a jail of its own, are those of unpack_work.h.
 */
#include "base/log.h"
#include "base/units.h"
#include "bin/unpack_work.h"
#include "image/unpack.h"
#include "jail/jail.h"

#include <errno.h>
#include <locale.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

enum { UNPACK_CPU_S_MAX = 3600 };

/* The tree's own maximum, buffers of the decompressors, and libraries. */
#define UNPACK_MEMORY_MAX (UINT64_C(2) << 30)

struct options {
	uint64_t unpacked_max;
	const char *select;
	bool config;
};

static int parse_options(int argc, char **argv, struct options *ret, struct err *e)
{
	struct options o = { .unpacked_max = IMAGE_UNPACKED_BYTES_DEFAULT };

	for (int i = 1; i < argc; i++) {
		bool more = i + 1 < argc;

		if (strcmp(argv[i], "--config") == 0) {
			o.config = true;
		} else if (strcmp(argv[i], "--select") == 0 && more) {
			o.select = argv[++i];
		} else if (strcmp(argv[i], "--max-bytes") == 0 && more) {
			int r = units_parse_count(argv[++i], 1, UINT64_C(1) << 50, &o.unpacked_max,
			                          e);

			if (r < 0)
				return r;
		} else {
			return err_set(e, -EINVAL, "this program is started by berm");
		}
	}
	*ret = o;
	return 0;
}

/* What libraries want from the file system they get now: later there is none. */
static int prepare(struct err *e)
{
	unsigned char sum[EVP_MAX_MD_SIZE];

	/* names in UTF-8 pass through libarchive as they are */
	if (!setlocale(LC_CTYPE, "C.UTF-8"))
		return err_set(e, -ENOENT, "the locale C.UTF-8 is missing: install libc-bin");
	if (OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) != 1 ||
	    EVP_Digest("", 0, sum, NULL, EVP_sha256(), NULL) != 1)
		return err_set(e, -EIO, "sha256 is not available");
	return 0;
}

static int enter_jail(const struct options *o, struct err *e)
{
	const struct jail_path paths[] = {
		{ .fd = UNPACK_FD_STAGING,
		  .access = JAIL_READ | JAIL_WRITE | JAIL_MAKE,
		  .why = "the image goes here" },
		{ .fd = UNPACK_FD_ARCHIVE, .access = JAIL_READ, .why = "blobs of a layout" },
	};
	/* the image may be as large as what is unpacked, and its tables come on top */
	const struct jail_limit limits[] = {
		{ RLIMIT_AS, UNPACK_MEMORY_MAX, "a bomb ends here, not in the host's memory" },
		{ RLIMIT_CPU, UNPACK_CPU_S_MAX, "no archive takes for ever" },
		{ RLIMIT_FSIZE, o->unpacked_max + (UINT64_C(1) << 30), "nor the whole disk" },
	};
	const int keep[] = { UNPACK_FD_ARCHIVE, UNPACK_FD_STAGING, UNPACK_FD_REPORT,
		             UNPACK_FD_CONFIG };
	struct stat st;
	struct jail_params p = { .paths = paths,
		                 .path_count = 1,
		                 .limits = limits,
		                 .limit_count = sizeof(limits) / sizeof(limits[0]),
		                 .keep_fds = keep,
		                 .keep_fd_count = o->config ? 4 : 3 };

	if (fstat(UNPACK_FD_ARCHIVE, &st) < 0)
		return err_sys(e, "stat the archive");
	if (S_ISDIR(st.st_mode))
		p.path_count = 2; /* only a directory is looked into by name */
	return jail_enter(&jail_profile_unpack, &p, NULL, e);
}

int main(int argc, char **argv)
{
	struct unpack u = { .archive_fd = UNPACK_FD_ARCHIVE,
		            .staging_fd = UNPACK_FD_STAGING,
		            .config_fd = -1 };
	struct err e = { 0 };
	struct options o = { 0 };
	struct job j;
	int r;

	log_init("berm-unpack");
	if (argc == 2 && strcmp(argv[1], "--proposal") == 0)
		return prepare(&e) < 0 ? 125 : unpack_proposal();
	if (argc == 3 && strcmp(argv[1], "--commits") == 0)
		return prepare(&e) < 0 ? 125 : unpack_commits(argv[2]);
	r = parse_options(argc, argv, &o, &e);
	if (r < 0) {
		log_error("%s", e.text);
		return 125;
	}
	job_init(&j, UNPACK_FD_REPORT, o.unpacked_max);
	u.select = o.select;
	u.config_fd = o.config ? UNPACK_FD_CONFIG : -1;
	r = prepare(&e);
	if (r == 0)
		r = enter_jail(&o, &e);
	if (r == 0)
		r = unpack_run(&j, &u, &e);
	if (r < 0) {
		job_say_fail(&j, &e);
		return 1;
	}
	return 0;
}
