#include "work/manifest.h"
#include "work/path.h"

static uint8_t kind_of(mode_t mode)
{
	return S_ISREG(mode) ? WORK_FILE : S_ISDIR(mode) ? WORK_DIR : S_ISLNK(mode) ? WORK_LINK : 0;
}

void host_record_of(const struct stat *st, struct host_record *ret)
{
	*ret = (struct host_record){
		.dev = st->st_dev,
		.ino = st->st_ino,
		.size = (uint64_t)st->st_size,
		.mtime_s = st->st_mtim.tv_sec,
		.ctime_s = st->st_ctim.tv_sec,
		.mtime_ns = (uint32_t)st->st_mtim.tv_nsec,
		.ctime_ns = (uint32_t)st->st_ctim.tv_nsec,
		.mode = st->st_mode,
		.nlink = (uint32_t)st->st_nlink,
		.kind = kind_of(st->st_mode),
	};
}

bool host_record_untouched(const struct host_record *was, const struct stat *st)
{
	struct host_record now;

	host_record_of(st, &now);
	return !(was->flags & (HOST_RACY | HOST_MADE)) && was->dev == now.dev &&
	       was->ino == now.ino && was->size == now.size && was->mode == now.mode &&
	       was->mtime_s == now.mtime_s && was->mtime_ns == now.mtime_ns &&
	       was->ctime_s == now.ctime_s && was->ctime_ns == now.ctime_ns;
}

bool host_record_same(const struct host_record *was, const struct stat *now)
{
	return !(was->flags & HOST_OUTSIDE) && host_record_untouched(was, now);
}
