/*
 * The guest of the boot benchmark: process 1 runs a program, and that says so on the console. Then
 * it waits for ever, as an idle guest does. musl-gcc -static.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

static const char said[] = "first exec\n";

int main(int argc, char **argv)
{
	int fd = -1;

	if (argc > 1 && strcmp(argv[1], "said") == 0)
		return write(1, said, sizeof(said) - 1) < 0;
	(void)mount("dev", "/dev", "devtmpfs", 0, "");
	while (fd < 0)
		fd = open("/dev/hvc0", O_RDWR);
	(void)dup2(fd, 1);
	if (vfork() == 0) {
		(void)execl("/init", "init", "said", (char *)NULL);
		_exit(127);
	}
	(void)wait(NULL);
	for (;;)
		(void)pause();
}
