#include "cli/image_hold.h"

#include "cli/reach.h"
#include "lib/snapshot.h"
#include "state/jread.h"

#include <errno.h>
#include <string.h>

enum { SANDBOXES_NAMED_MAX = 3 };

struct image_hold {
	struct snapshot_list *list;
	struct image **images; /* one for each of the list; NULL: not here, damaged, held already */
};

void image_hold_free(struct image_hold *h)
{
	if (!h)
		return;
	for (size_t i = 0; h->images && i < h->list->count; i++)
		image_free(h->images[i]);
	free(h->images);
	snapshot_list_free(h->list);
	free(h);
}

static bool held(const struct image_hold *h, size_t count, const char *id)
{
	for (size_t i = 0; i < count; i++)
		if (h->images[i] && strcmp(h->list->rows[i].image_id, id) == 0)
			return true;
	return false;
}

int image_hold_new(int state_fd, struct image_store *s, struct image_hold **ret, struct err *e)
{
	_own_(image_hold_free) struct image_hold *h = calloc(1, sizeof(*h));
	int r;

	if (!h)
		return err_set(e, -ENOMEM, "out of memory");
	r = snapshot_list(state_fd, &h->list, e);
	if (r < 0)
		return r;
	h->images = calloc(h->list->count + 1, sizeof(struct image *));
	if (!h->images)
		return err_set(e, -ENOMEM, "out of memory");
	for (size_t i = 0; i < h->list->count; i++) {
		const char *id = h->list->rows[i].image_id;

		if (*id && !held(h, i, id) && image_open(s, id, &h->images[i], NULL) < 0)
			h->images[i] = NULL; /* it was removed by force */
	}
	*ret = steal_ptr(&h);
	return 0;
}

const char *image_hold_user(const struct image_hold *h, struct image_store *s, const char *ref)
{
	_own_(image_free) struct image *image = NULL;

	if (image_open(s, ref, &image, NULL) < 0)
		return NULL;
	for (size_t i = 0; i < h->list->count; i++)
		if (strcmp(h->list->rows[i].image_id, image->meta->id) == 0)
			return h->list->rows[i].name;
	return NULL;
}

/* Its supervisor is asked: a name it was started with may be another image's by now. */
static bool runs_on(struct cli *c, const char *sandbox, const char *image_id)
{
	_own_(client_free) struct client *client = NULL;
	_own_(jread_free) json_t *o = NULL;
	_own_free_ char *json = NULL;
	char got[IMAGE_ID_LEN + 1] = "";

	return reach_client(c, sandbox, NULL, &client, NULL) == 0 &&
	       reach_info(client, &json, NULL) == 0 &&
	       jread_object(span_str(json), &o, NULL) == 0 &&
	       jread_text(o, "image_id", got, sizeof(got)) && strcmp(got, image_id) == 0;
}

void image_hold_sandboxes(struct cli *c, struct image_store *s, const char *ref, struct buf *out)
{
	_own_(image_free) struct image *image = NULL;
	_own_(state_list_free) struct state_list *list = NULL;
	unsigned found = 0;

	if (image_open(s, ref, &image, NULL) < 0 || state_list(c->state_fd, false, &list, NULL) < 0)
		return;
	for (size_t i = 0; i < list->count; i++) {
		const struct state_info *info = &list->items[i];

		if (!runs_on(c, info->id, image->meta->id))
			continue;
		if (found++ == SANDBOXES_NAMED_MAX) {
			buf_put_str(out, " and others");
			return;
		}
		buf_printf(out, "%s'%s'", found > 1 ? ", " : "",
		           *info->name ? info->name : info->id);
	}
}
