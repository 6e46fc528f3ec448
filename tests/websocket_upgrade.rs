//! From a request to messages through hyper's real upgrade.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use monoceros::front::body::Body;
use monoceros::front::websocket::session::{self, FromClient, ToClient};
use monoceros::front::websocket::{Settings, handshake};
use std::convert::Infallible;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;

/// Opens a WebSocket for whoever asks, behind it a worker that echoes messages.
async fn echo(mut request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let upgrade = hyper::upgrade::on(&mut request);
    let (parts, _) = request.into_parts();
    let settings = Settings::default();
    let opening = handshake::examine(&parts, &settings).unwrap().expect("a WebSocket is asked for");
    let response = opening.accept(None, HeaderMap::new()).unwrap();
    tokio::spawn(async move {
        let (to_worker, mut inbox) = mpsc::channel(1);
        let (outbox, from_worker) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Some(FromClient::Message { text, data }) = inbox.recv().await {
                let _ = outbox.send(ToClient::Message { text, data }).await;
            }
        });
        let connection = TokioIo::new(upgrade.await.unwrap());
        let (deflate, stopping) = (opening.deflate.as_ref(), std::future::pending());
        session::run(connection, to_worker, from_worker, &settings, deflate, stopping).await;
    });
    Ok(response.map(|()| Body::empty()))
}

fn serve_http1() -> DuplexStream {
    let (client, server) = tokio::io::duplex(1 << 16);
    tokio::spawn(
        hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(server), service_fn(echo))
            .with_upgrades(),
    );
    client
}

#[tokio::test]
async fn over_http_1() {
    let mut client = serve_http1();
    let request = "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    // The first message comes with the request: bytes read ahead must not be lost.
    client.write_all(request.as_bytes()).await.unwrap();
    client.write_all(b"\x81\x83\0\0\0\0one").await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{head}");
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
    let mut frame = [0; 5];
    client.read_exact(&mut frame).await.unwrap();
    assert_eq!(&frame, b"\x81\x03one");
    client.write_all(b"\x88\x82\0\0\0\0\x03\xe8").await.unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"\x88\x02\x03\xe8");
}

#[tokio::test]
async fn over_http_1_compressed() {
    let mut client = serve_http1();
    let request = "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    // `Hello`, compressed as in RFC 7692 §7.2.3.1; the echo is too short to be.
    client.write_all(b"\xc1\x87\0\0\0\0\xf2\x48\xcd\xc9\xc9\x07\x00").await.unwrap();
    let mut received = Vec::new();
    while !received.ends_with(b"\x81\x05Hello") {
        received.push(client.read_u8().await.unwrap());
    }
    let head = String::from_utf8_lossy(&received);
    assert!(head.contains("sec-websocket-extensions: permessage-deflate\r\n"), "{head}");
}
