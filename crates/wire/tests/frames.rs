//! The wire over real sockets, and every way its decoder must refuse.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use bytes::{Bytes, BytesMut};
use monoceros_wire::codec::DecodeError;
use monoceros_wire::frame::{FLAG_DESCRIPTOR, FLAG_END, Frame, HEADER_LENGTH, Header, Kind};
use monoceros_wire::inbound::Inbound;
use monoceros_wire::message::{
    Abort, BodySource, BootFailure, ClientFacts, FileRange, Hello, HttpVersion, Interface, Protocol, Ready, Request,
    RequestFacts, ResponseHead, TlsFacts, decode_amount, decode_close, encode_close, encode_request, encode_response,
};
use monoceros_wire::outbound::Outbound;
use monoceros_wire::sys;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

fn facts() -> RequestFacts<'static> {
    RequestFacts {
        protocol: Protocol::Http,
        version: HttpVersion::Http2,
        is_https: true,
        tls: Some(TlsFacts {
            version: 0x0304,
            cipher_suite: 0x1301,
            client: Some(ClientFacts { subject: b"CN=Alice", chain: b"-----BEGIN" }),
        }),
        body: BodySource::Inline,
        method: b"POST",
        path: b"/caf%C3%A9",
        query: b"a=1&b=%20",
        client_address: b"192.0.2.7",
        client_port: 50123,
        server_address: b"::1",
        server_port: 8443,
    }
}

fn fields() -> [(&'static [u8], &'static [u8]); 3] {
    [(b"host", b"example.org"), (b"x-latin", b"\xe9"), (b"empty", b"")]
}

fn request_payload(cell: u32, body: &[u8]) -> Bytes {
    let mut payload = BytesMut::from(&cell.to_le_bytes()[..]);
    encode_request(&mut payload, &facts(), fields()).unwrap();
    payload.extend_from_slice(body);
    payload.freeze()
}

fn all(inbound: &mut Inbound) -> Vec<Frame> {
    std::iter::from_fn(|| inbound.next_frame().unwrap()).collect()
}

#[test]
fn a_request_survives_the_wire() {
    let payload = request_payload(7, b"hello");
    let request = Request::decode(&payload).unwrap();
    assert_eq!((request.cell, request.facts, &request.body[..]), (7, facts(), &b"hello"[..]));
    assert_eq!(request.fields.collect::<Vec<_>>(), fields());
}

#[test]
fn a_response_survives_the_wire() {
    let mut payload = BytesMut::new();
    encode_response(&mut payload, 418, fields()).unwrap();
    payload.extend_from_slice(b"short and stout");
    let payload = payload.freeze();
    let head = ResponseHead::decode(&payload).unwrap();
    assert_eq!((head.status, &head.body[..]), (418, &b"short and stout"[..]));
    assert_eq!(head.fields.collect::<Vec<_>>(), fields());
}

#[test]
fn small_messages_survive_the_wire() {
    let copy = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    let hello = Hello { version: 3, pid: 77 };
    assert_eq!(Hello::decode(&copy(&hello.encode())), Ok(hello));
    let ready = Ready { interface: Interface::Asgi, slots: 1000 };
    assert_eq!(Ready::decode(&copy(&ready.encode())), Ok(ready));
    let range = FileRange { offset: 1 << 40, length: 9 };
    assert_eq!(FileRange::decode(&copy(&range.encode())), Ok(range));
    assert_eq!(decode_amount(&copy(&65_536u32.to_le_bytes())), Ok(65_536));
    assert_eq!(decode_close(&copy(&encode_close(1001, "bye"))), Ok((1001, copy(b"bye"))));
    let failure = BootFailure {
        stage: "import".to_owned(),
        message: "é".to_owned(),
        hint: String::new(),
        traceback: "Traceback".to_owned(),
    };
    assert_eq!(BootFailure::decode(&copy(&failure.encode())), Ok(failure));
}

#[test]
fn every_prefix_of_a_head_is_refused() {
    let payload = request_payload(1, b"");
    for length in 0..payload.len() {
        assert!(Request::decode(&payload.slice(..length)).is_err(), "{length} bytes were accepted");
    }
    let mut head = BytesMut::new();
    encode_response(&mut head, 200, fields()).unwrap();
    let head = head.freeze();
    for length in 0..head.len() {
        assert!(ResponseHead::decode(&head.slice(..length)).is_err(), "{length} bytes were accepted");
    }
}

