//! A process that can open no more files: which frame loses its descriptor is certain, and no other one does.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use monoceros_wire::frame::{FLAG_END, Frame, Kind};
use monoceros_wire::inbound::Inbound;
use monoceros_wire::outbound::Outbound;
use monoceros_wire::sys;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

fn file(number: u32) -> File {
    let mut file = File::from(sys::memory_file("test", 4).unwrap());
    file.write_all(&number.to_le_bytes()).unwrap();
    file
}

fn receive(inbound: &mut Inbound, socket: impl AsFd) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Ok(1..) = inbound.receive(socket.as_fd()) {
        while let Some(frame) = inbound.next_frame().unwrap() {
            frames.push(frame);
        }
    }
    frames
}

/// The only test of this file: the limit is that of the whole process.
#[test]
fn a_lost_descriptor_is_missing_in_its_own_frame_only() {
    let (ours, theirs) = sys::stream_pair().unwrap();
    sys::set_nonblocking(&theirs, true).unwrap();
    let mut outbound = Outbound::default();
    for number in 1..=3 {
        outbound.push(number, Kind::Data, 0, b"before");
        outbound.push_descriptor(number, Kind::File, FLAG_END, &[&[0; 16]], Arc::new(file(number).into()));
    }
    while !outbound.send(ours.as_fd()).unwrap() {}
    drop(outbound);

    // Room for one descriptor.
    let lowest = File::open("/dev/null").unwrap();
    let next = lowest.as_raw_fd() as u64 + 1;
    drop(lowest);
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(next), maximum: limit.maximum }).unwrap();
    let mut inbound = Inbound::default();
    let frames = receive(&mut inbound, &theirs);
    setrlimit(Resource::Nofile, limit).unwrap();

    let mut outbound = Outbound::default();
    outbound.push_descriptor(4, Kind::File, FLAG_END, &[&[0; 16]], Arc::new(file(4).into()));
    while !outbound.send(ours.as_fd()).unwrap() {}
    let frames = frames.into_iter().chain(receive(&mut inbound, &theirs)).filter(|frame| frame.kind == Kind::File);
    let files: Vec<(u32, Option<u32>)> = frames
        .map(|frame| {
            let number = frame.descriptor.map(|descriptor| {
                let (mut file, mut bytes) = (File::from(descriptor), [0; 4]);
                file.rewind().unwrap();
                file.read_exact(&mut bytes).unwrap();
                u32::from_le_bytes(bytes)
            });
            (frame.stream, number)
        })
        .collect();
    assert_eq!(files, [(1, Some(1)), (2, None), (3, None), (4, Some(4))]);
}
