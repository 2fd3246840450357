/*
 * The readers of /proc/self/cgroup and mountinfo, and the join of what they found. Failure leaves
 * outputs as they were; every span points into the input; a joined path never climbs.
 */
#include "base/buf.h"
#include "jail/cgroup_parse.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_inside(struct span s, const uint8_t *data, size_t size)
{
	if (s.at)
		assert(s.at >= data && s.len <= size && s.at + s.len <= data + size);
}

static void check_join(struct span point, struct span root, struct span path)
{
	char text[CGROUP_PATH_MAX];
	struct buf b;

	if (!point.at || !path.at)
		return;
	buf_init(&b, text, sizeof(text));
	if (!cgroup_join(point, root, path, &b))
		return;
	assert(b.len <= sizeof(text) && !memchr(text, '\0', b.len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = span_of(data, size);
	struct cgroup_self self;
	struct cgroup_mounts mounts;
	struct cgroup_self self_before;
	struct cgroup_mounts mounts_before;
	uint64_t n = 0xa5a5;
	int r;

	memset(&self, 0xa5, sizeof(self));
	memset(&mounts, 0xa5, sizeof(mounts));
	self_before = self;
	mounts_before = mounts;
	r = cgroup_parse_mounts(in, &mounts);
	if (r == 0) {
		for (unsigned t = 0; t < CGROUP_TREES; t++) {
			check_inside(mounts.point[t], data, size);
			check_inside(mounts.root[t], data, size);
			check_join(mounts.point[t], mounts.root[t], span_str("/own/group"));
			check_join(mounts.point[t], span_str("/"), mounts.root[t]);
		}
	} else {
		assert(memcmp(&mounts, &mounts_before, sizeof(mounts)) == 0);
	}
	r = cgroup_parse_self(in, &self);
	if (r == 0)
		for (unsigned t = 0; t < CGROUP_TREES; t++) {
			check_inside(self.path[t], data, size);
			check_join(span_str("/sys/fs/cgroup"), span_str("/"), self.path[t]);
		}
	else
		assert(memcmp(&self, &self_before, sizeof(self)) == 0);
	if (!cgroup_find_number(in, "oom_kill", &n))
		assert(n == 0xa5a5);
	return 0;
}
