use super::*;

/// What the interpreter makes of an error in an operation, or of what an author raises.
fn in_torchscript(class: &str, message: &str) -> String {
    format!(
        "The following operation failed in the TorchScript interpreter.\n\
         Traceback of TorchScript, serialized code (most recent call last):\n  \
           File \"code/__torch__.py\", line 6, in forward\n    \
             y = torch.matmul(x, self.weight)\n        \
             ~~~~~~~~~~~~ <--- HERE\n\
         \n\
         Traceback of TorchScript, original code (most recent call last):\n  \
           File \"model.py\", line 9, in forward\n    \
             return x @ self.weight\n\
         {class}: {message}\n"
    )
}

const ALLOCATOR: &str = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity \
    of 23.69 GiB of which 6.94 MiB is free. Including non-PyTorch memory, this process has 23.68 GiB \
    memory in use. Of the allocated memory 23.35 GiB is allocated by PyTorch, and 10.00 MiB is \
    reserved by PyTorch but unallocated.";

const ILLEGAL: &str = "CUDA error: an illegal memory access was encountered\n\
    Search for `cudaErrorIllegalAddress' in https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html for more information.\n\
    CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be incorrect.\n\
    For debugging consider passing CUDA_LAUNCH_BLOCKING=1\n\
    Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n\
    Exception raised from c10_cuda_check_implementation at /pytorch/c10/cuda/CUDAException.cpp:44 (most recent call first):\n\
    frame #0: c10::Error::Error(c10::SourceLocation, std::string) + 0x96";

#[test]
fn missing_memory_is_told_from_texts_of_allocators_and_libraries() {
    for text in [
        ALLOCATOR,
        &format!("Internal torch error: {ALLOCATOR}"),
        &in_torchscript("RuntimeError", ALLOCATOR),
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: \
         you tried to allocate 4398046511104 bytes. Error code 12 (Cannot allocate memory)",
        "std::bad_alloc",
    ] {
        assert_eq!(classify(text), Failure::OutOfMemory, "{text}");
    }
}

#[test]
fn an_error_that_stays_is_told_from_the_texts_of_the_runtime() {
    for error in FINAL {
        let text =
            format!("CUDA error: {error}\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1");
        assert_eq!(classify(&text), Failure::Final, "{text}");
        assert_eq!(
            classify(&in_torchscript("RuntimeError", &text)),
            Failure::Final,
            "{text}"
        );
    }
    assert_eq!(classify(ILLEGAL), Failure::Final);
}

#[test]
fn a_device_that_is_gone_is_told_from_the_texts_of_the_runtime() {
    for text in [
        "CUDA error: unknown error\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: no CUDA-capable device is detected",
        "CUDA error: all CUDA-capable devices are busy or unavailable",
        "CUDA error: CUDA-capable device(s) is/are busy or unavailable",
    ] {
        assert_eq!(classify(text), Failure::Final, "{text}");
    }
    assert_eq!(classify("an unknown error"), Failure::Other);
}

#[test]
fn other_texts_fail_a_batch_only() {
    for text in [
        "",
        "CUDA error: invalid argument\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1",
        "CUDA error: invalid configuration argument",
        "CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasGemmEx(...)`",
        "mat1 and mat2 shapes cannot be multiplied (1x3 and 4x4)",
        "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!",
    ] {
        assert_eq!(classify(text), Failure::Other, "{text}");
        let within = in_torchscript("RuntimeError", text);
        assert_eq!(classify(&within), Failure::Other, "{within}");
    }
}

#[test]
fn what_an_author_raises_is_never_taken_for_the_devices_own() {
    for message in [
        ILLEGAL,
        ALLOCATOR,
        &format!("first line\nRuntimeError: {ILLEGAL}"),
    ] {
        for class in [
            "builtins.RuntimeError",
            "builtins.ValueError",
            "builtins.AssertionError",
        ] {
            let text = in_torchscript(class, message);
            assert_eq!(classify(&text), Failure::Other, "{text}");
        }
    }
}
