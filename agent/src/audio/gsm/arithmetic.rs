//! The 16-bit arithmetic of GSM 06.10 (ETSI EN 300 961, section 5.1): every operation saturates.

/// A product of two fractions, rounded: `mult_r` of the standard.
pub(super) fn product(a: i16, b: i16) -> i16 {
    let rounded = (i32::from(a) * i32::from(b) + 0x4000) >> 15;
    // Only -1 · -1 does not fit.
    i16::try_from(rounded).unwrap_or(i16::MAX)
}

/// The absolute value: `abs` of the standard.
pub(super) fn magnitude(a: i16) -> i16 {
    a.saturating_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edges_saturate() {
        assert_eq!(product(i16::MIN, i16::MIN), i16::MAX);
        assert_eq!(product(i16::MIN, i16::MAX), -32_767);
        assert_eq!((product(16_384, 16_384), product(1, 16_384), product(1, 16_383)), (8192, 1, 0));
        assert_eq!((magnitude(i16::MIN), magnitude(-3)), (i16::MAX, 3));
    }
}
