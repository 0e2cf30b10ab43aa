// The C interface between server/src/torch and AOTInductor's packages. Nothing throws through it:
// where a call can fail it returns null or false and puts a text into `error`, which fb_free_text
// frees.

#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

// A loaded package: its weights, and as many runners over them as were asked for. Its functions may
// be called from several threads at a time.
struct FbPackage;

// Returns the package's metadata, a JSON object, without loading or unpacking anything else.
char* fb_package_describe(const char* file, char** error);

// Loads a package for the CPU, where `device` is negative, or for the accelerator of that index.
FbPackage* fb_package_load(const char* file, size_t runners, int device, char** error);

void fb_package_free(FbPackage* package);

// Returns two lines of JSON: how inputs and outputs are nested and named, as torch.utils._pytree
// has it.
char* fb_package_call_spec(FbPackage* package, char** error);

// Runs the package on `inputs`, at::Tensors that are borrowed, on the calling thread's current
// stream, or on the CPU. Each output is handed to `take` as a new at::Tensor. `no_memory` tells
// whether the accelerator ran out of memory.
bool fb_package_run(
    FbPackage* package,
    void* const* inputs,
    size_t count,
    void* sink,
    void (*take)(void* sink, void* tensor),
    bool* no_memory,
    char** error);

// Loads a package for the CPU, runs it once with the checks of datatypes and shapes that are compiled
// into it, and unloads it.
bool fb_package_probe(const char* file, void* const* inputs, size_t count, char** error);
}
