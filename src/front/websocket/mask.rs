//! The XOR mask of client frames (RFC 6455 §5.3).

/// Applies `key` to `data`, which begins at byte `position` of the frame's payload. Its own inverse.
pub fn apply(data: &mut [u8], key: [u8; 4], position: usize) {
    let mut key = key;
    key.rotate_left(position % 4);
    let word = u64::from(u32::from_ne_bytes(key));
    // The two halves are equal, so the order of bytes in a word does not matter.
    let word = word << 32 | word;
    let (words, rest) = data.as_chunks_mut::<8>();
    for chunk in words {
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.into_iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::apply;

    #[test]
    fn equals_the_definition_byte_by_byte_at_every_length_and_position() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        for length in 0..40 {
            for position in 0..9 {
                let plain: Vec<u8> = (0..length).map(|byte: u8| byte.wrapping_mul(7)).collect();
                let expected: Vec<u8> =
                    plain.iter().enumerate().map(|(index, byte)| byte ^ key[(index + position) % 4]).collect();
                let mut masked = plain.clone();
                apply(&mut masked, key, position);
                assert_eq!(masked, expected, "length {length}, position {position}");
                apply(&mut masked, key, position);
                assert_eq!(masked, plain);
            }
        }
    }
}
