#include "answers.h"
#include <stdio.h>
#include <string.h>

int answer(char *into, size_t size, const char *target, size_t length) {
    const char *query = memchr(target, '?', length);
    if (query != NULL) length = query - target;

    static const char greet[] = "/greet/";
    size_t prefix = sizeof greet - 1;
    if (length == 1 && target[0] == '/') {
        snprintf(into, size, "Hello from {{name}}!\n");
        return 200;
    }
    if (length > prefix && memcmp(target, greet, prefix) == 0 && !memchr(target + prefix, '/', length - prefix)) {
        snprintf(into, size, "Hello, %.*s!\n", (int)(length - prefix), target + prefix);
        return 200;
    }
    snprintf(into, size, "not found\n");
    return 404;
}
