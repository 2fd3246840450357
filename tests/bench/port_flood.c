/*
 * The guest of the console benchmark: process 1 writes to the port in 64 KiB pieces for ever, once
 * a byte has come from the host. musl-gcc -static.
 */
#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

static char piece[65536];

int main(void)
{
	int fd = -1;
	char go;

	(void)mount("dev", "/dev", "devtmpfs", 0, "");
	while (fd < 0)
		fd = open("/dev/vport0p1", O_RDWR);
	while (write(fd, "!", 1) != 1)
		(void)usleep(1000);
	while (read(fd, &go, 1) != 1)
		(void)usleep(1000);
	for (;;)
		if (write(fd, piece, sizeof(piece)) < 0)
			(void)usleep(1000);
}
