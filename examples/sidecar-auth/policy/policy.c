/* The sidecar: one function, of the shape that the component model's canonical ABI gives it. A string comes in as
   pointer and length; a result goes out as a pointer to its tag and what is behind it.

   Who there is comes from the environment: USERS is "name:token name:token", ADMINS is "name name". */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct string { const char *start; size_t length; };

enum denial { UNAUTHENTICATED, FORBIDDEN };

struct result {
    uint8_t is_error;
    union { struct string user; uint8_t denial; };
};

/* What the caller's arguments are put into. */
__attribute__((export_name("cabi_realloc")))
void *cabi_realloc(void *old, size_t old_size, size_t alignment, size_t size) {
    (void)old_size, (void)alignment;
    void *new = realloc(old, size);
    if (new == NULL) __builtin_trap();
    return new;
}

static int begins_with(struct string text, const char *prefix) {
    size_t length = strlen(prefix);
    return text.length >= length && memcmp(text.start, prefix, length) == 0;
}

/* Takes as long for a token that is nearly right as for any other. */
static int is_same_secret(struct string one, struct string other) {
    if (one.length != other.length) return 0;
    unsigned char difference = 0;
    for (size_t at = 0; at < one.length; at++) difference |= one.start[at] ^ other.start[at];
    return difference == 0;
}

/* Takes the next word off a list of words. */
static int next_word(const char **list, struct string *word) {
    if (*list == NULL) return 0;
    *list += strspn(*list, " ");
    *word = (struct string){*list, strcspn(*list, " ")};
    *list += word->length;
    return word->length > 0;
}

static int is_admin(struct string user) {
    const char *admins = getenv("ADMINS");
    for (struct string admin; next_word(&admins, &admin);)
        if (admin.length == user.length && memcmp(admin.start, user.start, user.length) == 0) return 1;
    return 0;
}

static struct result denied(enum denial denial) {
    return (struct result){.is_error = 1, .denial = denial};
}

static struct result judge(struct string authorization, struct string path) {
    static const char scheme[] = "Bearer ";
    if (!begins_with(authorization, scheme)) return denied(UNAUTHENTICATED);
    struct string token = {authorization.start + sizeof scheme - 1, authorization.length - (sizeof scheme - 1)};

    const char *users = getenv("USERS");
    for (struct string entry; next_word(&users, &entry);) {
        const char *colon = memchr(entry.start, ':', entry.length);
        if (colon == NULL) continue;
        struct string user = {entry.start, colon - entry.start};
        struct string secret = {colon + 1, entry.length - user.length - 1};
        if (!is_same_secret(token, secret)) continue;
        if (begins_with(path, "/admin") && !is_admin(user)) return denied(FORBIDDEN);
        return (struct result){.user = user};
    }
    return denied(UNAUTHENTICATED);
}

__attribute__((export_name("example:auth/policy@1.0.0#check")))
struct result *check(char *authorization, size_t authorization_length, char *path, size_t path_length) {
    static struct result result;
    result = judge((struct string){authorization, authorization_length}, (struct string){path, path_length});
    /* A sidecar has a log of its own. */
    if (result.is_error)
        printf("denied: %.*s\n", (int)path_length, path);
    else
        printf("%.*s may: %.*s\n", (int)result.user.length, result.user.start, (int)path_length, path);
    fflush(stdout);
    /* The user's name is a part of the environment, and no part of these. */
    free(authorization);
    free(path);
    return &result;
}
