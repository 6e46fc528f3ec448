//! Listening on a Unix socket that has a name in the file system: what is left over from a process that is gone is
//! replaced, and the name goes with the listener.

use socket2::{Domain, SockAddr, Socket, Type};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

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

/// A socket file of ours, removed when dropped, unless somebody has put another one in its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| metadata.dev() == self.device && metadata.ino() == self.inode);
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the socket file stays behind");
        }
    }
}
