// The service as the host sees it: `wasi:http/incoming-handler`, by the component model's canonical ABI.
package main

import (
	"runtime"
	"strconv"
	"unsafe"
)

const (
	// What a function that answers with more than a number writes it to. An error code of wasi:http is the largest.
	answerSize = 48
	// The stream takes no more at once.
	pieceSize = 4096
)

// Memory that the host has filled; it is ours until the next request.
var held [][]byte

// The component's own realloc: the host asks for memory for what it returns. Not `cabi_realloc`, which is called
// before Go has started.
//
//go:wasmexport cabi_import_realloc
func realloc(old unsafe.Pointer, oldSize, align, size uint32) unsafe.Pointer {
	memory := make([]byte, max(size, 1))
	if old != nil {
		copy(memory, unsafe.Slice((*byte)(old), oldSize))
	}
	held = append(held, memory)
	return unsafe.Pointer(&memory[0])
}

//go:wasmimport wasi:http/types@0.2.10 [method]incoming-request.path-with-query
func pathWithQuery(request int32, into unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.10 [resource-drop]incoming-request
func dropRequest(request int32)

//go:wasmimport wasi:http/types@0.2.10 [static]fields.from-list
func fieldsFromList(entries unsafe.Pointer, count int32, into unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.10 [constructor]outgoing-response
func newResponse(fields int32) int32

//go:wasmimport wasi:http/types@0.2.10 [method]outgoing-response.set-status-code
func setStatus(response, status int32) int32

//go:wasmimport wasi:http/types@0.2.10 [method]outgoing-response.body
func responseBody(response int32, into unsafe.Pointer)

//go:wasmimport wasi:http/types@0.2.10 [static]response-outparam.set
func respond(out, isError, response, a int32, b int64, c, d, e, f int32)

//go:wasmimport wasi:http/types@0.2.10 [method]outgoing-body.write
func bodyStream(body int32, into unsafe.Pointer)

//go:wasmimport wasi:io/streams@0.2.10 [method]output-stream.blocking-write-and-flush
func write(stream int32, start unsafe.Pointer, length int32, into unsafe.Pointer)

//go:wasmimport wasi:io/streams@0.2.10 [resource-drop]output-stream
func dropStream(stream int32)

//go:wasmimport wasi:http/types@0.2.10 [static]outgoing-body.finish
func finish(body, hasTrailers, trailers int32, into unsafe.Pointer)

// A name and a value by their addresses, which have 32 bits for the host and 64 for Go.
type header struct {
	name, nameLength, value, valueLength uint32
}

func newHeader(name, value string) header {
	return header{address(name), uint32(len(name)), address(value), uint32(len(value))}
}

func address(text string) uint32 {
	return uint32(uintptr(unsafe.Pointer(unsafe.StringData(text))))
}

//go:wasmexport wasi:http/incoming-handler@0.2.10#handle
func handle(request, out int32) {
	held = nil
	var into [answerSize / 8]uint64
	at := unsafe.Pointer(&into)
	word := func(offset uintptr) *uint32 { return (*uint32)(unsafe.Add(at, offset)) }

	pathWithQuery(request, at)
	target := "/"
	if *word(0)&0xff == 1 {
		target = unsafe.String((*byte)(unsafe.Pointer(uintptr(*word(4)))), *word(8))
	}
	status, text := answer(target)
	dropRequest(request)

	length := strconv.Itoa(len(text))
	headers := []header{
		newHeader("content-type", "text/plain; charset=utf-8"),
		newHeader("content-length", length),
	}
	fieldsFromList(unsafe.Pointer(&headers[0]), int32(len(headers)), at)
	runtime.KeepAlive(length)
	response := newResponse(int32(*word(4)))
	setStatus(response, int32(status))
	responseBody(response, at)
	body := int32(*word(4))
	respond(out, 0, response, 0, 0, 0, 0, 0, 0)
	bodyStream(body, at)
	stream := int32(*word(4))
	for rest := text; rest != ""; {
		piece := rest[:min(len(rest), pieceSize)]
		write(stream, unsafe.Pointer(unsafe.StringData(piece)), int32(len(piece)), at)
		if *word(0)&0xff != 0 {
			break // the client has gone
		}
		rest = rest[len(piece):]
	}
	dropStream(stream)
	finish(body, 0, 0, at)
}
