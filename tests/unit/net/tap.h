/*
 * tap: this process in a user and network namespace of its own, whose one network card is a tap
 * device with the guest's addresses and MTU. So the kernel's own TCP plays the guest. Nothing of
 * the machine's network is touched.
 */
#pragma once

#include "net/link.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/ipv6.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static inline bool tap_put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	size_t len = strlen(text);
	bool ok = fd >= 0 && write(fd, text, len) == (ssize_t)len;

	if (fd >= 0)
		(void)close(fd);
	return ok;
}

static inline void tap_namespaces(void)
{
	char line[64];
	unsigned uid = getuid();
	unsigned gid = getgid();

	if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		TEST_SKIP("no namespaces for a network of its own: %s", strerror(errno));
	(void)tap_put("/proc/self/setgroups", "deny");
	(void)snprintf(line, sizeof(line), "0 %u 1", uid);
	if (!tap_put("/proc/self/uid_map", line))
		TEST_SKIP("a user namespace may not be filled: %s", strerror(errno));
	(void)snprintf(line, sizeof(line), "0 %u 1", gid);
	(void)tap_put("/proc/self/gid_map", line);
}

static inline void tap_addr4(struct sockaddr *at, uint8_t last)
{
	struct sockaddr_in in = { .sin_family = AF_INET };

	in.sin_addr.s_addr = htonl(100U << 24 | 96U << 16 | last);
	memcpy(at, &in, sizeof(in));
}

static inline bool tap_ip4(int s, struct ifreq *ifr)
{
	struct rtentry route = { .rt_flags = RTF_UP | RTF_GATEWAY };

	tap_addr4(&ifr->ifr_addr, 2);
	if (ioctl(s, SIOCSIFADDR, ifr) < 0)
		return false;
	((struct sockaddr_in *)&ifr->ifr_addr)->sin_addr.s_addr = htonl(0xfffffffc);
	if (ioctl(s, SIOCSIFNETMASK, ifr) < 0)
		return false;
	ifr->ifr_flags = IFF_UP | IFF_RUNNING;
	if (ioctl(s, SIOCSIFFLAGS, ifr) < 0)
		return false;
	route.rt_dst.sa_family = AF_INET;
	route.rt_genmask.sa_family = AF_INET;
	tap_addr4(&route.rt_gateway, 1);
	return ioctl(s, SIOCADDRT, &route) == 0;
}

/* An address is nobody's until the kernel's own worker has looked at it, detection or not. */
static inline bool tap_ip6_ready(int s, const struct in6_addr *addr)
{
	struct sockaddr_in6 at = { .sin6_family = AF_INET6, .sin6_addr = *addr };

	for (int i = 0; i < 5000; i++) {
		if (bind(s, (struct sockaddr *)&at, sizeof(at)) == 0)
			return true;
		(void)usleep(1000);
	}
	return false;
}

/* False: this kernel has no IPv6; the tests with it are left out. */
static inline bool tap_ip6(const struct ifreq *ifr)
{
	struct net_link_config c = net_link_config_usual(true);
	struct in6_rtmsg route = { .rtmsg_flags = RTF_UP | RTF_GATEWAY, .rtmsg_metric = 1 };
	struct in6_ifreq req = { .ifr6_prefixlen = 64 };
	struct ifreq index = *ifr;
	int s = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool ok;

	if (s < 0)
		return false;
	ok = tap_put("/proc/sys/net/ipv6/conf/guest0/accept_dad", "0") &&
	     ioctl(s, SIOCGIFINDEX, &index) == 0;
	req.ifr6_ifindex = index.ifr_ifindex;
	route.rtmsg_ifindex = index.ifr_ifindex;
	memcpy(&req.ifr6_addr, c.guest6.at, 16);
	memcpy(&route.rtmsg_gateway, c.router6.at, 16);
	ok = ok && ioctl(s, SIOCSIFADDR, &req) == 0 && ioctl(s, SIOCADDRT, &route) == 0 &&
	     tap_ip6_ready(s, &req.ifr6_addr);
	(void)close(s);
	return ok;
}

/* The gate's end of the card: one read or write is one frame. Skips where it may not be made. */
static inline int tap_open(bool *ret_ip6)
{
	struct net_link_config c = net_link_config_usual(true);
	struct ifreq ifr = { .ifr_name = "guest0" };
	int s;
	int fd;

	tap_namespaces();
	fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		TEST_SKIP("no /dev/net/tun: %s", strerror(errno));
	ifr.ifr_flags = IFF_TAP | IFF_NO_PI;
	if (ioctl(fd, TUNSETIFF, &ifr) < 0)
		TEST_SKIP("no tap device: %s", strerror(errno));
	s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ifr.ifr_hwaddr.sa_family = ARPHRD_ETHER;
	memcpy(ifr.ifr_hwaddr.sa_data, c.guest_mac.at, 6);
	CHECK(s >= 0 && ioctl(s, SIOCSIFHWADDR, &ifr) == 0);
	ifr.ifr_mtu = NET_MTU;
	CHECK(ioctl(s, SIOCSIFMTU, &ifr) == 0);
	CHECK(tap_ip4(s, &ifr));
	*ret_ip6 = tap_ip6(&ifr);
	(void)close(s);
	return fd;
}
