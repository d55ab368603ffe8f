/* The plugin {{name}} as the host sees it: its functions are those of wit/plugin.wit, by the component model's canonical
   ABI. A string goes in as pointer and length, a record comes back as a pointer to its fields. */
#include "words.h"
#include <stdlib.h>

/* What the host puts its arguments into. */
__attribute__((export_name("cabi_realloc")))
void *cabi_realloc(void *old, size_t old_size, size_t alignment, size_t size) {
    (void)old_size, (void)alignment;
    void *new = realloc(old, size);
    if (new == NULL) __builtin_trap();
    return new;
}

/* The text of the call that is going on. */
static char *given;

__attribute__((export_name("summarize")))
struct summary *summarize(char *text, size_t length) {
    static struct summary summary;
    given = text;
    summary = count_words((struct string){text, length});
    return &summary;
}

/* Called when the host has taken the summary, whose longest word is a part of the text. */
__attribute__((export_name("cabi_post_summarize")))
void cabi_post_summarize(struct summary *summary) {
    (void)summary;
    free(given);
}
