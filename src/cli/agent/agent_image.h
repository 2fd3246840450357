/*
 * agent_image: the image that an agent's profile asks for, and the one that was built of it.
 *
 * `berm agent build NAME` makes the image agent/NAME. What it was made of is in the image's labels
 * (image.json): the agent, the digest of the recipe, the base's id, the time, and the packages as
 * the package managers printed them. What the agent answered to --version, in a fresh guest of that
 * image, is in STATE/agents/NAME/image.json, with the image's id.
 *
 * Hostile   labels and answer: a guest wrote both. They are shown escaped, and nothing is decided
 *           by them but what is said here of an image
 */
#pragma once

#include "agents/agent.h"
#include "image/store.h"

enum {
	AGENT_RECIPE_LEN = 7 + 64, /* "sha256:..." */
	AGENT_VERSION_MAX = 255,   /* bytes of the answer that are kept: one line */
	AGENT_IMAGE_WHY_MAX = 320,
	AGENT_IMAGE_RECORD_MAX = 64 << 10,
};

#define AGENT_LABEL          "berm.agent"
#define AGENT_LABEL_RECIPE   "berm.agent.recipe"
#define AGENT_LABEL_BASE     "berm.agent.base"
#define AGENT_LABEL_BUILT    "berm.agent.built"
#define AGENT_LABEL_PACKAGES "berm.agent.packages"

enum agent_image_is {
	AGENT_IMAGE_BASE,    /* the recipe has no packages, or --image names one: that image */
	AGENT_IMAGE_BUILT,   /* of this recipe and this base */
	AGENT_IMAGE_RECIPE,  /* built, and the recipe has changed since */
	AGENT_IMAGE_OLDBASE, /* built, and the base is another image since */
	AGENT_IMAGE_MISSING,
	AGENT_IMAGE_KINDS,
};

/* "base", "built", "recipe changed", "base changed", "missing" */
const char *agent_image_word(enum agent_image_is is);

struct agent_image {
	enum agent_image_is is;
	char ref[IMAGE_NAME_MAX + 1];        /* for image_open(): agent/NAME, or the base */
	char id[IMAGE_ID_LEN + 1];           /* "": missing */
	char recipe[AGENT_RECIPE_LEN + 1];   /* of the profile as it is */
	char made_of[AGENT_RECIPE_LEN + 1];  /* of the image; "" of a base */
	char base_id[IMAGE_ID_LEN + 1];      /* that it was built on; "" of a base */
	char built[32];                      /* when; "" of a base */
	char version[AGENT_VERSION_MAX + 1]; /* what the agent answered; "": not known */
	bool base_there;                     /* the base is in the store */
	char why[AGENT_IMAGE_WHY_MAX];       /* what to do; "" where nothing is */
};

/* Does the recipe ask for anything to be installed? With --image the image is taken as it is. */
bool agent_image_is_built(const struct agent *a);

/* The digest by which recipes are told apart: the base's name and all packages, in their order. */
void agent_recipe_digest(const struct agent *a, char ret[AGENT_RECIPE_LEN + 1]);

/* "agent/NAME" */
void agent_image_name(const struct agent *a, char ret[IMAGE_NAME_MAX + 1]);

/*
 * Which image a session with this agent starts, and what is to be said of it. state_fd may be -1.
 * -ENOMEM and what else the store says; that there is none is no error.
 */
_must_ int agent_image_look(struct image_store *s, int state_fd, const struct agent *a,
                            struct agent_image *ret, struct err *e);

/*
 * The same, for verbs that only look: the store is opened and closed, and no state directory made.
 */
struct cli;
_must_ int agent_image_look_only(const struct cli *c, const struct agent *a,
                                 struct agent_image *ret, struct err *e);

/* One line about it, without its end; and JSON members, without braces. */
void agent_image_put(struct buf *b, const struct agent_image *i);
void agent_image_put_json(struct buf *b, const struct agent_image *i);

/* Notes what an image's agent answered, in place of what was noted before. */
_must_ int agent_image_note(int state_fd, const struct agent *a, const char *id,
                            const char *version, struct err *e);
