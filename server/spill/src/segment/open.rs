//! The ways to make a file that has no name and bypasses the page cache.

use std::{
    fs::File,
    hash::{BuildHasher, RandomState},
    io,
    path::Path,
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

/// How files are made in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    /// Without the page cache.
    pub(super) direct: bool,
    /// Never with a name, rather than removed as soon as it is made.
    pub(super) unnamed: bool,
}

impl Way {
    /// Returns the best way that works in a directory, and a file that was made so.
    pub(super) fn find(dir: &Path) -> io::Result<(Self, File)> {
        let mut refused = Errno::OPNOTSUPP;
        for (direct, unnamed) in [(true, true), (true, false), (false, true), (false, false)] {
            let way = Self { direct, unnamed };
            match way.make(dir) {
                Ok(file) => return Ok((way, file)),
                // What file systems answer that know no O_DIRECT or no O_TMPFILE.
                Err(errno @ (Errno::INVAL | Errno::OPNOTSUPP | Errno::ISDIR)) => refused = errno,
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(refused.into())
    }

    pub(super) fn open(self, dir: &Path) -> io::Result<File> {
        Ok(self.make(dir)?)
    }

    fn make(self, dir: &Path) -> Result<File, Errno> {
        let mut flags = OFlags::RDWR | OFlags::CLOEXEC;
        flags.set(OFlags::DIRECT, self.direct);
        let mode = Mode::RUSR | Mode::WUSR;
        if self.unnamed {
            return rustix::fs::open(dir, flags | OFlags::TMPFILE, mode).map(File::from);
        }
        let name = dir.join(format!(".forebay-{:016x}", random()));
        let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let file = rustix::fs::open(&name, flags, mode).map(File::from);
        // Some file systems make the file before they refuse O_DIRECT.
        let removed = rustix::fs::unlink(&name);
        let file = file?;
        removed.map(|()| file)
    }
}

/// The standard library seeds each hasher anew; a name needs no better chance than that.
fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}
