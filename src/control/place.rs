//! Where control sockets are: `DIRECTORY/PID.sock`, in a directory that only its owner can enter.

use crate::sys::unix_socket::{self, SocketFile, UnixBindError};
use rustix::fs::{Mode, OFlags};
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Of the service manager: the directory it made for the service (systemd: `RuntimeDirectory=`).
const SERVICE_DIRECTORY: &str = "RUNTIME_DIRECTORY";

/// Of a control socket.
const MODE: u32 = 0o600;
const BACKLOG: i32 = 16;

/// Directories in which sockets may be, best first.
pub fn directories() -> Vec<PathBuf> {
    let user = rustix::process::geteuid();
    let of_service = std::env::var(SERVICE_DIRECTORY).ok();
    // systemd gives a list.
    let of_service = of_service.and_then(|list| list.split(':').next().map(PathBuf::from));
    let of_system = PathBuf::from("/run/monoceros");
    let of_session = std::env::var_os("XDG_RUNTIME_DIR").map(|directory| Path::new(&directory).join("monoceros"));
    let of_user = std::env::temp_dir().join(format!("monoceros-{}", user.as_raw()));
    let own = [of_session.filter(|path| path.is_absolute()), Some(of_user)].into_iter().flatten();
    let mut directories: Vec<PathBuf> = of_service.filter(|path| path.is_absolute()).into_iter().collect();
    directories.extend(user.is_root().then_some(of_system));
    directories.extend(own);
    directories
}

/// The socket of the process `pid` in a directory.
pub fn socket_in(directory: &Path, pid: u32) -> PathBuf {
    directory.join(format!("{pid}.sock"))
}

/// The name that it has while the process `pid` only lets its clients finish, because another one has taken its place:
/// whoever names no process means that one.
pub fn leaving_in(directory: &Path, pid: u32) -> PathBuf {
    directory.join(format!("{pid}.leaving"))
}

/// The socket of a process, which may be leaving.
pub fn of_process(directories: &[PathBuf], pid: u32) -> Option<PathBuf> {
    let leaving = || directories.iter().map(|directory| leaving_in(directory, pid)).find(|path| path.exists());
    running(directories).into_iter().find(|(known, _)| *known == pid).map(|(_, path)| path).or_else(leaving)
}

/// Makes the first of `directories` that can be made, if it is not there, and returns it.
pub fn prepare(directories: &[PathBuf]) -> io::Result<PathBuf> {
    let mut refusal = io::Error::other("there is no directory for it");
    for directory in directories {
        match secure(directory) {
            Ok(()) => return Ok(directory.clone()),
            Err(error) => refusal = io::Error::new(error.kind(), format!("{}: {error}", directory.display())),
        }
    }
    Err(refusal)
}

/// Makes a directory for us alone. In a place where others may write, it may be there already and be theirs.
fn secure(directory: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let opened = rustix::fs::open(
        directory,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let facts = rustix::fs::fstat(&opened)?;
    let others_may_write = facts.st_mode & 0o022 != 0;
    if facts.st_uid != rustix::process::geteuid().as_raw() || others_may_write {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "others may write into this directory"));
    }
    Ok(())
}

/// The sockets of servers that run, with their processes.
pub fn running(directories: &[PathBuf]) -> Vec<(u32, PathBuf)> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for entry in directories.iter().filter_map(|directory| fs::read_dir(directory).ok()).flatten().flatten() {
        let path = entry.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(pid) = name.strip_suffix(".sock").and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        if found.iter().all(|(known, _)| *known != pid) && Path::new("/proc").join(pid.to_string()).exists() {
            found.push((pid, path));
        }
    }
    found.sort();
    found
}

/// Listens on a socket that only its owner may use.
pub fn bind(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let (socket, file) = unix_socket::listen(path, MODE, BACKLOG).map_err(|error| match error {
        UnixBindError::InUse | UnixBindError::NotASocketFile => io::ErrorKind::AddrInUse.into(),
        UnixBindError::Io(error) => error,
    })?;
    Ok((socket.into(), file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    #[test]
    fn a_socket_is_for_its_owner_alone_and_replaces_a_dead_one() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let inside = directory.path().join("monoceros");
        assert_eq!(prepare(&[PathBuf::from("/proc/nowhere"), inside.clone()])?, inside);
        let path = socket_in(&inside, std::process::id());
        let (first, file) = bind(&path)?;
        assert_eq!(fs::metadata(&path)?.mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&inside)?.mode() & 0o777, 0o700);
        assert!(bind(&path).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse));
        drop(first);
        // As after a SIGKILL: the name stays.
        std::mem::forget(file);
        let _second = bind(&path)?;
        fs::write(socket_in(&inside, u32::MAX), "")?;
        assert_eq!(running(&[inside]), [(std::process::id(), path)]);
        Ok(())
    }

    #[test]
    fn a_directory_of_others_is_not_used() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let open = directory.path().join("open");
        fs::create_dir(&open)?;
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777))?;
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(directory.path(), &link)?;
        for bad in [open, link] {
            assert!(prepare(&[bad]).is_err());
        }
        Ok(())
    }
}
