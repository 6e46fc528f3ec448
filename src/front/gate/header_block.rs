//! The syntax of HPACK (RFC 7541), without decoding: where the fields of a header block begin and end.
//!
//! h2 decodes; this says afterwards whether a block that h2 gave up on could not be decoded at all, or says what must
//! not be said. Only the first is COMPRESSION_ERROR (RFC 9113 §4.3).

/// RFC 7541, Appendix A.
const STATIC_ENTRIES: usize = 61;
/// The pseudo-header fields stand first in the static table.
const LAST_PSEUDO_ENTRY: usize = 14;
/// We leave SETTINGS_HEADER_TABLE_SIZE at its default.
const TABLE_SIZE: usize = 4096;
/// What an entry counts beside its name and value (RFC 7541 §4.1): so many fit at most.
const DYNAMIC_ENTRIES: usize = TABLE_SIZE / 32;

/// The Huffman code of HPACK is canonical: how many codes there are of each length says which bits are codes.
/// Lengths in bits, from RFC 7541, Appendix B.
const CODES: [(u32, u32); 21] = [
    (5, 10),
    (6, 26),
    (7, 32),
    (8, 6),
    (10, 5),
    (11, 3),
    (12, 2),
    (13, 6),
    (14, 2),
    (15, 3),
    (19, 3),
    (20, 8),
    (21, 13),
    (22, 26),
    (23, 29),
    (24, 12),
    (25, 4),
    (26, 15),
    (27, 19),
    (28, 29),
    (30, 4),
];
/// The end of a string: never written out (RFC 7541 §5.2).
const END_OF_STRING: u32 = 0x3FFF_FFFF;

/// The block cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Undecodable;

/// What can be said of a field without the dynamic table.
#[derive(Debug, Clone, Copy)]
struct Field {
    is_pseudo: bool,
    is_inserted: bool,
}

/// Whether every field of the block can be decoded. `entries` is how many the dynamic table may hold before it.
pub fn check(mut block: &[u8], entries: usize) -> Result<(), Undecodable> {
    let mut entries = entries.min(DYNAMIC_ENTRIES);
    let mut resizable = true;
    while let Some(first) = block.first() {
        if first & 0xE0 == 0x20 {
            let size = integer(&mut block, 5)?;
            if !resizable || size > TABLE_SIZE {
                return Err(Undecodable);
            }
            continue;
        }
        resizable = false;
        if field(&mut block, STATIC_ENTRIES + entries)?.is_inserted {
            entries = DYNAMIC_ENTRIES.min(entries + 1);
        }
    }
    Ok(())
}

/// Whether a field of the block is certainly a pseudo-header field. Those that stand in the dynamic table are not found.
pub fn has_pseudo_field(mut block: &[u8]) -> bool {
    while let Some(first) = block.first() {
        let found = if first & 0xE0 == 0x20 {
            integer(&mut block, 5).map(|_| false)
        } else {
            field(&mut block, STATIC_ENTRIES + DYNAMIC_ENTRIES).map(|field| field.is_pseudo)
        };
        match found {
            Ok(false) => {}
            Ok(true) => return true,
            Err(Undecodable) => return false,
        }
    }
    false
}

/// The most entries that any block can find in the dynamic table.
pub const fn most_entries() -> usize {
    DYNAMIC_ENTRIES
}

fn field(block: &mut &[u8], known: usize) -> Result<Field, Undecodable> {
    let first = *block.first().ok_or(Undecodable)?;
    let (prefix, is_indexed, is_inserted) = match first {
        0x80.. => (7, true, false),
        0x40..0x80 => (6, false, true),
        _ => (4, false, false),
    };
    let index = integer(block, prefix)?;
    if index > known || (is_indexed && index == 0) {
        return Err(Undecodable);
    }
    let mut is_pseudo = (1..=LAST_PSEUDO_ENTRY).contains(&index);
    if index == 0 {
        is_pseudo = string(block)?;
    }
    if !is_indexed {
        string(block)?;
    }
    Ok(Field { is_pseudo, is_inserted })
}

/// An integer (RFC 7541 §5.1). None that stands for something needs more than five bytes.
fn integer(block: &mut &[u8], prefix: u32) -> Result<usize, Undecodable> {
    let (first, mut rest) = block.split_first().ok_or(Undecodable)?;
    let mask = (1_usize << prefix) - 1;
    let mut value = usize::from(*first) & mask;
    if value == mask {
        for shift in [0, 7, 14, 21, 28] {
            let (byte, after) = rest.split_first().ok_or(Undecodable)?;
            rest = after;
            value += usize::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                *block = rest;
                return Ok(value);
            }
        }
        return Err(Undecodable);
    }
    *block = rest;
    Ok(value)
}

