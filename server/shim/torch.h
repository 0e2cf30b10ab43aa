// The C interface between server/src/torch/ffi.rs and libtorch. Texts that are returned, and those
// put into `error`, are freed by fb_free_text.

#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

// Describes method `forward` of the TorchScript file, a line for each fact with three fields parted
// by tabs: "argument" or "default" (an argument with a default value), name, type; "returns", "",
// type; "method", "reset_states", "". Returns null and sets `error` where the file does not load.
char* fb_schema(const char* file, char** error);

// Makes an at::Tensor over `data`, contiguous, on the CPU. `drop_owner(owner)` is called once, when
// the last tensor that shares the memory is gone. On failure returns null, sets `error`, and the
// owner stays the caller's.
void* fb_tensor_over(
    void* data,
    const int64_t* dims,
    size_t rank,
    int scalar_type,
    void* owner,
    void (*drop_owner)(void*),
    char** error);

void fb_free_text(char* text);
}
