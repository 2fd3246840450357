/*
 * berm-vault: the process of one sandbox that faces the world.
 *
 *	berm-vault SANDBOX
 *
 * Started by the supervisor beside the engine and the gate (lib/companion.h), with 3 the control
 * socket and 4 the stream to the gate. It reads which resolvers and which roots the host has,
 * closes its jail, says READY, and serves both sockets until one of them ends.
 *
 * Exits 0 when the supervisor has ended, 1 when the gate or the kernel did what may not be, 125
 * when it could not start; the reason is on stderr, which is the log.
 */
#include "base/fdio.h"
#include "base/log.h"
#include "jail/jail.h"
#include "vault/limits.h"
#include "vault/vault.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { EXIT_BERM = 125, EXIT_ENDED = 1, FD_CONTROL = 3, FD_LINK = 4 };

/* As many descriptors as the kernel lets this user have, up to what is of use. */
static int raise_fds(unsigned *ret, struct err *e)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) < 0)
		return err_sys(e, "limit of descriptors");
	l.rlim_cur = l.rlim_max < VAULT_FDS_WANTED ? l.rlim_max : VAULT_FDS_WANTED;
	if (setrlimit(RLIMIT_NOFILE, &l) < 0)
		return err_sys(e, "limit of descriptors");
	*ret = (unsigned)l.rlim_cur;
	return 0;
}

static int close_jail(const char *id, unsigned fds, struct err *e)
{
	uid_t uid = geteuid() == 0 ? jail_uid_for(id) : 0;
	const struct jail_limit limits[] = {
		{ RLIMIT_NOFILE, fds, "one for each connection that is passed" },
	};
	const struct jail_params params = {
		.limits = limits,
		.limit_count = 1,
		.keep_all_fds = true, /* whoever started us closed the others */
		.uid = uid,
		.gid = (gid_t)uid,
		.die_with_parent = true,
		.parent = getppid(),
		.parent_fd = FD_CONTROL,
	};

	return jail_enter(&jail_profile_vault, &params, NULL, e);
}

static int prepare(const char *id, struct vault **ret, struct err *e)
{
	const struct vault_fds fds = { .control = FD_CONTROL, .link = FD_LINK };
	_own_(vault_free) struct vault *v = NULL;
	unsigned fds_max = 0;
	int r;

	if (fd_set_cloexec(FD_CONTROL, true) < 0 || fd_set_cloexec(FD_LINK, true) < 0)
		return err_set(e, -EINVAL, "this program is started by berm");
	r = raise_fds(&fds_max, e);
	if (r == 0)
		r = vault_new(&fds, fds_max, &v, e);
	if (r == 0)
		r = close_jail(id, fds_max, e);
	if (r < 0)
		return r;
	*ret = steal_ptr(&v);
	return 0;
}

int main(int argc, char **argv)
{
	_own_(vault_free) struct vault *v = NULL;
	struct err e = { 0 };

	log_init("berm-vault");
	(void)sigaction(SIGPIPE, &(struct sigaction){ .sa_handler = SIG_IGN }, NULL);
	if (argc != 2) {
		log_error("this program is started by berm");
		return EXIT_BERM;
	}
	if (prepare(argv[1], &v, &e) < 0) {
		log_error("%s", e.text);
		return EXIT_BERM;
	}
	if (vault_run(v, &e) < 0) {
		log_error("%s", e.text);
		return EXIT_ENDED;
	}
	return 0;
}
