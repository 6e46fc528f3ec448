//! The WebSocket codec: tables of frames, every split of them, and all ways to agree on compression.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use bytes::{Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use monoceros::front::websocket::codec::{Decoder, Encoder, Event};
use monoceros::front::websocket::extension::Agreement;
use monoceros::front::websocket::frame::ProtocolError::{self, *};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const MAX: usize = 70_000;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;

/// A client's frame: `first` is the whole first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        0..126 => frame.push(0x80 | payload.len() as u8),
        126..65_536 => {
            frame.push(0xfe);
            frame.extend((payload.len() as u16).to_be_bytes());
        }
        _ => {
            frame.push(0xff);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ MASK[index % 4]));
    frame
}

fn frames(frames: &[(u8, &[u8])]) -> Vec<u8> {
    frames.iter().flat_map(|(first, payload)| frame(*first, payload)).collect()
}

/// All events, and the error that ended them.
fn decode(pieces: &[&[u8]], deflate: Option<&Agreement>) -> (Vec<Event>, Option<ProtocolError>) {
    let mut decoder = Decoder::new(MAX, deflate);
    let mut events = Vec::new();
    for piece in pieces {
        decoder.buffer().extend_from_slice(piece);
        loop {
            match decoder.next_event() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => return (events, Some(error)),
            }
        }
    }
    (events, None)
}

fn text(data: &str) -> Event {
    Event::Message { text: true, data: Bytes::copy_from_slice(data.as_bytes()) }
}

fn binary(data: &[u8]) -> Event {
    Event::Message { text: false, data: Bytes::copy_from_slice(data) }
}

fn close(code: u16, reason: &str) -> Event {
    Event::Close { code: Some(code), reason: reason.to_owned() }
}

