//! One task per connection: TLS, then HTTP/1 or HTTP/2, until the client or the drain ends it.

use super::accept::{Origin, Presence};
use super::drain::Shutdown;
use super::exchange::{Decision, Exchange, Ledger, Tracked};
use super::gate::{Refusal, WebSocket, meaning, raw};
use super::hints::EarlyHints;
use super::http2;
use super::incoming::Incoming;
use super::inspect::http1::Http1Stream;
use super::inspect::http2::Http2Stream;
use super::rescue::{self, Asker, Failure};
use super::tls::{self, Tls};
use super::transport::{Socket, Transport};
use super::{Address, Answer, ConnectionInfo, Purpose, limits, redirect};
use bytes::BytesMut;
use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, request};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

/// First byte of every TLS connection: a record of type "handshake" (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 0x16;
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What a browser shows that spoke HTTP to the HTTPS port (nginx does the same with 497).
const SPEAK_HTTPS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 84\r\nconnection: close\r\n\r\n400 Bad Request\nThis port speaks HTTPS: the address must begin with https:// there.\n";
/// A client that connected just before the drain may have sent its request already.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// What holds for every connection.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) limits: limits::Settings,
    pub(super) tls: Option<Arc<Tls>>,
}

/// A connection as it came in.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) socket: Socket,
    pub(super) peer: Address,
    pub(super) origin: Origin,
    pub(super) presence: Presence,
}

/// Why a connection ended other than by agreement. The client's doing or the network's: for the log at debug level.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("TLS handshake: {0}")]
    Handshake(io::Error),
    #[error("the TLS handshake took too long")]
    HandshakeTimeout,
    #[error("plain HTTP on the HTTPS port")]
    NotTls,
    #[error("no certificate is configured")]
    NoTls,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Http1(#[from] hyper::Error),
    #[error(transparent)]
    Http2(#[from] h2::Error),
}

/// Serves one connection to its end.
pub(super) async fn serve<A: Answer>(accepted: Accepted, terms: Arc<Terms>, answer: Arc<A>, shutdown: Shutdown) {
    let peer = accepted.peer.clone();
    if let Err(error) = converse(accepted, &terms, answer, shutdown).await {
        tracing::debug!(?peer, error = &error as &dyn std::error::Error, "connection ended");
    }
}

async fn converse<A: Answer>(
    accepted: Accepted,
    terms: &Terms,
    answer: Arc<A>,
    mut shutdown: Shutdown,
) -> Result<(), ConnectionError> {
    let Accepted { socket, peer, origin, presence } = accepted;
    let local = socket.local_address(&origin.listener);
    let mut transport = match origin.purpose {
        Purpose::Https => secure(socket, terms, &mut shutdown).await?,
        Purpose::Http | Purpose::RedirectToHttps { .. } => Transport::Plain(socket),
    };
    let mut read = BytesMut::new();
    let (http2, begun) = match transport.negotiated_http2() {
        Some(http2) => (http2, Instant::now()),
        None => match first_bytes(&mut transport, &mut read, &terms.limits, &mut shutdown).await? {
            Some(told) => told,
            None => return Ok(()),
        },
    };
    let asks_clients = terms.tls.as_ref().is_some_and(|tls| tls.asks_clients());
    let info = Arc::new(ConnectionInfo { peer, local, tls: transport.tls_info(asks_clients) });
    let server_name = info.tls.as_ref().map(|tls| tls.server_name.as_deref());
    let rules = server_name.and_then(|name| terms.tls.as_ref()?.rules(name));
    let service = Service {
        answer,
        info,
        rules,
        ledger: Arc::new(Ledger::default()),
        purpose: origin.purpose,
        keep_alive_requests: u64::from(terms.limits.keep_alive_requests),
        shutdown: Arc::new(shutdown.clone()),
        head: (&terms.limits).into(),
    };
    if http2 {
        let stream = Http2Stream::new(transport, read, &terms.limits, Arc::clone(&service.ledger), presence);
        Ok(http2::serve(stream, &terms.limits, service, shutdown).await?)
    } else {
        serve_http1(transport, (read, begun), &terms.limits, service, shutdown, presence).await
    }
}

async fn secure(socket: Socket, terms: &Terms, shutdown: &mut Shutdown) -> Result<Transport, ConnectionError> {
    let tls = terms.tls.as_ref().ok_or(ConnectionError::NoTls)?;
    let handshake = async {
        match socket.peek_byte().await? {
            Some(TLS_HANDSHAKE) => {}
            Some(byte) if byte.is_ascii_alphabetic() => return Err(explain_https(socket).await),
            _ => return Err(ConnectionError::NotTls),
        }
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(tls.config()));
        acceptor.accept(socket).await.map_err(ConnectionError::Handshake)
    };
    let last_chance = async {
        shutdown.begun().await;
        tokio::time::sleep(shutdown.patience().max(LAST_CHANCE)).await;
    };
    let stream = tokio::select! {
        biased;
        stream = timeout(terms.limits.handshake_timeout, handshake) => stream,
        () = last_chance => return Err(ConnectionError::HandshakeTimeout),
    };
    Ok(Transport::Tls(Box::new(stream.map_err(|_| ConnectionError::HandshakeTimeout)??)))
}

