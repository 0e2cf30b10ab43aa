// The C interface between server/src/torch and libtorch. Nothing throws through it: where a call can
// fail it returns null or false and puts a text into `error`, which fb_free_text frees.

#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

// A loaded TorchScript module.
struct FbModule;

// What a forward pass gave.
struct FbOutputs;

// An argument of a forward pass. `kind` tells which field counts.
struct FbArgument {
  int32_t kind; // 0 none, 1 tensor, 2 integer, 3 real, 4 boolean, 5 texts
  void* tensor; // an at::Tensor, borrowed
  int64_t integer; // also the boolean, and the number of texts
  double real;
  const uint8_t* texts; // each a little-endian uint32 length and that many bytes
  size_t texts_bytes;
};

// Loads a module from a file, in evaluation mode, onto the accelerator of index `device`, or onto
// the CPU where that is negative. `form` is 0 for the module as it was saved, 1 for one with its
// constants folded in, 2 for one whose graph is optimized for inference as well.
FbModule* fb_module_load(const char* file, int device, int form, char** error);

// Makes one in another form of a pure module that was loaded onto the CPU as it was saved. What
// stays the same of its weights is shared.
FbModule* fb_module_in_form(const FbModule* saved, int form, char** error);

void fb_module_free(FbModule* module);

// Whether passes are known to change nothing in the module, so that several threads may run it at
// once.
bool fb_module_is_pure(const FbModule* module);

// Whether `forward` of both runs the same operations, on weights of the same shapes and with the same
// numbers, not counting what weights are read by.
bool fb_module_runs_the_same(const FbModule* one, const FbModule* other);

// The bytes of the tensors that the module and its graphs hold, memory that several share counted
// once.
uint64_t fb_module_bytes(const FbModule* module);

// Gives free memory of the C allocator back to the system, where that is glibc's.
void fb_trim();

// Sets, for the whole process, whether graphs are specialised for what their first passes saw.
void fb_profiling(bool on);

// Describes method `forward`, a line for each fact with three fields parted by tabs: "argument" or
// "default" (an argument with a default value), name, type; "returns", "", type; "method",
// "reset_states", ""; "training", "", "" where it was saved in training mode.
char* fb_module_schema(FbModule* module, char** error);

// Runs `forward`, without gradients. Nested tuples and lists come out flat.
FbOutputs* fb_module_forward(
    FbModule* module, const FbArgument* arguments, size_t count, char** error);

// Runs `reset_states`.
bool fb_module_reset(FbModule* module, char** error);

size_t fb_outputs_count(const FbOutputs* outputs);

// Takes an output out as a new at::Tensor; null where it is none.
void* fb_outputs_tensor(FbOutputs* outputs, size_t index);

// Lends the texts of an output in the form of FbArgument; null where it has none.
const uint8_t* fb_outputs_texts(
    const FbOutputs* outputs, size_t index, size_t* count, size_t* bytes);

void fb_outputs_free(FbOutputs* outputs);

// Makes an at::Tensor over `data`, contiguous, on the CPU. `drop_owner(owner)` is called once, when
// the last tensor that shares the memory is gone, or on failure.
void* fb_tensor_over(
    void* data,
    const int64_t* dims,
    size_t rank,
    int scalar_type,
    void* owner,
    void (*drop_owner)(void*),
    char** error);

// Whether anything but this at::Tensor refers to its memory, or that is more than twice what it needs.
bool fb_tensor_is_shared(const void* tensor);

// Whether the elements of an at::Tensor lie in the memory of the CPU as its shape says, with nothing between
// them; if so, tells their `bytes`.
bool fb_tensor_is_dense(const void* tensor, size_t* bytes);

void fb_free_text(char* text);

// Ends the process at once. The destructors of libraries do not run: threads may still use what those
// would take away.
[[noreturn]] void fb_leave(int status);
}