/// A name, what a client sends, and the events and the error that are made of it.
type Case = (&'static str, Vec<u8>, Vec<Event>, Option<ProtocolError>);

fn table() -> Vec<Case> {
    let long = vec![b'x'; 126];
    let longer = vec![b'y'; 65_536];
    let mut table = vec![
        ("empty text", frames(&[(FIN | 1, b"")]), vec![text("")], None),
        ("text", frames(&[(FIN | 1, "Grüße".as_bytes())]), vec![text("Grüße")], None),
        ("binary", frames(&[(FIN | 2, &[0, 255])]), vec![binary(&[0, 255])], None),
        ("16-bit length", frames(&[(FIN | 2, &long)]), vec![binary(&long)], None),
        ("64-bit length", frames(&[(FIN | 2, &longer)]), vec![binary(&longer)], None),
        ("two messages", frames(&[(FIN | 1, b"a"), (FIN | 1, b"b")]), vec![text("a"), text("b")], None),
        ("fragments", frames(&[(1, b"a"), (0, b""), (0, b"b"), (FIN, b"c")]), vec![text("abc")], None),
        (
            "a character split between fragments",
            frames(&[(1, &"€".as_bytes()[..1]), (0, &"€".as_bytes()[1..2]), (FIN, &"€".as_bytes()[2..])]),
            vec![text("€")],
            None,
        ),
        (
            "control frames between fragments",
            frames(&[(1, b"a"), (FIN | 9, b"p"), (FIN | 0xa, b"q"), (FIN, b"b")]),
            vec![Event::Ping(Bytes::from_static(b"p")), Event::Pong(Bytes::from_static(b"q")), text("ab")],
            None,
        ),
        ("longest ping", frames(&[(FIN | 9, &long[1..])]), vec![Event::Ping(long[1..].to_vec().into())], None),
        (
            "close without a code",
            frames(&[(FIN | 8, b"")]),
            vec![Event::Close { code: None, reason: String::new() }],
            None,
        ),
        ("close with a reason", frames(&[(FIN | 8, b"\x03\xe8bye")]), vec![close(1000, "bye")], None),
        (
            "nothing counts after a close",
            frames(&[(FIN | 8, b"\x03\xe8"), (FIN | 1, b"late"), (0x7f, b"")]),
            vec![close(1000, "")],
            None,
        ),
        ("close between fragments", frames(&[(1, b"a"), (FIN | 8, b"\x03\xe8")]), vec![close(1000, "")], None),
        ("ping too long", frames(&[(FIN | 9, &long)]), vec![], Some(ControlFrame)),
        ("fragmented ping", frames(&[(9, b"")]), vec![], Some(ControlFrame)),
        ("fragmented close", frames(&[(8, b"")]), vec![], Some(ControlFrame)),
        ("close of one byte", frames(&[(FIN | 8, b"\x03")]), vec![], Some(CloseCode)),
        ("close reason not UTF-8", frames(&[(FIN | 8, b"\x03\xe8\xff")]), vec![], Some(NotUtf8)),
        ("reserved bit 1", frames(&[(FIN | RSV1 | 1, b"")]), vec![], Some(ReservedBit)),
        ("reserved bit 2", frames(&[(FIN | 0x20 | 1, b"")]), vec![], Some(ReservedBit)),
        ("reserved bit 3", frames(&[(FIN | 0x10 | 1, b"")]), vec![], Some(ReservedBit)),
        ("reserved bit on a ping", frames(&[(FIN | RSV1 | 9, b"")]), vec![], Some(ReservedBit)),
        ("not masked", vec![0x81, 0x01, b'a'], vec![], Some(NotMasked)),
        ("16-bit length too small", vec![0x82, 0xfe, 0, 125, 0, 0, 0, 0], vec![], Some(LengthEncoding)),
        (
            "64-bit length too small",
            vec![0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0],
            vec![],
            Some(LengthEncoding),
        ),
        (
            "64-bit length with the highest bit",
            vec![0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            vec![],
            Some(LengthEncoding),
        ),
        (
            "the largest length there is",
            vec![0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
            vec![],
            Some(MessageTooBig),
        ),
        ("continuation of nothing", frames(&[(FIN, b"a")]), vec![], Some(NothingToContinue)),
        (
            "continuation after the end",
            frames(&[(1, b"a"), (FIN, b"b"), (FIN, b"c")]),
            vec![text("ab")],
            Some(NothingToContinue),
        ),
        ("message within a message", frames(&[(1, b"a"), (FIN | 1, b"b")]), vec![], Some(MessageInterrupted)),
        ("text not UTF-8", frames(&[(FIN | 1, b"a\xffb")]), vec![], Some(NotUtf8)),
        ("surrogate", frames(&[(FIN | 1, b"\xed\xa0\x80")]), vec![], Some(NotUtf8)),
        ("overlong", frames(&[(FIN | 1, b"\xc0\xaf")]), vec![], Some(NotUtf8)),
        ("above U+10FFFF", frames(&[(FIN | 1, b"\xf4\x90\x80\x80")]), vec![], Some(NotUtf8)),
        ("half a character at the end", frames(&[(1, b"a"), (FIN, b"\xe2\x82")]), vec![], Some(NotUtf8)),
        ("a hopeless first fragment is refused at once", frames(&[(1, b"\xf8")]), vec![], Some(NotUtf8)),
        ("message too big", frames(&[(2, &longer), (FIN, &longer[..=MAX - 65_536])]), vec![], Some(MessageTooBig)),
    ];
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        table.push(("unknown opcode", frames(&[(FIN | opcode, b"")]), vec![], Some(UnknownOpcode(opcode))));
    }
    for code in [1000, 1001, 1002, 1003, 1007, 1011, 1012, 1014, 3000, 3999, 4000, 4999_u16] {
        table.push(("close code", frames(&[(FIN | 8, &code.to_be_bytes())]), vec![close(code, "")], None));
    }
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535_u16] {
        table.push(("forbidden close code", frames(&[(FIN | 8, &code.to_be_bytes())]), vec![], Some(CloseCode)));
    }
    table
}

#[test]
fn frames_become_events_or_errors() {
    for (name, input, events, error) in table() {
        assert_eq!(decode(&[&input], None), (events, error), "{name}");
    }
}

#[test]
fn it_does_not_matter_how_the_bytes_arrive() {
    for (name, input, events, error) in table() {
        let bytes: Vec<&[u8]> =
            if input.len() < 4096 { input.chunks(1).collect() } else { input.chunks(997).collect() };
        assert_eq!(decode(&bytes, None), (events.clone(), error), "{name}, in small pieces");
        for split in 0..input.len().min(300) {
            let (first, second) = input.split_at(split);
            assert_eq!(decode(&[first, second], None), (events.clone(), error), "{name}, split at {split}");
        }
    }
}

#[test]
fn a_message_of_exactly_the_largest_size_is_taken() {
    let data = vec![1; MAX];
    let whole = frames(&[(FIN | 2, &data)]);
    assert_eq!(decode(&[&whole], None), (vec![binary(&data)], None));
    let fragments = frames(&[(2, &data[..1]), (FIN, &data[1..])]);
    assert_eq!(decode(&[&fragments], None), (vec![binary(&data)], None));
}

#[test]
fn text_is_refused_before_its_frame_is_complete() {
    let whole = frame(FIN | 1, &[b"a\xff".as_slice(), &[b'x'; 1000]].concat());
    assert_eq!(decode(&[&whole[..20]], None).1, Some(NotUtf8));
}

#[test]
fn server_frames_have_the_shortest_head_and_no_mask() {
    let mut encoder = Encoder::new(None);
    for (length, head) in [
        (0, vec![0x82, 0]),
        (125, vec![0x82, 125]),
        (126, vec![0x82, 126, 0, 126]),
        (65_535, vec![0x82, 126, 0xff, 0xff]),
        (65_536, vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ] {
        let mut output = BytesMut::new();
        let data = Bytes::from(vec![7; length]);
        assert_eq!(encoder.message(false, data.clone(), &mut output), data);
        assert_eq!(output, head, "{length} bytes");
    }
}

#[test]
fn control_frames_of_the_server() {
    let mut output = BytesMut::new();
    Encoder::ping(b"p", &mut output);
    Encoder::pong(b"q", &mut output);
    Encoder::close(1000, "ok", &mut output);
    Encoder::close(1005, "never sent", &mut output);
    assert_eq!(&output[..], b"\x89\x01p\x8a\x01q\x88\x04\x03\xe8ok\x88\x00");
    output.clear();
    Encoder::close(1000, &format!("x{}", "€".repeat(50)), &mut output);
    assert_eq!(output[1], 123, "two of code, and the 121 bytes of reason that are whole characters within 123");
    assert!(std::str::from_utf8(&output[4..]).is_ok());
}

/// The client's compressor.
struct Peer {
    compress: Compress,
    decompress: Decompress,
    agreement: Agreement,
}

impl Peer {
    fn new(agreement: &Agreement) -> Self {
        Self {
            compress: Compress::new_with_window_bits(
                Compression::new(9),
                false,
                agreement.client_max_window_bits.max(9),
            ),
            decompress: Decompress::new_with_window_bits(false, agreement.server_max_window_bits),
            agreement: agreement.clone(),
        }
    }

    fn deflate(&mut self, data: &[u8]) -> Vec<u8> {
        let mut output = Vec::with_capacity(data.len() + 1024);
        self.compress.compress_vec(data, &mut output, FlushCompress::Sync).unwrap();
        assert!(output.ends_with(&[0, 0, 0xff, 0xff]));
        output.truncate(output.len() - 4);
        if self.agreement.client_no_context_takeover {
            self.compress.reset();
        }
        output
    }

    /// Takes the output in small pieces, so that a distance beyond the window is an error and not luck.
    fn inflate(&mut self, data: &[u8]) -> Vec<u8> {
        let input = [data, &[0, 0, 0xff, 0xff]].concat();
        let mut all = Vec::new();
        let mut read = 0;
        loop {
            let mut output = Vec::with_capacity(64);
            let before = self.decompress.total_in();
            self.decompress.decompress_vec(&input[read..], &mut output, FlushDecompress::Sync).unwrap();
            read += (self.decompress.total_in() - before) as usize;
            if output.is_empty() {
                break;
            }
            all.extend(output);
        }
        assert_eq!(read, input.len());
        if self.agreement.server_no_context_takeover {
            self.decompress.reset(false);
        }
        all
    }
}

/// Text whose repetitions are near and far, so that every window size matters.
fn compressible(length: usize) -> Vec<u8> {
    let mut seed = 1_u32;
    let words: Vec<String> = (0..4000_u32)
        .map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            format!("word{} ", seed >> 22)
        })
        .collect();
    words.concat().into_bytes().into_iter().cycle().take(length).collect()
}