async fn explain_https(mut socket: Socket) -> ConnectionError {
    let mut scratch = [0; 4096];
    let _ = socket.write_all(SPEAK_HTTPS).await;
    let _ = socket.shutdown().await;
    // Read to the end, or the reset for unread bytes overtakes the explanation. The handshake's time-out is around this.
    while matches!(socket.read(&mut scratch).await, Ok(count) if count > 0) {}
    ConnectionError::NotTls
}

/// Waits for a client's first bytes and tells HTTP/2 with prior knowledge (RFC 9113 §3.3) from HTTP/1.
/// Until then a connection costs no buffer. The result is also when they came. `None`: it left, or said nothing in time.
async fn first_bytes(
    transport: &mut Transport,
    read: &mut BytesMut,
    limits: &limits::Settings,
    shutdown: &mut Shutdown,
) -> io::Result<Option<(bool, Instant)>> {
    let mut begun = Instant::now();
    let mut deadline = begun + limits.header_timeout;
    let mut draining = shutdown.is_begun();
    if draining {
        deadline = Instant::now() + shutdown.patience().max(LAST_CHANCE);
    }
    loop {
        let mut bytes = [0; 2048];
        let count = tokio::select! {
            biased;
            count = transport.read(&mut bytes) => count?,
            _ = shutdown.begun(), if !draining => {
                draining = true;
                deadline = deadline.min(Instant::now() + shutdown.patience().max(LAST_CHANCE));
                continue;
            }
            () = tokio::time::sleep_until(deadline) => 0,
        };
        if count == 0 {
            // With a beginning in hand, HTTP/1 answers what is to be answered.
            return Ok((!read.is_empty()).then_some((false, begun)));
        }
        if read.is_empty() {
            begun = Instant::now();
        }
        read.extend_from_slice(&bytes[..count]);
        let compared = read.len().min(HTTP2_PREFACE.len());
        if read[..compared] != HTTP2_PREFACE[..compared] {
            return Ok(Some((false, begun)));
        }
        if compared == HTTP2_PREFACE.len() {
            return Ok(Some((true, begun)));
        }
    }
}

async fn serve_http1<A: Answer>(
    transport: Transport,
    (read, begun): (BytesMut, Instant),
    limits: &limits::Settings,
    service: Service<A>,
    mut shutdown: Shutdown,
    presence: Presence,
) -> Result<(), ConnectionError> {
    let ledger = Arc::clone(&service.ledger);
    let stream = Http1Stream::new(transport, (read, begun), limits, Arc::clone(&ledger), presence);
    let mut builder = http1::Builder::new();
    // The stream keeps all times itself: hyper's one cannot tell a slow head from an idle connection, nor answer 408.
    builder.timer(TokioTimer::new()).header_read_timeout(None);
    if limits.header_fields > 100 {
        // hyper keeps the first hundred on the stack.
        builder.max_headers(limits.header_fields);
    }
    let service =
        hyper::service::service_fn(move |request: Request<_>| service.clone().call(request.map(Incoming::Http1)));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
    tokio::select! {
        biased;
        outcome = connection.as_mut() => return Ok(outcome?),
        _ = shutdown.begun() => {}
    }
    let patience = shutdown.patience();
    if !patience.is_zero() {
        // The next answer is the last one of this connection.
        ledger.close();
        tokio::select! {
            biased;
            outcome = connection.as_mut() => return Ok(outcome?),
            () = tokio::time::sleep(patience) => {}
        }
    }
    connection.as_mut().graceful_shutdown();
    Ok(connection.await?)
}

