//! Takes commands from a control socket and sends replies.

use super::protocol::{COMMAND_MAX, Command, Reply};
use crate::sys::unix_socket::SocketFile;
use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

/// For a command to arrive, and for a reply to be taken.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted: descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Carries out commands.
pub trait Handler: Send + Sync + 'static {
    /// Sends replies to `replies`; the last one is a last one.
    fn handle(&self, command: Command, replies: mpsc::UnboundedSender<Reply>) -> impl Future<Output = ()> + Send;
}

/// The socket, removed when it is dropped.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    file: SocketFile,
}

impl Control {
    /// Listens at `path`. Must be called inside a runtime.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let (listener, file) = super::place::bind(path)?;
        Ok(Self { listener: UnixListener::from_std(listener)?, file })
    }

    /// Puts the socket under this name, in place of the one that has it.
    pub fn rename(&mut self, path: &Path) -> io::Result<()> {
        self.file.rename(path)
    }

    /// Serves for ever; cancel-safe.
    pub async fn serve(&self, handler: Arc<impl Handler>) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(converse(stream, Arc::clone(&handler)))),
                Err(error) => {
                    tracing::warn!("the control socket cannot accept: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn converse(mut stream: UnixStream, handler: Arc<impl Handler>) {
    let (reading, mut writing) = stream.split();
    let mut line = Vec::new();
    let mut reader = BufReader::new(reading.take(COMMAND_MAX));
    let read = tokio::time::timeout(PATIENCE, reader.read_until(b'\n', &mut line)).await;
    if !matches!(read, Ok(Ok(1..))) {
        return;
    }
    let (replies, mut queue) = mpsc::unbounded_channel();
    match serde_json::from_slice::<Command>(&line) {
        Ok(command) => {
            let handler = Arc::clone(&handler);
            tokio::spawn(async move { handler.handle(command, replies).await });
        }
        Err(error) => {
            let text = format!("the command is not understood: {error}");
            let _ = replies.send(Reply::Failed { text, detail: String::new(), hint: String::new() });
        }
    }
    // Whoever goes away does not end what it has asked for.
    while let Some(reply) = queue.recv().await {
        let Ok(mut text) = serde_json::to_vec(&reply) else { return };
        text.push(b'\n');
        let sent = tokio::time::timeout(PATIENCE, writing.write_all(&text)).await;
        if !matches!(sent, Ok(Ok(()))) || reply.is_last() {
            return;
        }
    }
}
