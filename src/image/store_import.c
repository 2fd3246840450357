/*
 * Theory of operation
 *
 * An import happens in a directory nobody else looks at, .staging-<salt>, locked by this process.
 * berm-unpack, which reads the hostile archive, may write there and nowhere else, and is dead
 * before anything it left is looked at. What it left is then judged: exactly two files, an
 * image.json that is whole and is about the id that was reported, a disk of the size it says. Only
 * then, on disk and under the store's lock, the directory takes the image's id for its name, in one
 * rename.
 *
 * Whatever is killed in between leaves a staging directory whose lock nobody holds, and the next
 * command that writes to the store sweeps it. Two imports of one image meet at the rename: the
 * second finds the name taken, by the same content, and drops its own.
 */
#include "image/store.h"

#include "base/fdio.h"
#include "base/kernel_gaps.h"
#include "base/spawn.h"
#include "image/job.h"
#include "image/ref.h"
#include "image/store_internal.h"
#include "image/unpack.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum {
	REPORT_BUF_BYTES = 16 * REPORT_LINE_MAX,
	REPORT_LINES_MAX = 1 << 20, /* ten a second for a day: a flood ends the import */
	ARGS_MAX = 8,
	STAGING_FILES_MAX = 8, /* looked at; two are right */
};

/* One import. */
struct import {
	struct image_store *store;
	const struct image_import *args;
	char staging[STORE_DIR_NAME_MAX];
	int staging_fd; /* locked */
	pid_t pid;
	int pidfd, report_fd;
	char id[IMAGE_ID_LEN + 1]; /* as reported; "" before */
	bool known;                /* in the store already */
	bool done;
	struct err failure; /* code 0: none reported */
	unsigned lines, warnings;
	struct image *there; /* known: held, so that it stays until it has its names */
};

static const int fail_codes[IMAGE_FAIL_COUNT] = {
	[IMAGE_FAIL_INTERNAL] = -EIO,    [IMAGE_FAIL_NOT_IMAGE] = -ENOEXEC,
	[IMAGE_FAIL_DAMAGED] = -EBADMSG, [IMAGE_FAIL_REFUSED] = -EPERM,
	[IMAGE_FAIL_ARCH] = -ENOTSUP,    [IMAGE_FAIL_LIMIT] = -E2BIG,
	[IMAGE_FAIL_SPACE] = -ENOSPC,
};

enum image_fail image_fail_of_code(int code)
{
	for (unsigned i = 0; i < IMAGE_FAIL_COUNT; i++)
		if (fail_codes[i] == code)
			return (enum image_fail)i;
	return code == -EDQUOT ? IMAGE_FAIL_SPACE : IMAGE_FAIL_INTERNAL;
}

static int make_staging(struct import *im, struct err *e)
{
	_own_fd_ int lock = -1;
	struct buf name;
	int r = store_lock(im->store, &lock, e);

	if (r < 0)
		return r;
	buf_init(&name, im->staging, sizeof(im->staging));
	store_salted(&name, ".staging-");
	if (mkdirat(im->store->user_fd, buf_cstr(&name), 0700) < 0)
		return err_sys(e, "make a directory in the image store");
	r = fd_open_beneath(im->store->user_fd, im->staging, O_RDONLY | O_DIRECTORY, 0,
	                    RESOLVE_NO_SYMLINKS, &im->staging_fd, e);
	if (r == 0 && flock(im->staging_fd, LOCK_EX | LOCK_NB) < 0)
		r = err_sys(e, "lock a staging directory");
	return r;
}

