//! Opening files below a directory, and never anything outside of it.
//!
//! SECURITY: the kernel resolves the path and refuses to leave the directory (`openat2` with `RESOLVE_BENEATH`), so
//! neither a symlink nor a rename between check and use can escape. Relative symlinks that stay inside are followed;
//! absolute ones are refused even when they lead back. Kernels before 5.6 and sandboxes without `openat2` get a walk that
//! follows no symlink at all.

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// `O_NONBLOCK`: opening a FIFO must not wait for its other end.
const FILE_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NOCTTY).union(OFlags::NONBLOCK);

const DIRECTORY_FLAGS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

const INSIDE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

/// The kernel gives up with `EAGAIN` when something was renamed while it resolved a path.
const RENAME_RETRIES: usize = 8;

/// A directory whose files are served.
#[derive(Debug)]
pub struct Directory {
    descriptor: OwnedFd,
    kernel_resolves: bool,
}

/// Something that was opened.
#[derive(Debug)]
pub struct Opened {
    pub file: File,
    file_type: FileType,
    /// In bytes.
    pub length: u64,
    pub inode: u64,
    /// Last modification: seconds since the epoch, and nanoseconds.
    pub modified_seconds: i64,
    pub modified_nanoseconds: u32,
}

impl Opened {
    fn new(descriptor: OwnedFd) -> io::Result<Self> {
        let status = rustix::fs::fstat(&descriptor)?;
        Ok(Self {
            file: File::from(descriptor),
            file_type: FileType::from_raw_mode(status.st_mode),
            length: u64::try_from(status.st_size).unwrap_or(0),
            inode: status.st_ino,
            modified_seconds: status.st_mtime,
            modified_nanoseconds: status.st_mtime_nsec as u32,
        })
    }

    /// A regular file.
    pub fn is_file(&self) -> bool {
        self.file_type == FileType::RegularFile
    }

    pub fn is_directory(&self) -> bool {
        self.file_type == FileType::Directory
    }
}

impl Directory {
    pub fn open(path: &Path) -> io::Result<Self> {
        let descriptor = rustix::fs::open(path, DIRECTORY_FLAGS, Mode::empty())?;
        // Some sandboxes answer EPERM where an old kernel says ENOSYS. Opening `.` takes the right to enter the directory.
        let kernel_resolves = match rustix::fs::openat2(&descriptor, c".", DIRECTORY_FLAGS, Mode::empty(), INSIDE) {
            Ok(_) => true,
            Err(Errno::NOSYS | Errno::PERM) => {
                rustix::fs::openat(&descriptor, c".", DIRECTORY_FLAGS, Mode::empty())?;
                false
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Self { descriptor, kernel_resolves })
    }

    pub(super) fn status(&self) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(&self.descriptor)?)
    }

    /// A directory as on a kernel without `openat2`.
    #[cfg(test)]
    fn open_without_kernel(path: &Path) -> io::Result<Self> {
        Ok(Self { kernel_resolves: false, ..Self::open(path)? })
    }

    /// Opens what lies at `relative` (see [`super::path::Target::relative`]) for reading.
    pub fn open_below(&self, relative: &[u8]) -> io::Result<Opened> {
        // The directory itself is only open as a place; the kernel knows no empty path.
        let relative = if relative.is_empty() { b"." } else { relative };
        let descriptor =
            if self.kernel_resolves { self.open_in_kernel(relative)? } else { self.open_by_walking(relative)? };
        Opened::new(descriptor)
    }

    fn open_in_kernel(&self, relative: &[u8]) -> rustix::io::Result<OwnedFd> {
        let mut result = Err(Errno::AGAIN);
        for _ in 0..RENAME_RETRIES {
            result = rustix::fs::openat2(&self.descriptor, relative, FILE_FLAGS, Mode::empty(), INSIDE);
            if !matches!(result, Err(Errno::AGAIN | Errno::INTR)) {
                break;
            }
        }
        result
    }

    fn open_by_walking(&self, relative: &[u8]) -> rustix::io::Result<OwnedFd> {
        let mut segments = relative.split(|byte| *byte == b'/').filter(|segment| !segment.is_empty()).peekable();
        let mut held: Option<OwnedFd> = None;
        let no_symlink = OFlags::NOFOLLOW;
        while let Some(segment) = segments.next() {
            if segment == b".." {
                return Err(Errno::XDEV);
            }
            let place = held.as_ref().map_or(self.descriptor.as_fd(), AsFd::as_fd);
            // A symlink opened with O_PATH is no directory: ENOTDIR.
            let flags = if segments.peek().is_some() { DIRECTORY_FLAGS } else { FILE_FLAGS };
            let next = rustix::fs::openat(place, segment, flags | no_symlink, Mode::empty())?;
            held = Some(next);
        }
        held.ok_or(Errno::NOENT)
    }
}

/// Whether the error means that there is no such file to show, rather than that the system failed.
pub fn is_absence(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::NOENT
                | Errno::NOTDIR
                | Errno::NAMETOOLONG
                // A symlink out of the directory, or to itself.
                | Errno::XDEV
                | Errno::LOOP
                // A socket, or a device without a driver.
                | Errno::NXIO
                | Errno::NODEV
                | Errno::INVAL
        )
    )
}

/// Whether the error means that there may be such a file, but that we may not read it.
pub fn is_forbidden(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::ACCESS | Errno::PERM))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn with_and_without_the_kernel_nothing_outside_is_opened() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::write(root.join("sub/file"), "inside").unwrap();
        std::fs::write(place.path().join("secret"), "outside").unwrap();
        symlink("../secret", root.join("escape")).unwrap();
        symlink("/etc", root.join("etc")).unwrap();
        symlink("sub", root.join("alias")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let kernel = Directory::open(&root).unwrap();
        let walk = Directory::open_without_kernel(&root).unwrap();
        // Path, and whether each of the two ways opens it.
        let cases: [(&[u8], bool, bool); 11] = [
            (b"sub/file", true, true),
            (b"sub//file", true, true),
            (b"alias/file", true, false),
            (b"missing", false, false),
            (b"sub/file/", false, true),
            (b"../secret", false, false),
            (b"sub/../../secret", false, false),
            (b"escape", false, false),
            (b"etc/passwd", false, false),
            (b"loop", false, false),
            (b"/etc/passwd", false, false),
        ];
        for (path, in_kernel, by_walk) in cases {
            for (directory, expected) in [(&kernel, in_kernel), (&walk, by_walk)] {
                let result = directory.open_below(path);
                let name = path.escape_ascii();
                assert_eq!(result.is_ok(), expected, "{name}, kernel: {}", directory.kernel_resolves);
                if let Err(error) = result {
                    assert!(is_absence(&error), "{name}: {error}");
                }
            }
        }
        for errno in [Errno::ACCESS, Errno::PERM] {
            assert!(is_forbidden(&errno.into()) && !is_absence(&errno.into()));
        }
        assert!(kernel.open_below(b"").unwrap().is_directory());
        assert!(kernel.open_below(b"sub/file").unwrap().is_file());
    }
}
