//! The strict scanner of a chunked body (RFC 9112 §7.1).
//!
//! Everything goes byte by byte except chunk data, so it never needs a byte twice and keeps none. Extensions are let
//! through, since hyper drops them; but only plain ones: a quoted value could hold what looks like a line end.

use super::raw::Limits;
use super::{Refusal, TOKEN, VALUE};

/// 16 hexadecimal digits are 64 bits: more of them could only be zeros in front, put there for someone's overflow.
const MOST_SIZE_DIGITS: u8 = 16;
/// Bytes of extensions in all chunk lines of one body; hyper stops at 16 KiB.
const MOST_EXTENSION_BYTES: u16 = 4096;
/// Bytes of the trailer section; hyper stops at 16 KiB.
const MOST_TRAILER_BYTES: u16 = 8192;

/// Where in the chunked body the scanner is.
#[derive(Debug, Clone, Default)]
pub struct Chunked {
    state: State,
    /// Of the chunk being read: its size, then what is left of it.
    size: u64,
    digits: u8,
    extension_bytes: u16,
    trailer_bytes: u16,
    trailer_fields: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Size,
    Extension,
    SizeLineFeed,
    Data,
    DataCarriageReturn,
    DataLineFeed,
    /// At the start of a trailer line.
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    LastLineFeed,
}

/// How a scan ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    More,
    Done,
    Broken(Refusal),
}

impl Chunked {
    /// Scans the window from its start. The number of bytes in front of the violation, or of the end, may be passed on.
    pub fn scan(&mut self, window: &[u8], limits: &Limits) -> (usize, Progress) {
        let mut at = 0;
        while at < window.len() {
            if self.state == State::Data {
                let taken = (window.len() - at).min(usize::try_from(self.size).unwrap_or(usize::MAX));
                at += taken;
                self.size -= taken as u64;
                if self.size == 0 {
                    self.state = State::DataCarriageReturn;
                }
                continue;
            }
            match self.step(window[at], limits) {
                Ok(false) => at += 1,
                Ok(true) => return (at + 1, Progress::Done),
                Err(refusal) => return (at, Progress::Broken(refusal)),
            }
        }
        (at, Progress::More)
    }

    /// Takes one byte outside chunk data; true after the last one of the body.
    fn step(&mut self, byte: u8, limits: &Limits) -> Result<bool, Refusal> {
        self.state = match (self.state, byte) {
            (State::Size, digit) if digit.is_ascii_hexdigit() => {
                if self.digits == MOST_SIZE_DIGITS {
                    return Err(Refusal::ChunkSize);
                }
                self.digits += 1;
                self.size = self.size << 4 | u64::from(char::from(digit).to_digit(16).unwrap_or_default());
                State::Size
            }
            (State::Size, b'\r') if self.digits > 0 => State::SizeLineFeed,
            (State::Size, b';') if self.digits > 0 => State::Extension,
            (State::Size, _) => return Err(Refusal::ChunkSize),
            (State::Extension, b'\r') => State::SizeLineFeed,
            (State::Extension, byte) => {
                self.extension_bytes += 1;
                let plain = TOKEN[byte as usize] || matches!(byte, b'=' | b';' | b' ' | b'\t');
                if !plain || self.extension_bytes > MOST_EXTENSION_BYTES {
                    return Err(Refusal::ChunkExtension);
                }
                State::Extension
            }
            (State::SizeLineFeed, b'\n') => {
                self.digits = 0;
                if self.size == 0 { State::TrailerStart } else { State::Data }
            }
            (State::SizeLineFeed, _) => return Err(Refusal::ChunkSize),
            (State::DataCarriageReturn, b'\r') => State::DataLineFeed,
            (State::DataLineFeed, b'\n') => State::Size,
            (State::DataCarriageReturn | State::DataLineFeed | State::Data, _) => return Err(Refusal::ChunkEnd),
            (State::LastLineFeed, b'\n') => return Ok(true),
            (State::TrailerStart, b'\r') => State::LastLineFeed,
            (trailer, byte) => self.trailer_step(trailer, byte, limits)?,
        };
        Ok(false)
    }

    fn trailer_step(&mut self, state: State, byte: u8, limits: &Limits) -> Result<State, Refusal> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > MOST_TRAILER_BYTES {
            return Err(Refusal::Trailer);
        }
        match (state, byte) {
            (State::TrailerStart, byte) if TOKEN[byte as usize] => {
                self.trailer_fields += 1;
                if usize::from(self.trailer_fields) > limits.header_fields {
                    return Err(Refusal::Trailer);
                }
                Ok(State::TrailerName)
            }
            (State::TrailerName, byte) if TOKEN[byte as usize] => Ok(State::TrailerName),
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLineFeed),
            (State::TrailerValue, byte) if VALUE[byte as usize] => Ok(State::TrailerValue),
            (State::TrailerLineFeed, b'\n') => Ok(State::TrailerStart),
            _ => Err(Refusal::Trailer),
        }
    }
}
