/*
 * PID 1 of kernel/initcalls: prints the kernel's message buffer on the console. The console itself
 * never shows what was logged before virtio-console came up, so the buffer is the only whole copy.
 */
#include <stdio.h>
#include <sys/klog.h>
#include <sys/reboot.h>
#include <unistd.h>

enum { LOG_MAX = 1 << 20, READ_ALL = 3 };

int main(void)
{
	static char text[LOG_MAX];
	int n = klogctl(READ_ALL, text, sizeof(text));

	for (int at = 0; at < n;) {
		ssize_t got = write(1, text + at, (size_t)(n - at));

		if (got <= 0)
			break;
		at += (int)got;
	}
	sleep(1); /* the console's queue empties in its own time */
	reboot(RB_AUTOBOOT);
}
