//! Sizes in bytes as users write them: `65536`, `512k`, `1MB`, `2GiB`, `0`.

/// Reads a size. As in nginx the units are powers of 1024, in capitals or not.
pub fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Writes a size in the form that [`parse`] reads.
pub fn show(bytes: u64) -> String {
    for (shift, unit) in [(40, "TB"), (30, "GB"), (20, "MB"), (10, "k")] {
        if bytes >> shift > 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_users_write() {
        let cases = [
            ("0", Some(0)),
            ("65536", Some(65_536)),
            ("512k", Some(512 << 10)),
            ("512K", Some(512 << 10)),
            ("1MB", Some(1 << 20)),
            ("1 MB", Some(1 << 20)),
            ("10m", Some(10 << 20)),
            ("2GiB", Some(2 << 30)),
            ("1t", Some(1 << 40)),
            ("12b", Some(12)),
            ("", None),
            ("MB", None),
            ("-1", None),
            ("+1", None),
            ("1.5MB", None),
            ("1MBB", None),
            ("1 0", None),
            ("18446744073709551616", None),
            ("18446744073709551615k", None),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse(text), bytes, "{text:?}");
        }
    }

    #[test]
    fn shows_what_it_can_read() {
        for (bytes, text) in
            [(0, "0"), (1000, "1000"), (1024, "1k"), (32 << 10, "32k"), (1 << 20, "1MB"), (3 << 30, "3GB")]
        {
            assert_eq!(show(bytes), text);
            assert_eq!(parse(text), Some(bytes));
        }
    }
}
