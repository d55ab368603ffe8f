#undef NDEBUG
#include "words.h"
#include <assert.h>
#include <string.h>

int main(void) {
    struct summary summary = count_words((struct string){"every word counts", 17});
    assert(summary.words == 3 && summary.longest.length == 6 && memcmp(summary.longest.start, "counts", 6) == 0);
    assert(count_words((struct string){"", 0}).words == 0);
    return 0;
}