/// Passes over a string (RFC 7541 §5.2) and says whether it begins with a colon.
fn string(block: &mut &[u8]) -> Result<bool, Undecodable> {
    let is_huffman = block.first().ok_or(Undecodable)? & 0x80 != 0;
    let length = integer(block, 7)?;
    let (text, rest) = block.split_at_checked(length).ok_or(Undecodable)?;
    *block = rest;
    let first = text.first().copied().unwrap_or_default();
    if is_huffman {
        huffman(text)?;
        // The colon is 1011100 there.
        return Ok(first >> 1 == 0x5C);
    }
    Ok(first == b':')
}

fn huffman(text: &[u8]) -> Result<(), Undecodable> {
    let mut code = 0_u32;
    let mut length = 0;
    for bit in text.iter().flat_map(|byte| (0..8).rev().map(move |position| u32::from(byte >> position & 1))) {
        code = code << 1 | bit;
        length += 1;
        if is_code(code, length) {
            if code == END_OF_STRING {
                return Err(Undecodable);
            }
            (code, length) = (0, 0);
        }
    }
    // Padding is shorter than a byte and begins as the end of a string does.
    if length < 8 && code == (1 << length) - 1 { Ok(()) } else { Err(Undecodable) }
}

fn is_code(code: u32, length: u32) -> bool {
    let (mut next, mut bits) = (0, 0);
    for (each, count) in CODES {
        next <<= each - bits;
        bits = each;
        if each == length {
            return (next..next + count).contains(&code);
        }
        next += count;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks() {
        let cases: [(&str, &[u8], usize, bool); 20] = [
            ("nothing", b"", 0, true),
            ("index", b"\x82", 0, true),
            ("index 0", b"\x80", 0, false),
            ("index of the first insertion", b"\x40\x01a\x01b\xBE", 0, true),
            ("index before any insertion", b"\xBE", 0, false),
            ("index that an earlier block may have made", b"\xBE", 1, true),
            ("index beyond what the table can hold", b"\xFF\x3F", 1000, false),
            ("last index of a full table", b"\xFF\x3E", 1000, true),
            ("name beyond the table", b"\x0F\x2F\x01a", 0, false),
            ("literal", b"\x00\x01a\x01b", 0, true),
            ("never indexed", b"\x10\x01a\x01b", 0, true),
            ("truncated name", b"\x40\x05ab", 0, false),
            ("no value", b"\x40\x01a", 0, false),
            ("truncated integer", b"\xFF\x80", 0, false),
            ("endless integer", b"\xFF\x80\x80\x80\x80\x80\x80\x00", 0, false),
            ("table size", b"\x3F\xE1\x1F\x82", 0, true),
            ("table size above the setting", b"\x3F\xE2\x1F\x82", 0, false),
            ("table size after a field", b"\x82\x20", 0, false),
            // RFC 7541, C.4.1
            ("Huffman", b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff", 0, true),
            ("end of string", b"\x40\x84\xff\xff\xff\xff\x01a", 0, false),
        ];
        for (name, block, entries, decodable) in cases {
            assert_eq!(check(block, entries).is_ok(), decodable, "{name}");
        }
    }

    #[test]
    fn huffman_padding() {
        // "a" is 00011.
        let cases: [(&[u8], bool); 4] = [(&[0x1F], true), (&[0x18], false), (&[0x1F, 0xFF], false), (&[0x1E], false)];
        for (text, valid) in cases {
            assert_eq!(huffman(text).is_ok(), valid, "{text:x?}");
        }
    }

    #[test]
    fn the_code_is_complete() {
        assert_eq!(CODES.iter().map(|(_, count)| count).sum::<u32>(), 257, "256 bytes and the end of a string");
        assert!(is_code(END_OF_STRING, 30));
    }

    #[test]
    fn pseudo_fields() {
        let cases: [(&[u8], bool); 6] = [
            (b"\x82", true),
            (b"\x40\x03x-a\x01b", false),
            (b"\x40\x03x-a\x01b\x44\x01/", true),
            (b"\x00\x02:x\x01b", true),
            // ":path" in Huffman.
            (b"\x00\x84\xb9\x58\xd3\x3f\x01/", true),
            (b"\xFF", false),
        ];
        for (block, found) in cases {
            assert_eq!(has_pseudo_field(block), found, "{block:x?}");
        }
    }
}
