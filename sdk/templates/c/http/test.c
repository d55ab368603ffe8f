#undef NDEBUG
#include "answers.h"
#include <assert.h>
#include <string.h>

static char text[64];

static int ask(const char *target) {
    return answer(text, sizeof text, target, strlen(target));
}

int main(void) {
    assert(ask("/greet/you?x=1") == 200 && strcmp(text, "Hello, you!\n") == 0);
    assert(ask("/") == 200);
    assert(ask("/nowhere") == 404 && ask("/greet/") == 404 && ask("") == 404);
    return 0;
}
