//! Masking (RFC 6455, section 5.3), done while bytes are copied: a block is copied and changed while it is in the
//! processor's first cache.

use bytes::BufMut;

/// Bytes that are copied before they are changed.
const BLOCK_LEN: usize = 2048;

/// Appends `bytes` to `target`, with each byte changed by the mask, whose first byte belongs to position 0 of the payload.
/// `at` is the position of the first byte of `bytes` in the payload.
pub(super) fn append_masked<T>(target: &mut T, bytes: &[u8], mask: [u8; 4], at: usize)
where
    T: BufMut + AsMut<[u8]>,
{
    let mut mask = mask;
    mask.rotate_left(at % 4);
    // The length of a block is a multiple of four, so all blocks begin with the same byte of the mask.
    for block in bytes.chunks(BLOCK_LEN) {
        target.put_slice(block);
        let copied = target.as_mut();
        let from = copied.len() - block.len();
        apply(&mut copied[from..], mask);
    }
}

fn apply(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip([a, b, c, d, a, b, c, d]) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_byte_is_changed_by_the_byte_of_the_mask_at_its_position(
            payload in proptest::collection::vec(any::<u8>(), 0..3 * BLOCK_LEN),
            mask: [u8; 4],
            cut in 0..3 * BLOCK_LEN,
        ) {
            let cut = cut.min(payload.len());
            let mut masked = BytesMut::new();
            append_masked(&mut masked, &payload[..cut], mask, 0);
            append_masked(&mut masked, &payload[cut..], mask, cut);
            let expected: Vec<u8> =
                payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]).collect();
            prop_assert_eq!(&masked[..], &expected[..]);
        }
    }
}
