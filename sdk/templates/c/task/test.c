#undef NDEBUG
#include "greet.h"
#include <assert.h>
#include <string.h>

int main(void) {
    char line[64];
    greet(line, sizeof line, "you");
    assert(strcmp(line, "Hello, you!") == 0);
    return 0;
}
