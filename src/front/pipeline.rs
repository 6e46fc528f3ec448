//! The request path, read from top to bottom.

use super::body::Body;
use super::bypass::Bypass;
use super::cache::{self, Cache};
use super::drain::Shutdown;
use super::error_pages::ErrorPages;
use super::files::{ALLOWED_METHODS, Files, Outcome};
use super::health::{Health, Question};
use super::hints::EarlyHints;
use super::incoming::Incoming;
use super::intake::{self, IntakeError};
use super::rescue::{self, Asker, Failure};
use super::upgrade::Upgrade;
use super::websocket::handshake::{self, Opening};
use super::{Answer, ConnectionInfo, forward, limits, reply, tunnel, websocket};
use crate::telemetry::access::{AccessEntry, AccessLog, Counted};
use crate::upstream::exchange::Event;
use crate::upstream::pool::{Conversation, Pool, Sender};
use crate::upstream::request::RequestBody;
use bytes::Bytes;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use monoceros_wire::frame::{FLAG_END, Kind};
use monoceros_wire::message::{BodySource, Protocol};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Everything a request may need on its way.
#[derive(Debug)]
pub struct Pipeline {
    pub files: Files,
    pub pool: Arc<Pool>,
    /// Answers of the application that may be used again, where they are kept.
    pub cache: Option<Arc<Cache>>,
    pub limits: limits::Settings,
    pub websocket: Arc<websocket::Settings>,
    pub access: AccessLog,
    pub health: Arc<Health>,
    /// The path under which clients may ask for `live` and `ready`.
    pub health_path: Option<String>,
    /// Pages of the site for failures.
    pub error_pages: ErrorPages,
    /// Who is let in during maintenance.
    pub maintenance_bypass: Vec<Bypass>,
}

/// Who served a request of an application, for the access log.
#[derive(Debug, Default)]
pub(super) struct Served {
    worker: Option<u32>,
    /// The time before the application was entered.
    waited: Option<Duration>,
}

impl Served {
    fn by(&mut self, conversation: &Conversation) {
        (self.worker, self.waited) = (conversation.worker(), conversation.waited());
    }
}

impl Answer for Pipeline {
    async fn answer(self: Arc<Self>, connection: Arc<ConnectionInfo>, request: Request<Incoming>) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        if let Some(question) = self.health_question(parts.uri.path()) {
            // Not noted: balancers ask every few seconds.
            return self.health.answer(question, &parts);
        }
        let asker = Asker::of(&parts);
        let entry = self.access.begin(&connection.peer, &parts);
        let mut served = Served::default();
        let response = match self.route(&connection, &mut parts, body, &mut served).await {
            Ok(response) => response,
            Err(failure) => rescue::site_page(&failure, &asker, &self.error_pages),
        };
        match entry {
            Some(entry) => Self::log(entry, &served, response),
            None => response,
        }
    }

    fn turned_away(&self, connection: &ConnectionInfo, request: &Parts, status: StatusCode) {
        if let Some(mut entry) = self.access.begin(&connection.peer, request) {
            entry.answered(status, None, None);
        }
    }
}

impl Pipeline {
    async fn route(
        self: &Arc<Self>,
        connection: &Arc<ConnectionInfo>,
        parts: &mut Parts,
        body: Incoming,
        served: &mut Served,
    ) -> Result<Response<Body>, Failure> {
        if let Some(notice) = self.health.maintenance().stops(&connection.peer, parts, &self.maintenance_bypass) {
            return Err(Failure::Maintenance(notice));
        }
        if let Some(opening) = handshake::examine(parts, &self.websocket).map_err(Failure::WebSocket)? {
            return self.open_websocket(connection, parts, &opening, served).await;
        }
        let target = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        if let Some(answer) = file_answer(self.files.answer(&parts.method, target, &parts.headers)) {
            return answer;
        }
        match &self.cache {
            // In a box, so that a request costs no more where there is none.
            Some(cache) => Box::pin(cache::serve(self, cache, connection, parts, body, served)).await,
            None => self.ask_application(connection, parts, body, served).await,
        }
    }

