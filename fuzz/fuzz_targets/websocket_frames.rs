//! A client that sends anything at all over a WebSocket, with and without compression.
#![no_main]

use libfuzzer_sys::fuzz_target;
use monoceros::front::websocket::codec::Decoder;
use monoceros::front::websocket::extension::Agreement;

fuzz_target!(|data: &[u8]| {
    let Some((&[choice, piece], input)) = data.split_first_chunk::<2>() else { return };
    let agreement = Agreement { client_no_context_takeover: choice & 2 != 0, ..Agreement::default() };
    let mut decoder = Decoder::new(4096, (choice & 1 != 0).then_some(&agreement));
    for bytes in input.chunks(usize::from(piece) + 1) {
        decoder.buffer().extend_from_slice(bytes);
        loop {
            match decoder.next_event() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
});