#[test]
fn compressed_messages_round_trip_under_every_agreement() {
    for server_no_context_takeover in [false, true] {
        for client_no_context_takeover in [false, true] {
            for (server_max_window_bits, client_max_window_bits) in
                [(15, 15), (9, 9), (9, 15), (15, 8), (10, 14), (12, 11)]
            {
                let agreement = Agreement {
                    server_no_context_takeover,
                    client_no_context_takeover,
                    server_max_window_bits,
                    client_max_window_bits,
                };
                let mut peer = Peer::new(&agreement);
                let mut decoder = Decoder::new(MAX, Some(&agreement));
                let mut encoder = Encoder::new(Some(&agreement));
                for length in [1, 200, 40_000, 200, MAX] {
                    let data = compressible(length);
                    let compressed = peer.deflate(&data);
                    let middle = compressed.len() / 2;
                    decoder.buffer().extend(frames(&[
                        (RSV1 | 1, &compressed[..middle]),
                        (FIN | 9, b""),
                        (FIN, &compressed[middle..]),
                    ]));
                    assert_eq!(decoder.next_event().unwrap(), Some(Event::Ping(Bytes::new())));
                    let message = Event::Message { text: true, data: data.clone().into() };
                    assert_eq!(decoder.next_event().unwrap(), Some(message), "{agreement:?}, {length} bytes");

                    let mut head = BytesMut::new();
                    let payload = encoder.message(true, data.clone().into(), &mut head);
                    if length < 128 {
                        assert_eq!((head[0], &payload[..]), (0x81, &data[..]), "not worth compressing");
                    } else {
                        assert_eq!(head[0], 0xc1);
                        assert!(payload.len() < data.len());
                        assert_eq!(peer.inflate(&payload), data, "{agreement:?}, {length} bytes");
                    }
                }
            }
        }
    }
}