    /// The application answers.
    pub(super) async fn ask_application(
        &self,
        connection: &ConnectionInfo,
        parts: &Parts,
        body: Incoming,
        served: &mut Served,
    ) -> Result<Response<Body>, Failure> {
        // WSGI reads a body that is there: only an event loop can wait for pieces.
        let is_streamed = self.is_streamed(parts.uri.path()) && self.pool.is_asgi();
        if is_streamed && !http_body::Body::is_end_stream(&body) {
            return self.ask_streaming(connection, parts, body, served).await;
        }
        self.ask(connection, parts, body, served).await
    }

    /// The whole body first, then a worker.
    async fn ask(
        &self,
        connection: &ConnectionInfo,
        parts: &Parts,
        body: Incoming,
        served: &mut Served,
    ) -> Result<Response<Body>, Failure> {
        let limits = intake::Limits {
            bytes: self.limits.body_bytes,
            memory: self.pool.settings().body_memory,
            timeout: self.limits.body_timeout,
        };
        let intake = intake::read(body, limits).await.inspect_err(IntakeError::log)?;
        let request = forward::encode(connection, parts, Protocol::Http, intake.source, intake.length, intake.body)?;
        let conversation = self.pool.send(request)?;
        self.first_answer(conversation, parts, std::future::pending(), served).await
    }

    /// The body piece by piece, while the worker already runs (`--stream-request`).
    async fn ask_streaming(
        &self,
        connection: &ConnectionInfo,
        parts: &Parts,
        body: Incoming,
        served: &mut Served,
    ) -> Result<Response<Body>, Failure> {
        let limit = self.limits.body_bytes;
        if limit > 0 && http_body::Body::size_hint(&body).lower() > limit {
            return Err(Failure::BodyTooLarge { limit });
        }
        let request = forward::encode(connection, parts, Protocol::Http, BodySource::Stream, 0, RequestBody::Stream)?;
        let conversation = self.pool.send(request)?;
        let sender = conversation.sender();
        let (limit, timeout) = (self.limits.body_bytes, self.limits.body_timeout);
        let (broken, reason) = oneshot::channel();
        tokio::spawn(async move {
            if let Err(Some(error)) = pass_body_on(body, &sender, limit, timeout).await
                && broken.send(error).is_err()
            {
                // An answer has begun. The application is told that the client has left: what it got is not the whole.
                let _ = sender.send_now(Kind::Cancel, Vec::new()).await;
            }
        });
        let broken = async {
            match reason.await {
                Ok(error) => error,
                // The body was passed on to its end, or nobody wants it any more.
                Err(_) => std::future::pending().await,
            }
        };
        self.first_answer(conversation, parts, broken, served).await
    }

    /// Waits for the head of the answer, unless the body breaks off before: then that is why there is none.
    async fn first_answer(
        &self,
        mut conversation: Conversation,
        request: &Parts,
        broken: impl Future<Output = IntakeError>,
        served: &mut Served,
    ) -> Result<Response<Body>, Failure> {
        let mut broken = std::pin::pin!(broken);
        loop {
            let event = tokio::select! {
                biased;
                error = &mut broken => return Err(error.into()),
                event = conversation.next() => event,
            };
            if conversation.goes_elsewhere(&event) {
                continue;
            }
            match event {
                Event::Head { payload, is_end, has_file } => {
                    served.by(&conversation);
                    let response = if has_file {
                        reply::respond_with_file(conversation, request, &payload).await?
                    } else {
                        reply::respond(conversation, request, &payload, is_end)?
                    };
                    let outcome = self.files.instead_of_body(response, (&request.method, &request.headers));
                    return file_answer(outcome).unwrap_or(Err(Failure::NotFound));
                }
                Event::Hint(payload) => {
                    if let Some(hints) = request.extensions.get::<EarlyHints>() {
                        hints.send(&payload);
                    }
                }
                Event::Failed(error) => {
                    served.worker = error.worker;
                    return Err(error.into());
                }
                other => return Err(out_of_place(&other, served)),
            }
        }
    }

