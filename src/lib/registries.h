/*
 * registries: the hosts from which an image's package managers are set up to take packages: what
 * fills the slot of the preset of that name.
 *
 * They stand in the variables that those programs read (PIP_INDEX_URL, NPM_CONFIG_REGISTRY, GOPROXY
 * and their like), which the image sets, or the user with --env, in the files that they read
 * (image/registries.h; noted when the image is imported), and in the image's label berm.registries,
 * a list of hosts or URLs. No host is known here by itself.
 *
 * Hostile   the image's variables, files and label. They open no more than reading (the preset's
 *           rules) of hosts with a name; what is no such host is passed over
 */
#pragma once

#include "image/meta.h"
#include "policy/limits.h"
#include "state/strings.h"

/*
 * Adds "host" or "host:port" of each, once: from env, NULL-ended and NAME=VALUE, and from what the
 * image says, which may be NULL. hosts has room for POLICY_SLOT_HOSTS_MAX; more are passed over.
 * -ENOMEM.
 */
_must_ int registries_find(struct strings *hosts, const char *const *env,
                           const struct image_meta *meta, struct err *e);
