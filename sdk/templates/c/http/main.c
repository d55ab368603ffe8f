/* The service {{name}} as the host sees it: wasi:http/incoming-handler, by the component model's canonical ABI. What it
   answers is in answers.c. */
#include "answers.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HTTP "wasi:http/types@0.2.10"
#define STREAMS "wasi:io/streams@0.2.10"
#define IMPORT(module, name) __attribute__((import_module(module), import_name(name)))

/* What a function that answers with more than a number writes it to: whether it failed, or whether there is anything, and
   then what. An error code of wasi:http is the largest. */
union result {
    struct { uint8_t tag; int32_t handle; };
    struct { uint8_t is_some; const char *start; size_t length; };
    uint64_t room[6];
};

struct header { const char *name; size_t name_length; const char *value; size_t value_length; };

IMPORT(HTTP, "[method]incoming-request.path-with-query") void path_with_query(int32_t request, union result *into);
IMPORT(HTTP, "[resource-drop]incoming-request") void drop_request(int32_t request);
IMPORT(HTTP, "[static]fields.from-list") void new_fields(struct header *entries, size_t count, union result *into);
IMPORT(HTTP, "[constructor]outgoing-response") int32_t new_response(int32_t fields);
IMPORT(HTTP, "[method]outgoing-response.set-status-code") int32_t set_status(int32_t response, int32_t status);
IMPORT(HTTP, "[method]outgoing-response.body") void response_body(int32_t response, union result *into);
IMPORT(HTTP, "[static]response-outparam.set")
void respond(int32_t out, int32_t is_error, int32_t response, int32_t a, int64_t b, int32_t c, int32_t d, int32_t e, int32_t f);
IMPORT(HTTP, "[method]outgoing-body.write") void body_stream(int32_t body, union result *into);
IMPORT(HTTP, "[static]outgoing-body.finish")
void finish(int32_t body, int32_t has_trailers, int32_t trailers, union result *into);
IMPORT(STREAMS, "[method]output-stream.blocking-write-and-flush")
void write_and_flush(int32_t stream, const char *start, size_t length, union result *into);
IMPORT(STREAMS, "[resource-drop]output-stream") void drop_stream(int32_t stream);

/* What the host puts its strings into. */
__attribute__((export_name("cabi_realloc")))
void *cabi_realloc(void *old, size_t old_size, size_t alignment, size_t size) {
    (void)old_size, (void)alignment;
    void *new = realloc(old, size);
    if (new == NULL) __builtin_trap();
    return new;
}

__attribute__((export_name("wasi:http/incoming-handler@0.2.10#handle")))
void handle(int32_t request, int32_t out) {
    union result result;
    path_with_query(request, &result);
    drop_request(request);
    char text[1024];
    int status = result.is_some ? answer(text, sizeof text, result.start, result.length) : answer(text, sizeof text, "/", 1);
    if (result.is_some) free((void *)result.start);

    char length[16];
    snprintf(length, sizeof length, "%zu", strlen(text));
    struct header headers[] = {
        {"content-type", 12, "text/plain; charset=utf-8", 25},
        {"content-length", 14, length, strlen(length)},
    };
    new_fields(headers, 2, &result);
    int32_t response = new_response(result.handle);
    set_status(response, status);
    response_body(response, &result);
    int32_t body = result.handle;
    respond(out, 0, response, 0, 0, 0, 0, 0, 0);

    body_stream(body, &result);
    int32_t stream = result.handle;
    /* It takes up to 4096 bytes at once. An error means that the client has gone. */
    write_and_flush(stream, text, strlen(text), &result);
    drop_stream(stream);
    finish(body, 0, 0, &result);
}
