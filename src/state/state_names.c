/*
 * Theory of operation
 *
 * symlink(2) makes a claim atomic, but nothing removes a link "if it still points there": between
 * reading a dead claim and removing it, another command may have put its own in its place. So
 * claims are made, taken over and removed under one flock, held for a few system calls. Reading
 * needs no lock.
 *
 * A sandbox's directory appears, locked, before its claim and disappears after it. So a claim
 * whose target is missing or unlocked is nobody's.
 */
#include "state/state_internal.h"

#include "base/clock.h"
#include "base/fdio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>

enum { CLAIM_BYTES = SPEC_NAME_MAX + 2 };

static int try_names_lock(int sandboxes_fd, int *ret_fd, struct err *e)
{
	_own_fd_ int fd = -1;
	int r = fd_openat(sandboxes_fd, ".names", O_RDWR | O_CREAT | O_NOFOLLOW, 0600, &fd, e);

	if (r < 0)
		return r;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return err_sys(e, "lock the names of sandboxes");
	*ret_fd = steal_fd(&fd);
	return 0;
}

static int names_lock(int sandboxes_fd, int *ret_fd, struct err *e)
{
	uint64_t end = clock_mono_ms() + STATE_NAMES_WAIT_MS;
	int r;

	do {
		const struct timespec pause = { .tv_nsec = 1000000 };

		r = try_names_lock(sandboxes_fd, ret_fd, e);
		if (r != -EWOULDBLOCK && r != -EINTR)
			return r;
		(void)nanosleep(&pause, NULL);
	} while (clock_mono_ms() < end);
	return err_set(e, -ETIMEDOUT,
	               "another berm command holds the names of sandboxes; try again");
}

static const char *claim_file(const char *name, char ret[CLAIM_BYTES])
{
	(void)snprintf(ret, CLAIM_BYTES, "@%s", name);
	return ret;
}

/* The id a claim points to. False: there is none, or it is not one of ours. */
static bool read_claim(int sandboxes_fd, const char *claim, char ret_id[SPEC_ID_LEN + 1])
{
	char target[SPEC_ID_LEN + 2];
	ssize_t n = readlinkat(sandboxes_fd, claim, target, sizeof(target) - 1);

	if (n < 0)
		return false;
	target[n] = '\0';
	if (!spec_id_ok(target))
		return false;
	memcpy(ret_id, target, SPEC_ID_LEN + 1);
	return true;
}

static bool claim_lives(int sandboxes_fd, const char *claim, char ret_id[SPEC_ID_LEN + 1])
{
	return read_claim(sandboxes_fd, claim, ret_id) &&
	       state_probe_lock(sandboxes_fd, ret_id) == STATE_LOCK_HELD;
}

int state_claim_name(int state_fd, const char *name, const char *id, struct err *e)
{
	_own_fd_ int sandboxes_fd = -1;
	_own_fd_ int lock_fd = -1;
	char claim[CLAIM_BYTES];
	char holder[SPEC_ID_LEN + 1];
	int r;

	if (!spec_name_ok(name) || !spec_id_ok(id))
		return err_set(e, -EINVAL, "'%s' is no name for a sandbox", name);
	(void)claim_file(name, claim);
	r = state_open_folder(state_fd, "sandboxes", &sandboxes_fd, e);
	if (r == 0)
		r = names_lock(sandboxes_fd, &lock_fd, e);
	if (r < 0)
		return r;
	if (symlinkat(id, sandboxes_fd, claim) == 0)
		return 0;
	if (errno != EEXIST)
		return err_sys(e, "claim the name '%s'", name);
	if (claim_lives(sandboxes_fd, claim, holder))
		return err_set(e, -EEXIST,
		               "the name '%s' is taken by sandbox %s: use another name, or `berm "
		               "stop %s` first",
		               name, holder, name);
	if (unlinkat(sandboxes_fd, claim, 0) < 0 && errno != ENOENT)
		return err_sys(e, "take over the name '%s'", name);
	if (symlinkat(id, sandboxes_fd, claim) < 0)
		return err_sys(e, "claim the name '%s'", name);
	return 0;
}

void state_release_name(int state_fd, const char *name, const char *id)
{
	_own_fd_ int sandboxes_fd = -1;
	_own_fd_ int lock_fd = -1;
	char claim[CLAIM_BYTES];
	char holder[SPEC_ID_LEN + 1];

	if (!spec_name_ok(name) ||
	    state_open_folder(state_fd, "sandboxes", &sandboxes_fd, NULL) < 0)
		return;
	/* without the lock the claim stays and dangles, until the next sweep */
	if (names_lock(sandboxes_fd, &lock_fd, NULL) < 0)
		return;
	(void)claim_file(name, claim);
	if (read_claim(sandboxes_fd, claim, holder) && strcmp(holder, id) == 0)
		(void)unlinkat(sandboxes_fd, claim, 0);
}

void state_sweep_name(int sandboxes_fd, const char *claim)
{
	_own_fd_ int lock_fd = -1;
	char holder[SPEC_ID_LEN + 1];

	/* the usual case, and it takes no lock */
	if (claim_lives(sandboxes_fd, claim, holder))
		return;
	if (try_names_lock(sandboxes_fd, &lock_fd, NULL) < 0)
		return;
	if (!claim_lives(sandboxes_fd, claim, holder))
		(void)unlinkat(sandboxes_fd, claim, 0);
}
