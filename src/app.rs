//! Builds the components, joins them, and defines the order in which they start and stop.
//!
//! Start: interpreter → files, certificates, listeners (all their errors at once) → front threads → pool → supervisor →
//! first worker ready → accept. Stop: stop accepting → connections finish → workers drain → end.

use crate::front::listener::{self, Listeners};
use crate::front::pipeline::Pipeline;
use crate::roster;
use crate::supervisor::{self, StopRequest};
use crate::upstream::pool::{self, Pool};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::runtime::{Builder, Handle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

/// One front thread: its runtime takes tasks at once and serves connections when it is told to.
struct FrontThread {
    runtime: Handle,
    thread: JoinHandle<()>,
}

/// What the front threads are told, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Links run, nothing is accepted.
    Waiting,
    Accepting,
    Draining,
    /// The links are not needed any more.
    Ended,
}

fn start_front_thread(
    index: usize,
    listeners: Listeners,
    pipeline: Arc<Pipeline>,
    stage: watch::Receiver<Stage>,
) -> io::Result<FrontThread> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let thread = std::thread::Builder::new().name(format!("front-{index}")).spawn(move || {
        pool::enter_thread(index);
        runtime.block_on(serve(listeners, pipeline, stage));
    })?;
    Ok(FrontThread { runtime: handle, thread })
}

async fn serve(listeners: Listeners, pipeline: Arc<Pipeline>, mut stage: watch::Receiver<Stage>) {
    // An error means that the sender is gone: the program ends.
    let _ = stage.wait_for(|stage| *stage != Stage::Waiting).await;
    let (stop_sender, stop) = watch::channel(false);
    let accepting = listener::run(listeners, pipeline, stop);
    let stopping = async {
        let _ = stage.wait_for(|stage| *stage >= Stage::Draining).await;
        let _ = stop_sender.send(true);
    };
    tokio::join!(accepting, stopping);
    let _ = stage.wait_for(|stage| *stage == Stage::Ended).await;
}
