//! A front over real sockets with an answer behind it that tells what it saw.

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use monoceros::front::body::{Body, BodyError};
use monoceros::front::drain::Drain;
use monoceros::front::incoming::Incoming;
use monoceros::front::intake::IntakeError;
use monoceros::front::listener::Listeners;
use monoceros::front::rescue::{self, Asker, Failure};
use monoceros::front::tls::Tls;
use monoceros::front::upgrade::Upgrade;
use monoceros::front::{Address, Answer, Bind, BindAddress, ConnectionInfo, Purpose, accept, limits};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Answers with the request as text. `x-test` asks for something else: `early` does not read the body, `large` sends
/// 16 MiB, `tunnel` accepts the upgrade and sends back what comes, `late-tunnel` does so after a second, `failing` has a
/// body that fails after its first piece.
#[derive(Debug)]
pub(crate) struct Echo;

impl Answer for Echo {
    async fn answer(self: Arc<Self>, connection: Arc<ConnectionInfo>, request: Request<Incoming>) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        let asker = Asker::of(&parts);
        let mut text = format!("{} {}\n", parts.method, parts.uri);
        for (name, value) in &parts.headers {
            let _ = writeln!(text, "{name}: {}", String::from_utf8_lossy(value.as_bytes()));
        }
        if let Some(tls) = &connection.tls {
            let _ = writeln!(text, "tls={:x} {:?}", tls.version, tls.server_name);
        }
        match parts.headers.get("x-test").map(HeaderValue::as_bytes) {
            Some(b"early") => return Response::new(Body::full(text)),
            Some(b"large") => return Response::new(Body::full(vec![b'x'; 16 << 20])),
            Some(b"failing") => return Response::new(Body::stream(Failing { begun: false })),
            Some(test @ (b"tunnel" | b"late-tunnel")) => {
                if test == b"late-tunnel" {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                let Some(upgrade) = Upgrade::take(&mut parts.extensions) else {
                    return rescue::page(&Failure::Internal, &asker);
                };
                tokio::spawn(async move {
                    let mut stream = upgrade.finished().await.unwrap();
                    let mut bytes = [0; 100];
                    while let Ok(count) = stream.read(&mut bytes).await {
                        if count == 0 || stream.write_all(&bytes[..count]).await.is_err() {
                            break;
                        }
                    }
                });
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                response.headers_mut().insert("upgrade", HeaderValue::from_static("websocket"));
                response.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
                return response;
            }
            _ => {}
        }
        match body.collect().await {
            Ok(body) => {
                let _ = writeln!(text, "body={}", String::from_utf8_lossy(&body.to_bytes()));
                Response::new(Body::full(text))
            }
            Err(error) => rescue::page(&Failure::Intake(IntakeError::Broken(error)), &asker),
        }
    }
}

/// A body of which only the beginning comes.
struct Failing {
    begun: bool,
}

impl monoceros::front::body::Pieces for Failing {}

impl http_body::Body for Failing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BodyError>>> {
        Poll::Ready(Some(if std::mem::replace(&mut self.begun, true) {
            Err(BodyError::ApplicationFailed)
        } else {
            Ok(http_body::Frame::data(Bytes::from_static(b"part")))
        }))
    }
}

/// A running front with one thread; ends when dropped.
#[derive(Debug)]
pub(crate) struct Front {
    pub address: SocketAddr,
    pub placement: Arc<accept::Placement>,
    pub drain: Arc<Drain>,
    threads: Vec<JoinHandle<()>>,
    /// They close when this is dropped.
    _listeners: Listeners,
}

/// Limits small enough to be reached.
pub(crate) fn limits() -> limits::Settings {
    limits::Settings { header_bytes: 8192, target_bytes: 1024, header_fields: 20, ..limits::Settings::default() }
}

impl Front {
    pub(crate) fn start(limits: &limits::Settings) -> Self {
        Self::start_with(limits, Purpose::Http, None, 1)
    }

    pub(crate) fn start_with(
        limits: &limits::Settings,
        purpose: Purpose,
        tls: Option<&Arc<Tls>>,
        threads: usize,
    ) -> Self {
        let bind = Bind { address: BindAddress::Tcp("127.0.0.1:0".parse().unwrap()), purpose };
        let listeners = Listeners::bind(&[bind], 64).unwrap();
        let Some((Address::Tcp(address), _)) = listeners.addresses().next() else { unreachable!("bound to TCP") };
        let address = *address;
        let (drain, shutdown) = Drain::new();
        let (fronts, placement) = accept::front_threads(&listeners, threads, limits, tls, &shutdown).unwrap();
        let threads = fronts
            .into_iter()
            .map(|front| {
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    runtime.block_on(front.run(Arc::new(Echo))).unwrap();
                })
            })
            .collect();
        Self { address, placement, drain: Arc::new(drain), threads, _listeners: listeners }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.drain.begin(Duration::ZERO);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the front panicked");
        }
    }
}
