/* The profile of berm-vault, apart from the others as those of berm-vmm are. */
#include "jail/rules.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>

enum {
	SOCKET_KIND = 0xf, /* of socket()'s second argument: without CLOEXEC and NONBLOCK */
	SEALS_ALL = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE,
};

static const struct jail_rule vault_rules[] = {
#include "jail/profiles/common.def"
#include "jail/profiles/vault.def"
};

/* How many descriptors there may be the program says: one for each connection that is passed. */
static const struct jail_limit vault_limits[] = {
	{ RLIMIT_CORE, 0, "values never land in a file" },
	{ RLIMIT_FSIZE, 1 << 20, "a policy's size of sealed memory" },
	{ RLIMIT_MSGQUEUE, 0, "no message queues" },
	{ RLIMIT_RTPRIO, 0, "no priority over the host" },
};

/*
 * The host's own network is what it is for. Everything else of the host's is gone: nothing by path
 * (the new root is empty), and by Landlock no port of its own.
 */
const struct jail_profile jail_profile_vault = {
	.name = "vault",
	.ns_wanted = JAIL_NS_USER | JAIL_NS_IPC | JAIL_NS_UTS | JAIL_NS_CGROUP | JAIL_NS_MOUNT |
	             JAIL_NS_PID,
	.new_root = true,
	.landlock = true,
	.landlock_abi_min = 1,
	.landlock_connect = true,
	.landlock_scopes = JAIL_SCOPE_ABSTRACT | JAIL_SCOPE_SIGNAL,
	.rules = vault_rules,
	.rule_count = COUNT(vault_rules),
	.limits = vault_limits,
	.limit_count = COUNT(vault_limits),
};
