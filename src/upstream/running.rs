//! What runs in the workers at one moment, for whoever asks where they are.

use super::pool::Pool;
use crate::roster::WorkerNumber;
use std::time::Duration;

/// A request whose application was called and has not returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningRequest {
    pub worker: WorkerNumber,
    pub stream: u32,
    /// The thread that runs it, as `threading.get_ident()` names it.
    pub thread: u64,
    pub is_asgi: bool,
    /// Method and path.
    pub label: String,
    /// What the client sent as `X-Request-ID`, made safe for the log.
    pub id: Option<String>,
    /// Since the application was called.
    pub duration: Duration,
}

impl Pool {
    /// Everything that runs now.
    pub fn running_requests(&self) -> Vec<RunningRequest> {
        let now = self.now();
        let links: Vec<_> = self.lock().members.iter().map(|member| member.link.clone()).collect();
        let running = links.iter().flat_map(|link| {
            link.entered().into_iter().map(|(exchange, cell)| RunningRequest {
                worker: link.worker(),
                stream: cell.stream,
                thread: cell.thread,
                is_asgi: link.is_asgi(),
                label: exchange.request.label(),
                id: exchange.request.id(),
                duration: Duration::from_nanos(now.saturating_sub(cell.entered_at)),
            })
        });
        running.collect()
    }
}
