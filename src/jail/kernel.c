/*
 * What the kernel can do, apart from seccomp.c: who only asks is not linked with libseccomp.
 */
#include "jail/internal.h"

#include <linux/seccomp.h>
#include <sys/syscall.h>

bool jail_seccomp_available(void)
{
	uint32_t action = SECCOMP_RET_KILL_PROCESS;

	return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}
