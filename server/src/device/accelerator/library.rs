//! Finds libtorch's accelerators, and says why there are none.
//!
//! The library that brings them is loaded at run time, before anything asks libtorch for
//! accelerators: it remembers the first answer.

use std::path::Path;

use super::ffi::{self, Failure};

/// The driver of NVIDIA's GPUs.
const DRIVER: &str = "libcuda.so.1";

/// The kind of accelerator that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// libtorch's name, as "cuda".
    pub(super) kind: String,
    /// How many; at least 1.
    pub(super) count: u32,
}

/// Why there is no accelerator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Missing {
    /// The library is nowhere.
    #[error(
        "{library} was not found, neither {beside} nor on the library path; set LD_LIBRARY_PATH to the lib folder of a libtorch {version} built for CUDA"
    )]
    NotFound {
        /// The library.
        library: String,
        /// Where it was looked for first.
        beside: String,
        /// The version that fits.
        version: String,
    },
    /// A library that it needs is nowhere.
    #[error(
        "{library} was found, but not what it needs: {reason}; add that library's folder to LD_LIBRARY_PATH"
    )]
    Dependency {
        /// The library.
        library: String,
        /// What the system says.
        reason: String,
    },
    /// It was made for another libtorch.
    #[error(
        "{library} is not of the same version as this libtorch ({version}): {reason}; take both from one build"
    )]
    Version {
        /// The library.
        library: String,
        /// The version that fits.
        version: String,
        /// What the system says.
        reason: String,
    },
    /// It is no library, or the system refuses it.
    #[error("{library} does not load: {reason}")]
    Unusable {
        /// The library.
        library: String,
        /// What the system says.
        reason: String,
    },
    /// It loads and brings nothing.
    #[error("{library} was loaded, but registers no accelerator with libtorch")]
    RegistersNothing {
        /// The library.
        library: String,
    },
    /// The driver is missing.
    #[error("there is no driver for {kind} devices: {reason}; install the driver of the GPU")]
    NoDriver {
        /// libtorch's name of the devices.
        kind: String,
        /// What the system says.
        reason: String,
    },
    /// The driver is there, and shows no device.
    #[error(
        "libtorch sees no {kind} device, though the driver is there; see whether nvidia-smi lists one, whether its driver is new enough, and whether CUDA_VISIBLE_DEVICES hides it"
    )]
    NoDevice {
        /// libtorch's name of the devices.
        kind: String,
    },
    /// libtorch failed when it was asked.
    #[error("libtorch cannot list its accelerators: {0}")]
    Failed(String),
}

/// Loads `library` and counts what it brings.
pub(super) fn find(library: &str) -> Result<Found, Missing> {
    load(library)?;
    match ffi::count() {
        Ok(Some((kind, count))) if count > 0 => Ok(Found { kind, count }),
        Ok(Some((kind, _))) => Err(without_device(kind)),
        Ok(None) => Err(Missing::RegistersNothing {
            library: library.to_owned(),
        }),
        Err(Failure::Operation(text) | Failure::OutOfMemory(text) | Failure::Final(text)) => {
            Err(Missing::Failed(shortened(&text)))
        }
    }
}

/// Loads from the library path, else from the folder of libtorch itself.
fn load(library: &str) -> Result<(), Missing> {
    let Err(text) = ffi::load_library(library) else {
        return Ok(());
    };
    let libtorch = ffi::libtorch_file().unwrap_or_default();
    let folder = Path::new(&libtorch).parent().unwrap_or(Path::new(""));
    let missing = classify(library, &text, folder);
    if !matches!(missing, Missing::NotFound { .. }) || library.contains('/') {
        return Err(missing);
    }
    let beside = folder.join(library);
    if !beside.is_file() {
        return Err(missing);
    }
    let beside = beside.display().to_string();
    ffi::load_library(&beside).map_err(|text| classify(&beside, &text, folder))
}

/// Reads what the system says about a library that does not load.
fn classify(library: &str, text: &str, folder: &Path) -> Missing {
    let (library, reason) = (library.to_owned(), shortened(text));
    let absent = text.contains("No such file or directory");
    if absent && text.starts_with(&*library) {
        Missing::NotFound {
            library,
            beside: format!("in {}", folder.display()),
            version: ffi::libtorch_version(),
        }
    } else if absent {
        Missing::Dependency { library, reason }
    } else if text.contains("undefined symbol") || text.contains("version `") {
        Missing::Version {
            library,
            version: ffi::libtorch_version(),
            reason,
        }
    } else {
        Missing::Unusable { library, reason }
    }
}

fn without_device(kind: String) -> Missing {
    if kind != "cuda" {
        return Missing::NoDevice { kind };
    }
    match ffi::load_library(DRIVER) {
        Ok(()) => Missing::NoDevice { kind },
        Err(text) => Missing::NoDriver {
            kind,
            reason: shortened(&text),
        },
    }
}

/// Cuts a text of the system's or of libtorch's to its first line, at most.
pub(super) fn shortened(text: &str) -> String {
    const LONGEST: usize = 300;
    let line = text.lines().next().unwrap_or_default();
    line.trim().chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Missing {
        classify("libtorch_cuda.so", text, Path::new("/opt/torch/lib"))
    }

    #[test]
    fn what_the_system_says_becomes_a_reason_with_its_mend() {
        let absent = "cannot open shared object file: No such file or directory";
        let missing = told(&format!("libtorch_cuda.so: {absent}"));
        assert!(matches!(missing, Missing::NotFound { .. }));
        let text = missing.to_string();
        for part in ["in /opt/torch/lib", "LD_LIBRARY_PATH", "2.11.0"] {
            assert!(text.contains(part), "{text}");
        }
        let missing = told(&format!("libcudnn.so.9: {absent}"));
        assert!(missing.to_string().contains("libcudnn.so.9"), "{missing}");
        assert!(matches!(missing, Missing::Dependency { .. }));
        let symbol = "/x/libtorch_cuda.so: undefined symbol: _ZN3c104cuda";
        assert!(matches!(told(symbol), Missing::Version { .. }));
        let no_elf = "/x/libtorch_cuda.so: invalid ELF header";
        assert!(matches!(told(no_elf), Missing::Unusable { .. }));
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(shortened("first\nframe #0"), "first");
        assert_eq!(shortened(&"x".repeat(9000)).len(), 300);
    }
}
