#include "cli/agent/agent_image.h"

#include "base/fdio.h"
#include "base/kernel_gaps.h"
#include "cli/cli.h"
#include "policy/digest.h"
#include "state/jread.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char top_dir[] = "agents";
static const char record_name[] = "image.json";

const char *agent_image_word(enum agent_image_is is)
{
	static const char *const words[AGENT_IMAGE_KINDS] = {
		[AGENT_IMAGE_BASE] = "base",
		[AGENT_IMAGE_BUILT] = "built",
		[AGENT_IMAGE_RECIPE] = "recipe changed",
		[AGENT_IMAGE_OLDBASE] = "base changed",
		[AGENT_IMAGE_MISSING] = "missing",
	};

	return words[is];
}

bool agent_image_is_built(const struct agent *a)
{
	return strcmp(a->origin[AGENT_F_BASE], "--image") != 0 &&
	       a->apt.count + a->npm.count + a->pip.count > 0;
}

void agent_image_name(const struct agent *a, char ret[IMAGE_NAME_MAX + 1])
{
	(void)snprintf(ret, IMAGE_NAME_MAX + 1, "agent/%s", a->name);
}

/* --- the recipe --- */

static void put_words(struct buf *b, const char *manager, const struct agent_words *words)
{
	for (unsigned i = 0; i < words->count; i++) {
		buf_put_str(b, manager);
		buf_put_u8(b, ' ');
		buf_put_str(b, words->at[i]);
		buf_put_u8(b, '\n');
	}
}

void agent_recipe_digest(const struct agent *a, char ret[AGENT_RECIPE_LEN + 1])
{
	static const size_t size = (size_t)(3 * AGENT_WORDS_MAX + 2) * (AGENT_WORD_MAX + 8);
	_own_free_ uint8_t *room = malloc(size);
	uint8_t raw[TLV_DIGEST_BYTES];
	struct buf b;
	struct buf out;

	if (!room)
		abort(); /* 200 KB */
	buf_init(&b, room, size);
	buf_put_str(&b, "berm agent recipe 1\nbase ");
	buf_put_str(&b, a->base);
	buf_put_u8(&b, '\n');
	put_words(&b, "apt", &a->apt);
	put_words(&b, "npm", &a->npm);
	put_words(&b, "pip", &a->pip);
	policy_digest_of(buf_span(&b), raw);
	buf_init(&out, ret, AGENT_RECIPE_LEN + 1);
	buf_put_str(&out, "sha256:");
	for (unsigned i = 0; i < sizeof(raw); i++)
		buf_printf(&out, "%02x", raw[i]);
	(void)buf_cstr(&out);
}

/* --- the note --- */

static int open_notes(int state_fd, const char *agent, bool make, int *ret_fd, struct err *e)
{
	_own_fd_ int top = -1;
	int r;

	if (make && mkdirat(state_fd, top_dir, 0700) < 0 && errno != EEXIST)
		return err_sys(e, "make the folder '%s'", top_dir);
	r = fd_open_beneath(state_fd, top_dir, O_RDONLY | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS, &top,
	                    e);
	if (r < 0)
		return r;
	if (make && mkdirat(top, agent, 0700) < 0 && errno != EEXIST)
		return err_sys(e, "make the folder '%s'", agent);
	return fd_open_beneath(top, agent, O_RDONLY | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS, ret_fd,
	                       e);
}

int agent_image_note(int state_fd, const struct agent *a, const char *id, const char *version,
                     struct err *e)
{
	char room[8 * AGENT_VERSION_MAX];
	_own_fd_ int dir = -1;
	struct buf b;
	int r = open_notes(state_fd, a->name, true, &dir, e);

	if (r < 0)
		return r;
	buf_init(&b, room, sizeof(room));
	buf_printf(&b, "{\"format\":1,\"image\":\"%s\",\"version\":", id);
	buf_put_json_str(&b, span_of(version, strnlen(version, AGENT_VERSION_MAX)));
	buf_put_str(&b, "}\n");
	if (!buf_ok(&b))
		return err_set(e, -EMSGSIZE, "the agent's answer is too long");
	return fd_replace_file(dir, record_name, b.at, b.len, 0600, e);
}

/* What is no note of this image says nothing. */
static void read_note(int state_fd, const struct agent *a, struct agent_image *i)
{
	_own_(jread_free) json_t *o = NULL;
	_own_free_ char *text = NULL;
	char id[IMAGE_ID_LEN + 1] = "";
	_own_fd_ int dir = -1;
	size_t len;

	if (state_fd < 0 || open_notes(state_fd, a->name, false, &dir, NULL) < 0 ||
	    fd_read_file(dir, record_name, AGENT_IMAGE_RECORD_MAX, &text, &len, NULL) < 0 ||
	    jread_object(span_of(text, len), &o, NULL) < 0 ||
	    !jread_text(o, "image", id, sizeof(id)) || strcmp(id, i->id) != 0 ||
	    !jread_text(o, "version", i->version, sizeof(i->version)))
		i->version[0] = '\0';
}

/* --- looking --- */

static void take_label(const struct image *img, const char *key, char *ret, size_t size)
{
	const char *value = image_label(&img->meta->config, key);

	(void)snprintf(ret, size, "%s", value ? value : "");
}

