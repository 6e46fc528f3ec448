//! Listening on a Unix socket that has a name in the file system: what is left over from a process that is gone is
//! replaced, and the name goes with the listener.

use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Why a name cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum UnixBindError {
    #[error("a server already answers there")]
    InUse,
    #[error("it exists and is not a socket; it is left alone")]
    NotASocketFile,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Listens at `path`; only those that `mode` allows can connect, from the first moment on. The socket does not block.
pub fn listen(path: &Path, mode: u32, backlog: i32) -> Result<(Socket, SocketFile), UnixBindError> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::of(path)?;
    // Before `listen`: nobody can connect while the mode is still the umask's.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok((socket, file))
}

/// Removes a socket file left by a process that is gone. A file on which somebody answers is never touched.
fn remove_stale(path: &Path) -> Result<(), UnixBindError> {
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if !metadata.file_type().is_socket() {
        return Err(UnixBindError::NotASocketFile);
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(std::fs::remove_file(path)?),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error.into()),
        // A full backlog is an answer too: somebody listens.
        _ => Err(UnixBindError::InUse),
    }
}

/// A socket file, removed when dropped if it is ours, unless somebody has put another one in its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: Identity,
    is_ours: AtomicBool,
}

/// Which file it is: another one of the same name is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::symlink_metadata(path)?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: Identity::of(path)?, is_ours: AtomicBool::new(true) })
    }

    /// One that belongs to another process.
    pub fn of_another(path: PathBuf, identity: Identity) -> Self {
        Self { path, identity, is_ours: AtomicBool::new(false) }
    }

    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Whether the name still leads to it.
    pub fn is_there(&self) -> bool {
        Identity::of(&self.path).is_ok_and(|found| found == self.identity)
    }

    /// From now on it is ours to remove, or another process's.
    pub fn set_ours(&self, is_ours: bool) {
        self.is_ours.store(is_ours, Ordering::Relaxed);
    }

    /// Gives it another name, in place of what has that name.
    pub fn rename(&mut self, path: &Path) -> io::Result<()> {
        std::fs::rename(&self.path, path)?;
        path.clone_into(&mut self.path);
        Ok(())
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = *self.is_ours.get_mut() && self.is_there();
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the socket file stays behind");
        }
    }
}
