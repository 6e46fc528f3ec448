//! Whatever arrives on a link: no panic, and no allocation beyond the limits.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut inbound = monoceros_wire::inbound::Inbound::default();
    let (first, rest) = bytes.split_at(bytes.len() / 3);
    for piece in [first, rest] {
        inbound.feed(piece, []);
        while let Ok(Some(frame)) = inbound.next_frame() {
            if let Ok(request) = monoceros_wire::message::Request::decode(&frame.payload) {
                assert_eq!(request.fields.len(), request.fields.count());
            }
            let _ = monoceros_wire::message::ResponseHead::decode(&frame.payload);
            let _ = monoceros_wire::message::FileRange::decode(&frame.payload);
            let _ = monoceros_wire::message::BootFailure::decode(&frame.payload);
            let _ = monoceros_wire::message::decode_close(&frame.payload);
        }
    }
});