#[test]
fn the_compressed_examples_of_the_rfc() {
    let agreement = Agreement::default();
    // RFC 7692 §7.2.3.1 to §7.2.3.5.
    let cases: [&[&[u8]]; 5] = [
        &[&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]],
        &[&[0xf2, 0x48, 0xcd], &[0xc9, 0xc9, 0x07, 0x00]],
        &[&[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00]],
        &[&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00]],
        &[&[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00]],
    ];
    for pieces in cases {
        let last = pieces.len() - 1;
        let input: Vec<u8> = pieces
            .iter()
            .enumerate()
            .flat_map(|(index, piece)| {
                let opcode = if index == 0 { RSV1 | 1 } else { 0 };
                frame(opcode | if index == last { FIN } else { 0 }, piece)
            })
            .collect();
        assert_eq!(decode(&[&input], Some(&agreement)), (vec![text("Hello")], None), "{pieces:x?}");
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        assert_eq!(decode(&bytes, Some(&agreement)), (vec![text("Hello")], None), "{pieces:x?}, byte by byte");
    }
    // The second of two messages refers to the first (§7.2.3.2).
    let input = frames(&[
        (FIN | RSV1 | 1, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]),
        (FIN | RSV1 | 1, &[0xf2, 0x00, 0x11, 0x00, 0x00]),
    ]);
    assert_eq!(decode(&[&input], Some(&agreement)), (vec![text("Hello"), text("Hello")], None));
}

#[test]
fn compressed_messages_that_are_refused() {
    let agreement = Agreement::default();
    let deflate = |data: &[u8]| Peer::new(&agreement).deflate(data);
    let cases = [
        ("bomb", frames(&[(FIN | RSV1 | 2, &deflate(&vec![0; 100 << 20]))]), MessageTooBig),
        ("one byte too many", frames(&[(FIN | RSV1 | 2, &deflate(&vec![0; MAX + 1]))]), MessageTooBig),
        ("garbage", frames(&[(FIN | RSV1 | 2, &[0xff; 20])]), BadCompression),
        ("text not UTF-8", frames(&[(FIN | RSV1 | 1, &deflate(b"a\xff"))]), NotUtf8),
        ("half a character", frames(&[(FIN | RSV1 | 1, &deflate(b"\xe2\x82"))]), NotUtf8),
        ("reserved bit on a continuation", frames(&[(RSV1 | 1, b""), (FIN | RSV1, b"")]), ReservedBit),
    ];
    for (name, input, error) in cases {
        assert_eq!(decode(&[&input], Some(&agreement)), (vec![], Some(error)), "{name}");
    }
    let exact = vec![0; MAX];
    let input = frames(&[(FIN | RSV1 | 2, &deflate(&exact))]);
    assert_eq!(decode(&[&input], Some(&agreement)), (vec![binary(&exact)], None));
}

#[test]
fn an_uncompressed_message_is_fine_where_compression_was_agreed() {
    let input = frames(&[(FIN | 1, b"plain")]);
    assert_eq!(decode(&[&input], Some(&Agreement::default())), (vec![text("plain")], None));
}
