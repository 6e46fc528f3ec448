//! One stream: a request in, an answer out.

use super::head;
use super::interim::Interim;
use super::piece::Piece;
use super::sending::{SendError, Sending};
use super::tunnel::Tunnel;
use crate::front::Answer;
use crate::front::connection::Service;
use crate::front::exchange::Tracked;
use crate::front::hints::EarlyHints;
use crate::front::incoming::{Http2Body, Incoming};
use crate::front::upgrade::Upgrade;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, Request, Response};
use http_body::Body as _;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::oneshot;

/// What becomes of the stream if the answer accepts a tunnel.
struct Offer {
    receive: RecvStream,
    sender: oneshot::Sender<Tunnel>,
}

/// Serves one stream to its end. A client that resets it ends this at once.
pub(super) async fn serve<A: Answer>(
    service: Service<A>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Piece>,
    send_timeout: Duration,
) {
    let stream = respond.stream_id();
    let method = request.method().clone();
    let Some((response, offer)) = answered(service, request, &mut respond).await else { return };
    if let Err(error) = send(respond, response, &method, offer, send_timeout).await {
        tracing::debug!(?stream, error = &error as &dyn std::error::Error, "an answer was not sent to its end");
    }
}

/// `None`: the client does not want it any more.
async fn answered<A: Answer>(
    service: Service<A>,
    request: Request<RecvStream>,
    respond: &mut SendResponse<Piece>,
) -> Option<(Response<Tracked>, Option<Offer>)> {
    let (request, interim, offer) = incoming(request);
    let mut answer = pin!(service.call(request));
    let response = std::future::poll_fn(|context| {
        let polled = answer.as_mut().poll(context);
        interim.send(respond, context);
        match polled {
            Poll::Ready(response) => Poll::Ready(Some(response)),
            Poll::Pending => respond.poll_reset(context).map(|_| None),
        }
    });
    let Ok(response) = response.await?;
    Some((response, offer))
}

/// The request as the [`Answer`] gets it.
fn incoming(request: Request<RecvStream>) -> (Request<Incoming>, Arc<Interim>, Option<Offer>) {
    let (mut parts, stream) = request.into_parts();
    let interim = Arc::new(Interim::new(&parts));
    parts.extensions.insert(EarlyHints::Http2(Arc::clone(&interim)));
    if parts.method == Method::CONNECT {
        let (sender, upgrade) = Upgrade::http2();
        parts.extensions.insert(upgrade);
        let offer = Offer { receive: stream, sender };
        return (Request::from_parts(parts, Incoming::Empty), interim, Some(offer));
    }
    let length = parts.headers.get(CONTENT_LENGTH).map(HeaderValue::to_str);
    let length = length.and_then(|length| length.ok()?.parse().ok());
    let body = Incoming::Http2(Http2Body::new(stream, length, Arc::clone(&interim)));
    (Request::from_parts(parts, body), interim, None)
}

async fn send(
    mut respond: SendResponse<Piece>,
    response: Response<Tracked>,
    method: &Method,
    offer: Option<Offer>,
    timeout: Duration,
) -> Result<(), SendError> {
    let (mut head, body) = response.into_parts();
    // Nobody waits for the tunnel of a request that was denied.
    let accepted = offer.filter(|offer| head.status.is_success() && !offer.sender.is_closed());
    let has_body = head::finish(&mut head, method, body.is_end_stream(), &body.size_hint());
    if let Some(offer) = accepted {
        head.headers.remove(CONTENT_LENGTH);
        let stream = respond_with(&mut respond, head, false)?;
        // If the other end is gone by now, the stream is reset.
        let _ = offer.sender.send(Tunnel::new(offer.receive, stream));
        return Ok(());
    }
    let stream = respond_with(&mut respond, head, !has_body)?;
    if has_body { Sending::new(stream, body, timeout).run().await } else { Ok(()) }
}

fn respond_with(
    respond: &mut SendResponse<Piece>,
    head: http::response::Parts,
    is_end: bool,
) -> Result<SendStream<Piece>, h2::Error> {
    respond.send_response(Response::from_parts(head, ()), is_end).inspect_err(|_| {
        respond.send_reset(h2::Reason::INTERNAL_ERROR);
    })
}
