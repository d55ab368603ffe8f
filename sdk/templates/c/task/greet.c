#include "greet.h"
#include <stdio.h>

void greet(char *into, size_t size, const char *name) {
    snprintf(into, size, "Hello, %s!", name);
}