static int look_at_base(struct image_store *s, const struct agent *a, struct agent_image *i,
                        struct err *e)
{
	_own_(image_free) struct image *img = NULL;
	struct err why = { 0 };
	int r = image_open(s, a->base, &img, &why);

	i->is = AGENT_IMAGE_BASE;
	(void)snprintf(i->ref, sizeof(i->ref), "%s", a->base);
	if (r == 0)
		(void)snprintf(i->id, sizeof(i->id), "%s", img->meta->id);
	else if (r == -ENOMEM)
		return err_set(e, r, "%s", why.text);
	else
		i->is = AGENT_IMAGE_MISSING;
	i->base_there = r == 0;
	(void)snprintf(i->why, sizeof(i->why), "%.300s", why.text);
	return 0;
}

static void judge(const struct agent *a, const char *base_id, struct agent_image *i)
{
	i->is = AGENT_IMAGE_BUILT;
	if (strcmp(i->made_of, i->recipe) != 0) {
		i->is = AGENT_IMAGE_RECIPE;
		(void)snprintf(i->why, sizeof(i->why),
		               "the profile's image: is another since it was built; berm agent "
		               "build %s",
		               a->name);
	} else if (i->base_there && strcmp(base_id, i->base_id) != 0) {
		i->is = AGENT_IMAGE_OLDBASE;
		(void)snprintf(i->why, sizeof(i->why),
		               "'%.160s' is another image since it was built; berm agent build %s",
		               a->base, a->name);
	}
}

int agent_image_look(struct image_store *s, int state_fd, const struct agent *a,
                     struct agent_image *ret, struct err *e)
{
	_own_(image_free) struct image *base = NULL;
	_own_(image_free) struct image *img = NULL;
	struct agent_image i = { 0 };
	struct err why = { 0 };
	int r;

	agent_recipe_digest(a, i.recipe);
	if (!agent_image_is_built(a)) {
		r = look_at_base(s, a, &i, e);
		if (r == 0)
			*ret = i;
		return r;
	}
	agent_image_name(a, i.ref);
	i.base_there = image_open(s, a->base, &base, NULL) == 0;
	r = image_open(s, i.ref, &img, &why);
	if (r == -ENOMEM)
		return err_set(e, r, "%s", why.text);
	if (r < 0) {
		i.is = AGENT_IMAGE_MISSING;
		if (r == -ENOENT)
			(void)snprintf(i.why, sizeof(i.why), "berm agent build %s makes it",
			               a->name);
		else
			(void)snprintf(i.why, sizeof(i.why), "%.160s; berm agent build %s",
			               why.text, a->name);
		*ret = i;
		return 0;
	}
	(void)snprintf(i.id, sizeof(i.id), "%s", img->meta->id);
	take_label(img, AGENT_LABEL_RECIPE, i.made_of, sizeof(i.made_of));
	take_label(img, AGENT_LABEL_BASE, i.base_id, sizeof(i.base_id));
	take_label(img, AGENT_LABEL_BUILT, i.built, sizeof(i.built));
	judge(a, base ? base->meta->id : "", &i);
	read_note(state_fd, a, &i);
	*ret = i;
	return 0;
}

int agent_image_look_only(const struct cli *c, const struct agent *a, struct agent_image *ret,
                          struct err *e)
{
	_own_(image_store_free) struct image_store *store = NULL;
	_own_fd_ int state_fd = -1;
	int r;

	if (fd_open(c->paths.state, O_RDONLY | O_DIRECTORY, 0, &state_fd, NULL) < 0)
		state_fd = -1;
	r = image_store_open(state_fd, c->paths.share, &store, e);
	return r < 0 ? r : agent_image_look(store, state_fd, a, ret, e);
}

/* --- saying it --- */

enum { SHORT_ID_LEN = 12 };

void agent_image_put(struct buf *b, const struct agent_image *i)
{
	buf_put_escaped(b, span_str(i->ref));
	if (i->id[0])
		buf_printf(b, "  %.*s", SHORT_ID_LEN, i->id);
	buf_printf(b, "  %s", agent_image_word(i->is));
	if (i->built[0]) {
		buf_put_u8(b, ' ');
		buf_put_escaped(b, span_str(i->built));
	}
	if (i->version[0]) {
		buf_put_str(b, ", ");
		buf_put_escaped(b, span_str(i->version));
	}
	if (i->why[0]) {
		buf_put_str(b, ": ");
		buf_put_escaped(b, span_str(i->why));
	}
}

static void put_member(struct buf *b, const char *name, const char *value)
{
	buf_printf(b, ",\"%s\":", name);
	if (value[0])
		buf_put_json_str(b, span_str(value));
	else
		buf_put_str(b, "null");
}

void agent_image_put_json(struct buf *b, const struct agent_image *i)
{
	buf_put_str(b, "\"ref\":");
	buf_put_json_str(b, span_str(i->ref));
	buf_printf(b, ",\"state\":\"%s\"", agent_image_word(i->is));
	put_member(b, "id", i->id);
	put_member(b, "recipe", i->recipe);
	put_member(b, "built_recipe", i->made_of);
	put_member(b, "base_id", i->base_id);
	put_member(b, "built", i->built);
	put_member(b, "version", i->version);
}
