//! stub
use super::accept::{Origin, Presence};
use super::drain::Shutdown;
use super::transport::{Socket, Transport};
use super::*;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
#[derive(Debug)]
pub struct Terms {
    pub limits: limits::Settings,
    pub tls: Option<Arc<rustls::ServerConfig>>,
}
pub(super) struct Accepted {
    pub socket: Socket,
    pub peer: Address,
    pub origin: Origin,
    pub presence: Presence,
}
pub(super) async fn serve<A: Answer>(accepted: Accepted, terms: Arc<Terms>, answer: Arc<A>, mut shutdown: Shutdown) {
    let Accepted { socket, peer, origin, presence } = accepted;
    let local = socket.local_address(&origin.listener);
    let transport = if origin.purpose == Purpose::Https {
        let acceptor = tokio_rustls::TlsAcceptor::from(terms.tls.clone().unwrap());
        match acceptor.accept(socket).await {
            Ok(s) => Transport::Tls(Box::new(s)),
            Err(_) => return,
        }
    } else {
        Transport::Plain(socket)
    };
    let info = Arc::new(ConnectionInfo { peer, local, tls: transport.tls_info() });
    let service = service_fn(move |request| {
        let answer = Arc::clone(&answer);
        let info = Arc::clone(&info);
        async move { Ok::<_, std::convert::Infallible>(answer.answer(info, request).await) }
    });
    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder.http2().timer(TokioTimer::new()).enable_connect_protocol();
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(transport), service);
    tokio::pin!(connection);
    tokio::select! { _ = connection.as_mut() => {} _ = shutdown.begun() => { connection.as_mut().graceful_shutdown(); let _ = connection.await; } }
    drop(presence);
}
