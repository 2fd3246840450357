/*
 * copies: starting copies of a saved guest: for `fork`, and for `restore` in the background.
 *
 * All or none: when one cannot be started, or berm is told to end meanwhile, those that were are
 * ended again.
 */
#pragma once

#include "cli/cli.h"
#include "cli/egress/egress.h"
#include "lib/snapshot.h"

enum {
	COPIES_MAX = 256,
	COPY_NAME_BYTES = SPEC_NAME_MAX + 16, /* one that is too long, too */
};

struct image;

struct copies {
	const struct snapshot *from; /* borrowed */
	struct image *image;         /* held until they run; after copies_open_image() */
	struct spec spec;            /* of each, but for its name */
	const char *name;            /* of one, or what several names begin with; NULL: none */
	uint64_t count;
	struct egress *egress; /* flags about the network, prepared; borrowed; NULL: none */
	const char *parent;    /* id of the sandbox they are forks of; borrowed; NULL: none */
};

struct copy {
	char id[SPEC_ID_LEN + 1];
	char name[COPY_NAME_BYTES]; /* "" if it has none */
	struct client *client;
};

/* The options that are taken here, in a verb's table; its own begin at COPIES_OPT_NEXT. */
enum {
	COPIES_OPT_COUNT = 1,
	COPIES_OPT_NAME,
	COPIES_OPT_RM,
	COPIES_OPT_TIME,
	COPIES_OPT_IDLE,
	COPIES_OPT_OUTPUT,
	COPIES_OPT_NEXT,
};

/* Into cs->count, cs->name and cs->spec, judged. */
_must_ int copies_take_flags(struct copies *cs, const struct args *a, struct err *e);

/* What is saved (borrowed), if it fits here: cs->from and cs->spec, whose flags are to be taken
 * anew. */
_must_ int copies_begin(struct copies *cs, const struct cli *c, const struct snapshot *from,
                        struct err *e);

/* The image of the saved guest, by its id. -ENOENT says what to import. */
_must_ int copies_open_image(struct copies *cs, struct cli *c, struct err *e);
void copies_drop_image(struct copies *cs);

/*
 * What a copy with a network starts with: what the flags say, else the policy of the sandbox it is
 * a fork of, whose secrets it has as well; else nothing is let through.
 */
_must_ int copies_plan(const struct copies *cs, const struct cli *c, struct egress_plan *plan,
                       struct err *e);

/* Flags about the network: with the image's registries, and the secrets' values read. */
_must_ int copies_prepare_network(const struct copies *cs, struct cli *c, const struct args *a,
                                  struct err *e);

/* Are there flags about a network, and the saved guest has no card? -EINVAL. */
_must_ int copies_check_network(const struct copies *cs, struct err *e);

/* Starts them and prints their ids. Returns the exit status. */
int copies_run(struct copies *cs, struct cli *c);
