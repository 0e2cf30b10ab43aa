//! The segment files of one directory: preallocated, without a name, past the page cache.
//!
//! A file without a name is gone when the process ends, however it ends. Space is allocated when
//! the file is made: writes that extend a file are several times slower.
//!
//! Invariant: no file of a [`Dir`] outlives its last handle, and only this user may open one.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    fs::{AtFlags, FallocateFlags, StatxFlags},
    io::Errno,
};

use crate::memory::ALIGNMENT;
use open::Way;

mod open;
#[cfg(test)]
mod tests;

/// What keeps a directory from being used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is missing and cannot be made.
    #[error("cannot make the spill directory {path}: make it, or give the right to")]
    Create {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It cannot be looked at.
    #[error("cannot look at the spill directory {path}")]
    Inspect {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is something else.
    #[error("{path} is no directory: name one for spilling")]
    NotADirectory {
        /// What was named.
        path: PathBuf,
    },
    /// Everybody may write to it, and remove what others made.
    #[error("everybody may write to {path}: take a directory of mode 0700 for spilling")]
    WorldWritable {
        /// The directory.
        path: PathBuf,
    },
    /// It lies in the memory that spilling is to save.
    #[error("{path} is on tmpfs, which is memory: take a directory on a disk, or allow tmpfs")]
    Tmpfs {
        /// The directory.
        path: PathBuf,
    },
    /// No file can be made in it.
    #[error("cannot make a file in the spill directory {path}: it must be writable")]
    Open {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Its disk wants larger borders than the memory has.
    #[error(
        "{path} wants transfers aligned to {bytes} bytes, above {ALIGNMENT}: take another disk"
    )]
    Alignment {
        /// The directory.
        path: PathBuf,
        /// What it wants.
        bytes: u32,
    },
}

/// A directory that files are made in.
#[derive(Debug)]
pub struct Dir {
    path: PathBuf,
    way: Way,
    /// Whether it was said that space cannot be allocated ahead.
    told: AtomicBool,
}

impl Dir {
    /// Opens a directory, made with mode 0700 where it is missing.
    ///
    /// # Errors
    /// It is none, cannot be written to, is open to everybody without a sticky bit, wants another
    /// alignment, or lies on tmpfs without `allow_tmpfs`.
    pub fn open(path: &Path, allow_tmpfs: bool) -> Result<Self, Error> {
        let path = path.to_path_buf();
        make(&path)?;
        check(&path, allow_tmpfs)?;
        let (way, file) = match Way::find(&path) {
            Ok(found) => found,
            Err(source) => return Err(Error::Open { path, source }),
        };
        if !way.direct {
            tracing::warn!(path = %path.display(), "no O_DIRECT here: spilling goes through the page cache");
        }
        let bytes = alignment(&file);
        if bytes as usize > ALIGNMENT {
            return Err(Error::Alignment { path, bytes });
        }
        let told = AtomicBool::new(false);
        Ok(Self { path, way, told })
    }

    /// Makes a file of `bytes` bytes, all allocated where the file system can. Blocks.
    ///
    /// # Errors
    /// There is no room, or what else the system says.
    pub fn create(&self, bytes: u64) -> io::Result<Arc<File>> {
        let file = self.way.open(&self.path)?;
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP) => {
                if !self.told.swap(true, Ordering::Relaxed) {
                    tracing::warn!(path = %self.path.display(), "space cannot be allocated ahead here: writes are slower");
                }
                file.set_len(bytes)?;
            }
            Err(errno) => return Err(errno.into()),
        }
        Ok(Arc::new(file))
    }

    /// Returns how many bytes are free for this user.
    ///
    /// # Errors
    /// The directory is gone, or what else the system says.
    pub fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Returns whether files bypass the page cache.
    pub fn direct(&self) -> bool {
        self.way.direct
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn make(path: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::AlreadyExists => Error::NotADirectory { path },
            _ => Error::Create { path, source },
        }
    })
}

/// Refuses what spilling must not go to, and warns of what it should not.
fn check(path: &Path, allow_tmpfs: bool) -> Result<(), Error> {
    let inspect = |source| Error::Inspect {
        path: path.to_path_buf(),
        source,
    };
    let metadata = fs::metadata(path).map_err(inspect)?;
    if metadata.mode() & 0o002 != 0 && metadata.mode() & 0o1000 == 0 {
        let path = path.to_path_buf();
        return Err(Error::WorldWritable { path });
    }
    let stat = rustix::fs::statfs(path).map_err(|errno| inspect(errno.into()))?;
    match Medium::of(stat.f_type.cast_unsigned() & u64::from(u32::MAX)) {
        Medium::Memory if !allow_tmpfs => {
            let path = path.to_path_buf();
            return Err(Error::Tmpfs { path });
        }
        Medium::Network => {
            tracing::warn!(path = %path.display(), "spilling to a network file system is slow");
        }
        Medium::Memory | Medium::Other => {}
    }
    Ok(())
}

/// What a file system keeps its data on, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Medium {
    Memory,
    Network,
    Other,
}

impl Medium {
    /// Tells by the number that the kernel knows a file system by.
    fn of(magic: u64) -> Self {
        match magic {
            // tmpfs, ramfs
            0x0102_1994 | 0x8584_58f6 => Self::Memory,
            // nfs, cifs, smb2, smb, 9p, ceph, afs, lustre
            0x6969 | 0xff53_4d42 | 0xfe53_4d42 | 0x517b | 0x0102_1997 | 0x00c3_6400
            | 0x5346_414f | 0x0bd0_0bd0 => Self::Network,
            _ => Self::Other,
        }
    }
}

/// Returns what O_DIRECT asks for, 0 where the kernel does not tell.
fn alignment(file: &File) -> u32 {
    let stat = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN);
    stat.map_or(0, |stat| {
        stat.stx_dio_mem_align.max(stat.stx_dio_offset_align)
    })
}
