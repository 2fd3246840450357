/*
 * berm-gate: the process of one sandbox that faces its guest.
 *
 *	berm-gate SANDBOX [copy]
 *
 * Started by the supervisor beside the engine and the vault (lib/companion.h), with 3 the control
 * socket, 4 the stream of the guest's frames and 5 the stream to the vault. It makes the sandbox's
 * certificate authority (a copy's has a name of its own), closes its jail, says READY with the
 * certificate, and carries the guest's network until the supervisor or the engine ends.
 *
 * Exits 0 then, 1 when the vault, the card or the kernel did what may not be, 125 when it could not
 * start; the reason is on stderr, which is the log. A forbidden call ends it with SIGSYS.
 */
#include "base/clock.h"
#include "base/fdio.h"
#include "base/log.h"
#include "gate/gate.h"
#include "jail/jail.h"
#include "lib/companion.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_BERM = 125, EXIT_ENDED = 1 };

static int close_jail(const char *id, struct err *e)
{
	uid_t uid = geteuid() == 0 ? jail_uid_for(id) : 0;
	const struct jail_params params = {
		.keep_all_fds = true, /* whoever started us closed the others */
		.uid = uid,
		.gid = (gid_t)uid,
		.die_with_parent = true,
		.parent = getppid(),
		.parent_fd = GATE_FD_CONTROL,
	};

	return jail_enter(&jail_profile_gate, &params, NULL, e);
}

static int prepare(const char *id, struct ca *ca, struct gate **ret, struct err *e)
{
	const struct gate_config config = {
		.control_fd = GATE_FD_CONTROL,
		.card_fd = GATE_FD_CARD,
		.vault_fd = GATE_FD_VAULT,
		.ca = ca,
		.with_ip6 = true,
	};
	_own_(gate_free) struct gate *g = NULL;
	int r;

	for (int fd = GATE_FD_CONTROL; fd < GATE_FD_COUNT; fd++)
		if (fd_set_cloexec(fd, true) < 0)
			return err_set(e, -EINVAL, "this program is started by berm");
	/* all tables are made while nothing was read yet; the limit of files comes with the jail */
	r = gate_new(&config, &g, e);
	if (r == 0)
		r = close_jail(id, e);
	if (r == 0)
		r = gate_begin(g, e);
	if (r < 0)
		return r;
	*ret = steal_ptr(&g);
	return 0;
}

static int run(struct gate *g, struct err *e)
{
	int r;

	do
		r = gate_turn(g, -1, e);
	while (r == 0);
	return r;
}

int main(int argc, char **argv)
{
	_own_(ca_free) struct ca *ca = NULL;
	_own_(gate_free) struct gate *g = NULL;
	struct err e = { 0 };
	bool copy;

	log_init("berm-gate");
	(void)sigaction(SIGPIPE, &(struct sigaction){ .sa_handler = SIG_IGN }, NULL);
	copy = argc == 3 && strcmp(argv[2], COMPANION_COPY) == 0;
	if (argc != 2 && !copy) {
		log_error("this program is started by berm");
		return EXIT_BERM;
	}
	if (ca_new(clock_real_ns() / 1000000000, copy, &ca, &e) < 0 ||
	    prepare(argv[1], ca, &g, &e) < 0) {
		log_error("%s", e.text);
		return EXIT_BERM;
	}
	if (run(g, &e) < 0) {
		log_error("%s", e.text);
		return EXIT_ENDED;
	}
	return 0;
}
