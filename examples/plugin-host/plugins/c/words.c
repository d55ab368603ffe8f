/* The functions have the names and shapes of the component model's canonical ABI: a string goes in as pointer and
   length, a record comes back as a pointer to its fields. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct string { const char *start; size_t length; };
struct summary { uint32_t words; struct string longest; };

__attribute__((import_module("$root"), import_name("log")))
void host_log(const char *start, size_t length);

/* What the host puts its arguments into. */
__attribute__((export_name("cabi_realloc")))
void *cabi_realloc(void *old, size_t old_size, size_t alignment, size_t size) {
    (void)old_size, (void)alignment;
    void *new = realloc(old, size);
    if (new == NULL) __builtin_trap();
    return new;
}

static int is_ignored(struct string word) {
    const char *ignored = getenv("IGNORE");
    while (ignored != NULL && *ignored != '\0') {
        size_t length = strcspn(ignored, " ");
        if (length == word.length && memcmp(ignored, word.start, length) == 0) return 1;
        ignored += length + strspn(ignored + length, " ");
    }
    return 0;
}

/* The text of the call that is going on. */
static char *given;

__attribute__((export_name("summarize")))
struct summary *summarize(char *text, size_t length) {
    given = text;
    static const char line[] = "C counts words";
    host_log(line, sizeof line - 1);

    static struct summary summary;
    summary = (struct summary){0, {text, 0}};
    for (size_t end, start = 0; start < length; start = end + 1) {
        for (end = start; end < length && text[end] != ' ';) end++;
        struct string word = {text + start, end - start};
        if (word.length == 0 || is_ignored(word)) continue;
        summary.words++;
        if (word.length > summary.longest.length) summary.longest = word;
    }
    return &summary;
}

/* Called when the host has taken the summary, whose longest word is a part of the text. */
__attribute__((export_name("cabi_post_summarize")))
void cabi_post_summarize(struct summary *summary) {
    (void)summary;
    free(given);
}

__attribute__((export_name("crash")))
void crash(void) {
    __builtin_trap();
}

__attribute__((export_name("spin")))
void spin(void) {
    for (volatile int turns = 0;; turns++) {}
}