static int start(struct import *im, struct err *e)
{
	const struct image_import *a = im->args;
	const char *argv[ARGS_MAX] = { "berm-unpack", "--max-bytes" };
	struct spawn s = { .path = a->unpack_path, .argv = argv, .fd_count = UNPACK_FD_CONFIG };
	_own_fd_ int far = -1;
	char max[24];
	size_t n = 2;
	int fds[2];
	int r;

	(void)snprintf(max, sizeof(max), "%llu",
	               (unsigned long long)(a->unpacked_max ? a->unpacked_max
	                                                    : IMAGE_UNPACKED_BYTES_DEFAULT));
	argv[n++] = max;
	if (a->select) {
		argv[n++] = "--select";
		argv[n++] = a->select;
	}
	if (a->config_fd >= 0) {
		argv[n++] = "--config";
		s.fds[UNPACK_FD_CONFIG] = a->config_fd;
		s.fd_count = UNPACK_FD_COUNT;
	}
	assert(n < ARGS_MAX);
	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_sys(e, "pipe");
	im->report_fd = fds[0];
	far = fds[1];
	s.fds[0] = -1;
	s.fds[1] = -1;
	s.fds[2] = STDERR_FILENO;
	s.fds[UNPACK_FD_ARCHIVE] = a->archive_fd;
	s.fds[UNPACK_FD_STAGING] = im->staging_fd;
	s.fds[UNPACK_FD_REPORT] = far;
	r = spawn_child(&s, &im->pid, &im->pidfd, e);
	if (r == -ENOENT)
		return err_set(e, -EIO, "'%s' is missing: berm is not installed completely",
		               a->unpack_path);
	return r;
}

static int take_report(struct import *im, const struct report *r, struct err *e)
{
	char text[ERR_TEXT_MAX];
	struct buf b;

	if (im->done || im->failure.code != 0 || ++im->lines > REPORT_LINES_MAX)
		return err_set(e, -EIO, "berm-unpack says more than it should");
	switch (r->kind) {
	case REPORT_ID:
	case REPORT_DONE:
		if (r->text.len != IMAGE_ID_LEN)
			return err_set(e, -EIO, "berm-unpack reported no id");
		memcpy(im->id, r->text.at, IMAGE_ID_LEN);
		im->id[IMAGE_ID_LEN] = '\0';
		im->done = r->kind == REPORT_DONE;
		im->known = store_find_id(im->store, im->id) >= 0;
		break;
	case REPORT_FAIL:
		buf_init(&b, text, sizeof(text));
		buf_put(&b, r->text.at,
		        r->text.len < sizeof(text) - 1 ? r->text.len : sizeof(text) - 1);
		(void)err_set(&im->failure, fail_codes[r->fail], "%s", buf_cstr(&b));
		break;
	case REPORT_PHASE:
	case REPORT_PROGRESS:
		break;
	case REPORT_WARN:
		if (++im->warnings > JOB_WARNINGS_MAX)
			return err_set(e, -EIO, "berm-unpack says more than it should");
		break;
	}
	if (im->args->on_report)
		im->args->on_report(im->args->arg, r);
	return 0;
}

/* Reads reports until berm-unpack closes the pipe, or until the image turns out to be here. */
static int follow(struct import *im, struct err *e)
{
	uint8_t storage[REPORT_BUF_BYTES];
	size_t len = 0;

	for (;;) {
		ssize_t n = read(im->report_fd, storage + len, sizeof(storage) - len);
		struct span in;
		struct report r;
		int got = 0;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, "read from berm-unpack");
		if (n == 0)
			return 0;
		in = span_of(storage, len + (size_t)n);
		while (!im->known && (got = report_parse(&in, &r)) == 0) {
			got = take_report(im, &r, e);
			if (got < 0)
				return got;
		}
		if (im->known)
			return 0;
		if (got == -EBADMSG)
			return err_set(e, -EIO, "berm-unpack says what nobody understands");
		memmove(storage, in.at, in.len);
		len = in.len;
	}
}

/* Ends berm-unpack and waits for it: nothing writes to the staging directory after this. */
static int reap(struct import *im, bool end, siginfo_t *ret)
{
	int r;

	if (im->pid <= 0)
		return 0;
	if (end)
		(void)kill(im->pid, SIGKILL);
	do
		r = waitid(P_PID, (id_t)im->pid, ret, WEXITED);
	while (r < 0 && errno == EINTR);
	im->pid = 0;
	return r < 0 ? -errno : 0;
}