#[test]
fn what_the_decoders_refuse() {
    let bytes = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    let mut long = request_payload(1, b"").to_vec();
    long[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(Request::decode(&bytes(&long)).unwrap_err(), DecodeError::Invalid("request"));
    for (at, value) in [(8, 2u8), (9, 12), (11, 9)] {
        let mut wrong = request_payload(1, b"").to_vec();
        wrong[at] = value;
        assert_eq!(Request::decode(&bytes(&wrong)).unwrap_err(), DecodeError::Invalid("request"), "byte {at}");
    }
    // A head that claims to be shorter than its fields would hide bytes in the body.
    let mut short = request_payload(1, b"").to_vec();
    let length = u32::from_le_bytes([short[4], short[5], short[6], short[7]]) - 1;
    short[4..8].copy_from_slice(&length.to_le_bytes());
    assert_eq!(Request::decode(&bytes(&short)).unwrap_err(), DecodeError::Invalid("request"));
    assert!(Ready::decode(&bytes(&[0, 0, 0, 0, 0])).is_err(), "no slots");
    assert!(Ready::decode(&bytes(&[7, 1, 0, 0, 0])).is_err(), "no such interface");
    assert!(FileRange::decode(&bytes(&[0xff; 16])).is_err(), "overflow");
    assert!(decode_close(&bytes(&[0xe8, 3, 0xff])).is_err(), "reason is not UTF-8");
    assert!(Abort::decode(&bytes(&[9])).is_err());
    assert!(BootFailure::decode(&bytes(b"{")).is_err());
}

#[test]
fn header_limits() {
    let header = Header { length: 1 << 20, stream: 9, kind: Kind::Data, flags: FLAG_END };
    assert_eq!(Header::decode(header.encode()), Ok(header));
    let mut long = header.encode();
    long[..4].copy_from_slice(&((1u32 << 20) + 1).to_le_bytes());
    assert!(matches!(Header::decode(long), Err(DecodeError::PayloadTooLarge { .. })));
    let mut unknown = header.encode();
    unknown[8] = 99;
    assert_eq!(Header::decode(unknown), Err(DecodeError::UnknownKind(99)));
}

#[test]
fn frames_are_the_same_however_the_bytes_arrive() {
    let mut outbound = Outbound::default();
    outbound.push(4097, Kind::Request, FLAG_END, &request_payload(1, b"body"));
    outbound.push(0, Kind::Drain, 0, b"");
    outbound.push_parts(8193, Kind::Body, 0, &[b"one", b"", b"two"]);
    let bytes = outbound.bytes().to_vec();
    let describe = |frames: &[Frame]| {
        frames.iter().map(|frame| (frame.stream, frame.kind, frame.flags, frame.payload.clone())).collect::<Vec<_>>()
    };
    let mut whole = Inbound::default();
    whole.feed(&bytes, []);
    let expected = describe(&all(&mut whole));
    assert_eq!(expected.len(), 3);
    for size in [1, 2, 3, HEADER_LENGTH - 1, HEADER_LENGTH, HEADER_LENGTH + 1, 50] {
        let mut inbound = Inbound::default();
        let mut frames = Vec::new();
        for piece in bytes.chunks(size) {
            inbound.feed(piece, []);
            frames.extend(all(&mut inbound));
        }
        assert_eq!(describe(&frames), expected, "pieces of {size}");
        assert!(!inbound.is_partial());
    }
}

#[test]
fn a_missing_descriptor_is_an_error() {
    let mut inbound = Inbound::default();
    inbound.feed(&Header { length: 0, stream: 1, kind: Kind::File, flags: FLAG_DESCRIPTOR }.encode(), []);
    assert!(matches!(inbound.next_frame(), Err(DecodeError::MissingDescriptor(_))));
}

#[test]
fn descriptors_arrive_with_their_frames() {
    let (ours, theirs) = sys::stream_pair().unwrap();
    let mut outbound = Outbound::default();
    // More than one system call may carry, between frames without any.
    for number in 0..40u32 {
        let mut file = File::from(sys::memory_file("test", 4).unwrap());
        file.write_all(&number.to_le_bytes()).unwrap();
        outbound.push(number + 1, Kind::Data, 0, b"before");
        outbound.push_descriptor(number + 1, Kind::File, FLAG_END, &[&[0; 16]], Arc::new(file.into()));
    }
    while !outbound.send(ours.as_fd()).unwrap() {}
    drop(ours);
    let mut inbound = Inbound::default();
    let mut seen = 0;
    while inbound.receive(theirs.as_fd()).unwrap() > 0 {
        for frame in all(&mut inbound) {
            if frame.kind == Kind::File {
                let mut file = File::from(frame.descriptor.unwrap());
                let mut bytes = [0; 4];
                file.rewind().unwrap();
                file.read_exact(&mut bytes).unwrap();
                assert_eq!(u32::from_le_bytes(bytes) + 1, frame.stream);
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 40);
}

#[test]
fn a_failed_encoder_leaves_nothing_behind() {
    let mut outbound = Outbound::default();
    let long = vec![b'x'; 70_000];
    let field = [(&b"name"[..], &long[..])];
    let failed = outbound.push_with(1, Kind::Head, 0, |into| encode_response(into, 200, field));
    assert!(failed.is_err());
    assert!(outbound.is_empty());
    outbound.push_with(1, Kind::Head, FLAG_END, |into| encode_response(into, 200, fields())).unwrap();
    let mut inbound = Inbound::default();
    inbound.feed(outbound.bytes(), []);
    assert_eq!(ResponseHead::decode(&all(&mut inbound)[0].payload).unwrap().status, 200);
}
