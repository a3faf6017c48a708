//! Zig-zag variable-length integers, as protobuf and Kafka's records have them.

/// Bytes that [`put`] writes for `value`.
pub(crate) const fn len(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    // 7 payload bits a byte; zero still takes one.
    ((64 - (zigzag | 1).leading_zeros()) as usize).div_ceil(7)
}

/// Appends `value` to `out`.
pub(crate) fn put(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while zigzag >= 0x80 {
        out.push(low_byte(zigzag) | 0x80);
        zigzag >>= 7;
    }
    out.push(low_byte(zigzag));
}

#[expect(clippy::cast_possible_truncation, reason = "the low byte is what is wanted")]
const fn low_byte(n: u64) -> u8 {
    n as u8
}

/// Takes a 64-bit integer from the front of `buf`; `None` if it is cut short or longer than 64 bits.
pub(crate) fn take_i64(buf: &mut &[u8]) -> Option<i64> {
    let mut zigzag = 0_u64;
    for (i, byte) in buf.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        if i == 9 && bits > 1 {
            return None;
        }
        zigzag |= bits << (7 * i);
        if byte & 0x80 == 0 {
            *buf = &buf[i + 1..];
            return Some((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed());
        }
    }
    None
}

/// Takes a 32-bit integer from the front of `buf`; `None` if it is cut short or does not fit.
pub(crate) fn take_i32(buf: &mut &[u8]) -> Option<i32> {
    take_i64(buf).and_then(|n| i32::try_from(n).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A promise: every integer comes back, in as many bytes as were announced, and the rest of the buffer is left alone.
        #[test]
        fn round_trip(value: i64, rest: Vec<u8>) {
            let mut out = Vec::new();
            put(&mut out, value);
            prop_assert_eq!(out.len(), len(value));
            out.extend(&rest);
            let mut buf = out.as_slice();
            prop_assert_eq!(take_i64(&mut buf), Some(value));
            prop_assert_eq!(buf, rest.as_slice());
        }
    }

    /// A promise: hostile bytes are refused, not wrapped around.
    #[test]
    fn overlong_and_short_are_refused() {
        assert_eq!(take_i64(&mut [0xff; 11].as_slice()), None);
        assert_eq!(take_i64(&mut [0x80].as_slice()), None);
        assert_eq!(take_i64(&mut [].as_slice()), None);
        assert_eq!(take_i32(&mut [0xff, 0xff, 0xff, 0xff, 0x7f].as_slice()), None);
        assert_eq!(take_i32(&mut [0xff, 0xff, 0xff, 0xff, 0x0f].as_slice()), Some(i32::MIN));
    }
}