static int run(struct import *im, struct err *e)
{
	siginfo_t how = { 0 };
	int r = start(im, e);

	if (r < 0)
		return r;
	r = follow(im, e);
	if (reap(im, r < 0 || im->known, &how) < 0 && r == 0)
		r = err_set(e, -EIO, "wait for berm-unpack");
	if (r < 0 || im->known)
		return r;
	if (im->failure.code != 0) {
		*e = im->failure;
		return e->code;
	}
	if (how.si_code != CLD_EXITED)
		return err_set(e, -EIO,
		               "berm-unpack was killed by signal %d while it read the archive%s",
		               how.si_status, how.si_status == SIGKILL ? " (out of memory?)" : "");
	if (!im->done || how.si_status != 0)
		return err_set(e, -EIO, "berm-unpack ended without a result");
	return 0;
}

/* Two files, and nothing else that a captured berm-unpack may have left. */
static int check_files(const struct import *im, struct err *e)
{
	unsigned seen = 0;
	struct dirent *d;
	int fd;
	DIR *dir;
	int r = fd_openat(im->staging_fd, ".", O_RDONLY | O_DIRECTORY, 0, &fd, e);

	if (r < 0)
		return r;
	dir = fdopendir(fd);
	if (!dir) {
		(void)close(fd);
		return err_sys(e, "list a staging directory");
	}
	while (r == 0 && (d = readdir(dir)) && seen <= STAGING_FILES_MAX) {
		struct stat st;

		if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
			continue;
		seen++;
		if ((strcmp(d->d_name, "disk.sqfs") != 0 && strcmp(d->d_name, "image.json") != 0) ||
		    fstatat(im->staging_fd, d->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    !S_ISREG(st.st_mode) || st.st_nlink != 1)
			r = err_set(e, -EIO, "berm-unpack left something odd behind");
	}
	(void)closedir(dir);
	if (r == 0 && seen != 2)
		r = err_set(e, -EIO, "berm-unpack did not leave an image behind");
	return r;
}

/* What it says, against what there is; and then nobody writes to it any more. */
static int check_image(struct import *im, struct image_meta **ret, struct err *e)
{
	_own_(image_meta_free) struct image_meta *m = NULL;
	_own_fd_ int disk = -1;
	int r = check_files(im, e);

	if (r == 0)
		r = store_read_meta(im->staging_fd, im->id, &m, e);
	if (r == 0)
		r = store_open_disk(im->staging_fd, m, &disk, e);
	if (r != 0) {
		(void)err_wrap(e, "what berm-unpack left behind");
		e->code = -EIO; /* not the archive's fault */
		return e->code;
	}
	if (fchmod(im->staging_fd, 0700) < 0 ||
	    fchmodat(im->staging_fd, "disk.sqfs", 0400, 0) < 0 ||
	    fchmodat(im->staging_fd, "image.json", 0400, 0) < 0)
		return err_sys(e, "make the image read-only");
	if (fsync(im->staging_fd) < 0)
		return err_sys(e, "write the image to disk");
	*ret = steal_ptr(&m);
	return 0;
}

static int commit(struct import *im, struct err *e)
{
	int store_fd = im->store->user_fd;
	_own_fd_ int lock = -1;
	int r = store_lock(im->store, &lock, e);

	if (r < 0)
		return r;
	if (store_find_id(im->store, im->id) >= 0) {
		im->known = true; /* another import of it was quicker */
		return 0;
	}
	/* readers come the moment it has its name */
	if (flock(im->staging_fd, LOCK_SH) < 0)
		return err_sys(e, "unlock the image");
	if (renameat(store_fd, im->staging, store_fd, im->id) < 0)
		return err_sys(e, "put the image into the store");
	im->staging[0] = '\0';
	return fsync(store_fd) < 0 ? err_sys(e, "write the image store to disk") : 0;
}

/*
 * One of the archive's own names. It moves, as with `docker load`, but not without a word; ret_note
 * says it.
 */
static int give_hint(const struct import *im, const char *name, struct buf *ret_note, struct err *e)
{
	char had[IMAGE_ID_LEN + 1];

	if (!store_name_fits(name)) {
		buf_printf(ret_note,
		           "the archive's name '%.200s' is too long to keep; it is left out", name);
		return 0;
	}
	/* what runs when nobody says what to run is not for an archive to choose */
	if (store_name_installed(im->store, span_str(name), had) == 0 && strcmp(had, im->id) != 0) {
		buf_printf(ret_note,
		           "the archive calls itself '%.200s', as an image installed with berm "
		           "does; if you want that: berm image tag %.12s %.200s",
		           name, im->id, name);
		return 0;
	}
	if (store_name_get(im->store, span_str(name), had, NULL) == 0 && strcmp(had, im->id) != 0)
		buf_printf(ret_note, "the name '%.200s' was image %.12s's, and is this one's now",
		           name, had);
	return image_name_set(im->store, name, im->id, e);
}

/* The user's name for it, or else the names the archive has. */
static int give_names(struct import *im, const struct image_meta *m, struct err *e)
{
	if (im->args->name)
		return image_name_set(im->store, im->args->name, im->id, e);
	for (size_t i = 0; m && m->names[i]; i++) {
		char text[REPORT_LINE_MAX];
		struct report said = { .kind = REPORT_WARN };
		struct buf note;
		int r;

		buf_init(&note, text, sizeof(text));
		r = give_hint(im, m->names[i], &note, e);
		if (r < 0)
			return r;
		said.text = buf_span(&note);
		if (note.len > 0 && im->args->on_report)
			im->args->on_report(im->args->arg, &said);
	}
	return 0;
}

static int check_name(const char *name, struct err *e)
{
	if (!name || (ref_is_name(span_str(name)) && store_name_fits(name)))
		return 0;
	if (ref_is_name(span_str(name)))
		return err_set(e, -EINVAL, "'%.100s...' is too long an image name", name);
	return err_set(e, -EINVAL,
	               "'%.100s' is no image name: lower-case words joined by '.', '_', '-' or "
	               "'/', then perhaps ':' and a tag",
	               name);
}

static int import(struct import *im, struct err *e)
{
	_own_(image_meta_free) struct image_meta *m = NULL;
	int r = make_staging(im, e);

	if (r == 0)
		r = run(im, e);
	if (r == 0 && !im->known)
		r = check_image(im, &m, e);
	if (r == 0 && !im->known)
		r = commit(im, e);
	/* whole, and not on its way out: a name for an image that is gone would be none */
	if (r == 0 && im->known)
		r = image_open(im->store, im->id, &im->there, e);
	return r < 0 ? r : give_names(im, m, e);
}

int image_import(struct image_store *s, const struct image_import *args, char *ret_id,
                 bool *ret_known, struct err *e)
{
	struct import im = {
		.store = s, .args = args, .staging_fd = -1, .pidfd = -1, .report_fd = -1
	};
	struct err local = { 0 };
	int r;

	if (!e)
		e = &local;
	r = check_name(args->name, e);
	if (r == 0) {
		image_store_sweep(s);
		r = import(&im, e);
	}
	image_free(im.there);
	(void)reap(&im, true, &(siginfo_t){ 0 });
	if (im.staging[0] != '\0' && im.staging_fd >= 0)
		(void)fd_remove_tree(s->user_fd, im.staging, NULL);
	if (im.staging_fd >= 0)
		(void)close(im.staging_fd);
	if (im.pidfd >= 0)
		(void)close(im.pidfd);
	if (im.report_fd >= 0)
		(void)close(im.report_fd);
	if (r < 0)
		return r;
	memcpy(ret_id, im.id, IMAGE_ID_LEN + 1);
	*ret_known = im.known;
	return 0;
}