/// What stands between hyper or h2 and the [`Answer`]: the gate's second half, and the counting of requests.
pub(super) struct Service<A> {
    answer: Arc<A>,
    info: Arc<ConnectionInfo>,
    /// Of this TLS connection.
    rules: Option<Arc<tls::Rules>>,
    pub(super) ledger: Arc<Ledger>,
    purpose: Purpose,
    keep_alive_requests: u64,
    /// For a tunnel that the connection may become. In an `Arc`, so that a request does not touch what all threads share.
    shutdown: Arc<Shutdown>,
    head: raw::Limits,
}

// Not derived: an `Answer` need not be cloneable, it stands behind an `Arc`.
impl<A> Clone for Service<A> {
    fn clone(&self) -> Self {
        Self {
            answer: Arc::clone(&self.answer),
            info: Arc::clone(&self.info),
            rules: self.rules.clone(),
            ledger: Arc::clone(&self.ledger),
            purpose: self.purpose,
            keep_alive_requests: self.keep_alive_requests,
            shutdown: Arc::clone(&self.shutdown),
            head: self.head,
        }
    }
}

impl<A: Answer> Service<A> {
    pub(super) async fn call(self, request: Request<Incoming>) -> Result<Response<Tracked>, Infallible> {
        let number = self.ledger.call();
        let exchange = Exchange::new(&self.ledger);
        let http1 = request.version() < Version::HTTP_2;
        let mut response = match self.ledger.refused.get() {
            Some(refused) if refused.number == number => {
                let (mut stand_in, _) = request.into_parts();
                // What was really asked cannot be quoted: it is not even a request.
                stand_in.method = Method::from_bytes(b"-").unwrap_or_default();
                self.turn_away(&stand_in, refused.refusal, refused.asker)
            }
            _ => self.examined(request).await,
        };
        if let Some(rules) = &self.rules {
            rules.complete(response.headers_mut());
        }
        if http1 {
            let tunnel = response.status() == StatusCode::SWITCHING_PROTOCOLS;
            // A tunnel is the last of its connection anyway, and its `Connection` has to say `Upgrade`.
            if (number >= self.keep_alive_requests || self.ledger.is_closing()) && !tunnel {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            self.ledger.decide(number, if tunnel { Decision::Accepted } else { Decision::Declined });
        } else if number >= self.keep_alive_requests {
            self.ledger.close();
        }
        Ok(response.map(|body| Tracked::new(body, exchange, http1)))
    }

    fn turn_away(&self, request: &request::Parts, refusal: Refusal, asker: Asker) -> Response<super::body::Body> {
        let response = rescue::page(&Failure::Refused(refusal), &asker);
        self.answer.turned_away(&self.info, request, response.status());
        response
    }

    async fn examined(&self, request: Request<Incoming>) -> Response<super::body::Body> {
        let (mut parts, body) = request.into_parts();
        let asker = Asker::of(&parts);
        let sized = meaning::check_size(&parts, self.head);
        if let Err(refusal) = sized.and_then(|()| meaning::examine(&mut parts, self.info.tls.is_some())) {
            return self.turn_away(&parts, refusal, asker);
        }
        if self.rules.as_ref().is_some_and(|rules| rules.is_misdirected(&parts.headers)) {
            return self.turn_away(&parts, Refusal::Misdirected, asker);
        }
        if let Purpose::RedirectToHttps { port } = self.purpose {
            let response = redirect::to_https(&parts, port);
            self.answer.turned_away(&self.info, &parts, response.status());
            return response;
        }
        let upgradable = parts.extensions.get::<WebSocket>().is_some();
        if upgradable {
            parts.extensions.insert(Shutdown::clone(&self.shutdown));
        }
        if parts.version == Version::HTTP_11 {
            parts.extensions.insert(EarlyHints::Http1(Arc::clone(&self.ledger)));
        }
        let request = Request::from_parts(parts, body);
        let response = Arc::clone(&self.answer).answer(Arc::clone(&self.info), request).await;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS && !upgradable {
            // A tunnel that the gate does not know of would carry bytes it still takes for requests.
            tracing::error!("an answer of 101 to a request that asked for no WebSocket");
            return rescue::page(&Failure::Internal, &asker);
        }
        response
    }
}
