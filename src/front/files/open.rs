//! Opening files below a directory, and never anything outside of it.
//!
//! SECURITY: the kernel resolves the path and refuses to leave the directory (`openat2` with `RESOLVE_BENEATH`), so
//! neither a symlink nor a rename between check and use can escape. What else becomes of symlinks is up to [`Symlinks`].
//! Kernels before 5.6 and sandboxes without `openat2` get a walk of our own.

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// `O_NONBLOCK`: opening a FIFO must not wait for its other end.
const FILE_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NOCTTY).union(OFlags::NONBLOCK);

const DIRECTORY_FLAGS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Something as a place, a symbolic link too.
const PLACE_FLAGS: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

const INSIDE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

const WITHOUT_SYMLINKS: ResolveFlags = INSIDE.union(ResolveFlags::NO_SYMLINKS);

/// Which symbolic links are followed (nginx: `disable_symlinks`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Symlinks {
    /// Relative ones that stay inside the directory; absolute ones are refused even when they lead back. Without
    /// `openat2` none at all.
    #[default]
    Inside,
    /// Those whose owner also owns what they lead to, wherever that is (nginx: `if_not_owner`).
    Owner,
    /// None.
    Off,
}

/// As many as the kernel follows in one path.
const SYMLINKS_MAX: usize = 40;

/// The kernel gives up with `EAGAIN` when something was renamed while it resolved a path.
const RENAME_RETRIES: usize = 8;

/// A directory whose files are served.
#[derive(Debug)]
pub struct Directory {
    descriptor: OwnedFd,
    kernel_resolves: bool,
    symlinks: Symlinks,
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
    pub fn open(path: &Path, symlinks: Symlinks) -> io::Result<Self> {
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
        Ok(Self { descriptor, kernel_resolves, symlinks })
    }

    pub(super) fn status(&self) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(&self.descriptor)?)
    }

    /// A directory as on a kernel without `openat2`.
    #[cfg(test)]
    fn open_without_kernel(path: &Path) -> io::Result<Self> {
        Ok(Self { kernel_resolves: false, ..Self::open(path, Symlinks::Inside)? })
    }

    /// Opens what lies at `relative` (see [`super::path::Target::relative`]) for reading.
    pub fn open_below(&self, relative: &[u8]) -> io::Result<Opened> {
        // The directory itself is only open as a place; the kernel knows no empty path.
        let relative = if relative.is_empty() { b"." } else { relative };
        let descriptor = match (self.symlinks, self.kernel_resolves) {
            (Symlinks::Inside, true) => self.open_in_kernel(relative, INSIDE)?,
            (Symlinks::Off, true) => self.open_in_kernel(relative, WITHOUT_SYMLINKS)?,
            (Symlinks::Inside | Symlinks::Off, false) => self.open_by_walking(relative)?,
            // Mostly there is no link on the way.
            (Symlinks::Owner, true) => match self.open_in_kernel(relative, WITHOUT_SYMLINKS) {
                Err(Errno::LOOP) => self.open_by_owner(relative)?,
                result => result?,
            },
            (Symlinks::Owner, false) => self.open_by_owner(relative)?,
        };
        Opened::new(descriptor)
    }

    fn open_in_kernel(&self, relative: &[u8], resolve: ResolveFlags) -> rustix::io::Result<OwnedFd> {
        let mut result = Err(Errno::AGAIN);
        for _ in 0..RENAME_RETRIES {
            result = rustix::fs::openat2(&self.descriptor, relative, FILE_FLAGS, Mode::empty(), resolve);
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

    /// Follows links itself, in order to know whose they are. A name is opened as a place first, and what is read of a
    /// link is of the link that was opened: nothing can be exchanged in between.
    fn open_by_owner(&self, relative: &[u8]) -> rustix::io::Result<OwnedFd> {
        if segments(relative).any(|name| name == b"..") {
            return Err(Errno::XDEV);
        }
        let mut places = vec![rustix::io::fcntl_dupfd_cloexec(&self.descriptor, 0)?];
        let mut names: Vec<Vec<u8>> = segments(relative).rev().map(<[u8]>::to_vec).collect();
        // Links that are being followed: whose they are, and how many names are left when their target is reached.
        let mut links: Vec<(u32, usize)> = Vec::new();
        let mut followed = 0;
        loop {
            let Some(place) = places.last() else { return Err(Errno::XDEV) };
            while links.last().is_some_and(|(_, left)| *left == names.len()) {
                let owner = links.pop().map(|(owner, _)| owner);
                if owner != Some(rustix::fs::fstat(place)?.st_uid) {
                    return Err(Errno::LOOP);
                }
            }
            let Some(name) = names.pop() else { break };
            if name == b".." {
                let above = match &mut places[..] {
                    // Out of the directory, or above what an absolute link has led to.
                    [only] => Some(rustix::fs::openat(only, c"..", DIRECTORY_FLAGS, Mode::empty())?),
                    _ => None,
                };
                places.pop();
                places.extend(above);
                continue;
            }
            let next = rustix::fs::openat(place, &name[..], PLACE_FLAGS, Mode::empty())?;
            let status = rustix::fs::fstat(&next)?;
            if FileType::from_raw_mode(status.st_mode) != FileType::Symlink {
                places.push(next);
                continue;
            }
            followed += 1;
            if followed > SYMLINKS_MAX {
                return Err(Errno::LOOP);
            }
            let target = rustix::fs::readlinkat(&next, c"", Vec::new())?.into_bytes();
            links.push((status.st_uid, names.len()));
            if target.starts_with(b"/") {
                places = vec![rustix::fs::open(c"/", DIRECTORY_FLAGS, Mode::empty())?];
            }
            names.extend(segments(&target).rev().map(<[u8]>::to_vec));
        }
        // A place becomes a file by its name in /proc, which means exactly this one.
        let Some(place) = places.last() else { return Err(Errno::XDEV) };
        let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(place));
        rustix::fs::open(name, FILE_FLAGS, Mode::empty())
    }
}

