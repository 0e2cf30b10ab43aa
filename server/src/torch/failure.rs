//! What kind of failure a text of libtorch's tells of.
//!
//! Errors cross TorchScript's interpreter, and the shim, as text alone. Only the line counts that
//! libtorch itself wrote for what was thrown: a model's author may raise any text, and a client may
//! have a hand in it.

/// A kind of failure that the executor deals with in a way of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There was no memory for an operation; others may succeed.
    OutOfMemory,
    /// The device is broken for this process, and all that is tried on it from here on fails too.
    Final,
    /// Anything else.
    Other,
}

/// How texts about missing memory begin, of allocators and of CUDA's libraries.
const OUT_OF_MEMORY: [&str; 8] = [
    "CUDA out of memory.",
    "HIP out of memory.",
    "XPU out of memory.",
    "CUDA error: out of memory",
    "HIP error: out of memory",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "std::bad_alloc",
];

/// What stands somewhere in the text of the CPU's allocator, behind a place in the source.
const HOST_OUT_OF_MEMORY: &str = "DefaultCPUAllocator: can't allocate memory";

/// The errors of the CUDA runtime after which, by its documentation, the process must be started
/// anew, those of broken hardware, and those of a device that is gone: the texts of
/// `cudaGetErrorString`.
const FINAL: [&str; 16] = [
    "an illegal memory access was encountered",
    "device-side assert triggered",
    "unspecified launch failure",
    "uncorrectable ECC error encountered",
    "uncorrectable NVLink error detected during the execution",
    "Invalid access of peer GPU memory over nvlink or a hardware error",
    "hardware stack error",
    "an illegal instruction was encountered",
    "misaligned address",
    "operation not supported on global/shared address space",
    "invalid program counter",
    "the launch timed out and was terminated",
    "unknown error",
    "no CUDA-capable device is detected",
    "all CUDA-capable devices are busy or unavailable",
    "CUDA-capable device(s) is/are busy or unavailable",
];

/// Tells what kind of failure `text` is about.
pub(crate) fn classify(text: &str) -> Failure {
    let said = said(text);
    if OUT_OF_MEMORY.iter().any(|start| said.starts_with(start))
        || (said.starts_with("[enforce fail at ") && said.contains(HOST_OUT_OF_MEMORY))
    {
        return Failure::OutOfMemory;
    }
    let error = ["CUDA error: ", "HIP error: "]
        .iter()
        .find_map(|prefix| said.strip_prefix(prefix));
    match error {
        Some(error) if FINAL.iter().any(|start| error.starts_with(start)) => Failure::Final,
        _ => Failure::Other,
    }
}

/// Returns the line that libtorch wrote for what was thrown. Behind TorchScript's back traces that
/// is the first one, where it names no class of Python's, as it does for what an author raised.
fn said(text: &str) -> &str {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let line = thrown(&lines).or(lines.first().copied()).unwrap_or("");
    let line = line.strip_prefix("Internal torch error: ").unwrap_or(line);
    line.strip_prefix("RuntimeError: ").unwrap_or(line)
}

/// Finds the line that says what was thrown: the first one that is not indented behind the back
/// traces of TorchScript, of which there is one of the serialized code and may be one of the
/// original. Further lines of the author's text come behind it.
pub(crate) fn thrown<'a>(lines: &[&'a str]) -> Option<&'a str> {
    let is_trace = |line: &&str| line.starts_with("Traceback of TorchScript");
    let mut behind = lines.iter().skip_while(|line| !is_trace(line));
    behind
        .find(|line| !is_trace(line) && !line.starts_with(char::is_whitespace))
        .copied()
}

#[cfg(test)]
#[path = "failure_tests.rs"]
mod tests;