    async fn open_websocket(
        &self,
        connection: &ConnectionInfo,
        parts: &mut Parts,
        opening: &Opening,
        served: &mut Served,
    ) -> Result<Response<Body>, Failure> {
        let request = forward::encode(
            connection,
            parts,
            Protocol::WebSocket,
            BodySource::Empty,
            0,
            RequestBody::Inline(Bytes::new()),
        )?;
        let conversation = self.pool.send(request)?;
        match conversation.next().await {
            Event::Accepted(payload) => {
                served.by(&conversation);
                let (head, _) = reply::head(&payload, served.worker)?;
                let upgrade = Upgrade::take(&mut parts.extensions).ok_or_else(|| {
                    tracing::error!("a WebSocket was accepted on a connection that cannot become one");
                    Failure::Internal
                })?;
                let mut headers: HeaderMap = head.into_parts().0.headers;
                let protocol = headers.remove(http::header::SEC_WEBSOCKET_PROTOCOL);
                let protocol = protocol.as_ref().and_then(|value| value.to_str().ok());
                let response = opening.accept(protocol, headers).map_err(|error| {
                    let (path, chosen) = (parts.uri.path(), protocol.unwrap_or_default());
                    tracing::error!("{error}: {chosen:?} at {path}, offered were {:?}", opening.protocols);
                    Failure::Internal
                })?;
                let shutdown = parts.extensions.remove::<Shutdown>();
                let (settings, deflate) = (Arc::clone(&self.websocket), opening.deflate.clone());
                tokio::spawn(tunnel::run(upgrade, conversation, settings, deflate, shutdown));
                Ok(response.map(|()| Body::empty()))
            }
            // The application denies it with an ordinary response.
            Event::Head { payload, is_end, .. } => {
                served.by(&conversation);
                Ok(reply::respond(conversation, parts, &payload, is_end)?)
            }
            Event::Failed(error) => {
                served.worker = error.worker;
                Err(error.into())
            }
            other => Err(out_of_place(&other, served)),
        }
    }

    /// Notes the answer in the access log when its body has gone out.
    fn log(mut entry: AccessEntry, served: &Served, response: Response<Body>) -> Response<Body> {
        entry.answered(response.status(), served.worker, served.waited);
        response.map(|body| Body::stream(Counted::new(body, entry)))
    }

    /// What the server does in detail is for the admin listener.
    fn health_question(&self, path: &str) -> Option<Question> {
        let name = path.strip_prefix(self.health_path.as_deref()?)?.strip_prefix('/')?;
        Question::named(name).filter(|question| *question != Question::Status)
    }

    fn is_streamed(&self, path: &str) -> bool {
        self.pool.settings().stream_request.iter().any(|prefix| path.starts_with(prefix.as_str()))
    }
}

/// What files have to say; `None`: nothing.
fn file_answer(outcome: Outcome) -> Option<Result<Response<Body>, Failure>> {
    Some(match outcome {
        Outcome::Response(response) => Ok(response),
        Outcome::NotFound => Err(Failure::NotFound),
        Outcome::MethodNotAllowed => Err(Failure::MethodNotAllowed { allow: ALLOWED_METHODS }),
        Outcome::Forbidden => Err(Failure::Forbidden),
        Outcome::Failed(error) => {
            tracing::error!("a static file cannot be read: {error}");
            Err(Failure::Internal)
        }
        Outcome::NotMine => return None,
    })
}

/// The worker checks the order of what an application sends, so this is a fault of ours.
fn out_of_place(event: &Event, served: &Served) -> Failure {
    tracing::error!(worker = ?served.worker, "an answer cannot begin with {event:?}");
    Failure::Internal
}

/// Passes a body on as it arrives. `None` as the error: nobody wants it any more.
async fn pass_body_on(
    mut body: Incoming,
    sender: &Sender,
    limit: u64,
    timeout: Duration,
) -> Result<(), Option<IntakeError>> {
    let mut length = 0;
    loop {
        let frame = tokio::time::timeout(timeout, body.frame()).await.map_err(|_| IntakeError::Timeout(timeout))?;
        let Some(frame) = frame else {
            return sender.send(Kind::Body, 0, FLAG_END, Bytes::new()).await.map_err(|_| None);
        };
        let Ok(piece) = frame.map_err(IntakeError::Broken)?.into_data() else { continue };
        length += piece.len() as u64;
        if limit > 0 && length > limit {
            return Err(Some(IntakeError::TooLarge { limit }));
        }
        sender.send(Kind::Body, 0, 0, piece).await.map_err(|_| None)?;
    }
}