/// The names in a path.
fn segments(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|segment| !segment.is_empty() && *segment != b".")
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
        let kernel = Directory::open(&root, Symlinks::Inside).unwrap();
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
    #[test]
    fn links_are_followed_as_far_as_the_policy_goes() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        std::fs::create_dir_all(root.join("sub/deep")).unwrap();
        std::fs::write(root.join("sub/deep/file"), "").unwrap();
        std::fs::create_dir(place.path().join("beside")).unwrap();
        std::fs::write(place.path().join("beside/file"), "").unwrap();
        for (name, target) in [
            ("inside", "sub/deep"),
            ("twice", "inside"),
            ("sub/back", "../inside/file"),
            ("relative", "../beside/file"),
            ("absolute", place.path().join("beside").to_str().unwrap()),
            ("loop", "loop"),
            ("dangling", "nowhere"),
        ] {
            symlink(target, root.join(name)).unwrap();
        }
        // Where the policy of owners is to refuse: a link of somebody else, which only root can make.
        let is_root = rustix::process::geteuid().is_root();
        symlink("sub/deep/file", root.join("foreign")).unwrap();
        if is_root {
            std::os::unix::fs::lchown(root.join("foreign"), Some(12345), None).unwrap();
        }
        // Path, and whether each policy opens it: inside, owner, off.
        let cases: [(&[u8], [bool; 3]); 10] = [
            (b"sub/deep/file", [true, true, true]),
            (b"inside/file", [true, true, false]),
            (b"twice/file", [true, true, false]),
            (b"sub/back", [true, true, false]),
            (b"relative", [false, true, false]),
            (b"absolute/file", [false, true, false]),
            (b"absolute/../root/sub/deep/file", [false, false, false]),
            (b"loop", [false, false, false]),
            (b"dangling", [false, false, false]),
            (b"foreign", [true, !is_root, false]),
        ];
        for (index, symlinks) in [Symlinks::Inside, Symlinks::Owner, Symlinks::Off].into_iter().enumerate() {
            let directory = Directory::open(&root, symlinks).unwrap();
            for (path, expected) in cases {
                let name = path.escape_ascii();
                match directory.open_below(path) {
                    Ok(opened) => assert!(opened.is_file() && expected[index], "{symlinks:?} {name}"),
                    Err(error) => assert!(is_absence(&error) && !expected[index], "{symlinks:?} {name}: {error}"),
                }
            }
        }
    }
}
