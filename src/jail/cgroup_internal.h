/*
 * cgroup_internal: shared by cgroup.c and cgroup_host.c alone.
 */
#pragma once

#include "jail/cgroup.h"

#include <string.h>

const struct cgroup_env *cgroup_env_or_real(const struct cgroup_env *env);

/* "dir/name" into ret; false if it does not fit. */
_must_ bool cgroup_path(char *ret, size_t size, const char *dir, const char *name);

/* One word into one control file. Where a kernel may lack the file the answer is not needed. */
int cgroup_write(const struct cgroup_env *env, const char *dir, const char *file, const char *word,
                 struct err *e);
