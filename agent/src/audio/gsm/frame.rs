//! The parameters of one GSM frame, and how files pack them.

/// Bytes of a frame in a `.gsm` file: a signature of 4 bits and 260 bits of parameters (RFC 3551, section 4.5.8).
pub const FRAME_LEN: usize = 33;
/// Bytes of a pair of frames in a WAV file: twice 260 bits.
pub const PAIR_LEN: usize = 65;

/// The first 4 bits of every frame of a `.gsm` file.
const SIGNATURE: u32 = 0xd;

/// Bits of the eight logarithmic area ratios (EN 300 961, table 1.1).
const LAR_BITS: [u32; 8] = [6, 6, 5, 5, 4, 4, 3, 3];

/// The parameters of 5 ms of sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Subframe {
    /// Lag of the long-term prediction.
    pub(super) lag: u8,
    /// Its gain, coded.
    pub(super) gain: u8,
    /// The position at which the grid of pulses begins.
    pub(super) grid: u8,
    /// Amplitude of the largest pulse, coded.
    pub(super) largest: u8,
    /// The pulses, coded.
    pub(super) pulses: [u8; 13],
}

/// The parameters of 20 ms of sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Frame {
    /// Logarithmic area ratios, coded.
    pub(super) ratios: [u8; 8],
    pub(super) subframes: [Subframe; 4],
}

impl Frame {
    /// Whether a `.gsm` file may begin with this byte.
    pub fn may_begin_with(byte: u8) -> bool {
        u32::from(byte >> 4) == SIGNATURE
    }

    /// Reads a frame of a `.gsm` file, whose fields begin with their highest bit. `None` if the signature is missing.
    pub fn from_bytes(bytes: &[u8; FRAME_LEN]) -> Option<Self> {
        let mut bits = Bits { bytes: bytes.iter(), held: 0, count: 0, order: Order::HighestFirst };
        (bits.take(4) == SIGNATURE).then(|| Self::read(&mut bits))
    }

    /// Reads the two frames of a block of a WAV file, whose fields begin with their lowest bit.
    pub fn pair_from_bytes(bytes: &[u8; PAIR_LEN]) -> [Self; 2] {
        let mut bits = Bits { bytes: bytes.iter(), held: 0, count: 0, order: Order::LowestFirst };
        [Self::read(&mut bits), Self::read(&mut bits)]
    }

    fn read(bits: &mut Bits<'_>) -> Self {
        let mut frame = Self::default();
        for (ratio, len) in frame.ratios.iter_mut().zip(LAR_BITS) {
            *ratio = bits.field(len);
        }
        for subframe in &mut frame.subframes {
            subframe.lag = bits.field(7);
            subframe.gain = bits.field(2);
            subframe.grid = bits.field(2);
            subframe.largest = bits.field(6);
            for pulse in &mut subframe.pulses {
                *pulse = bits.field(3);
            }
        }
        frame
    }
}

/// Which bit of a field, and of a byte, comes first.
enum Order {
    HighestFirst,
    LowestFirst,
}

/// Takes bit fields out of bytes. After the last byte, all bits are zero.
struct Bits<'a> {
    bytes: std::slice::Iter<'a, u8>,
    held: u32,
    /// The number of bits held: at most 7 between two calls, so that the next byte fits.
    count: u32,
    order: Order,
}

impl Bits<'_> {
    /// A field of at most 7 bits.
    fn field(&mut self, len: u32) -> u8 {
        u8::try_from(self.take(len)).unwrap_or_default()
    }

    fn take(&mut self, len: u32) -> u32 {
        if self.count < len {
            let byte = u32::from(self.bytes.next().copied().unwrap_or_default());
            match self.order {
                Order::HighestFirst => self.held = self.held << 8 | byte,
                Order::LowestFirst => self.held |= byte << self.count,
            }
            self.count += 8;
        }
        self.count -= len;
        match self.order {
            Order::HighestFirst => {
                let field = self.held >> self.count;
                self.held &= (1 << self.count) - 1;
                field
            }
            Order::LowestFirst => {
                let field = self.held & ((1 << len) - 1);
                self.held >>= len;
                field
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_from_either_end() {
        let mut bytes = [0; FRAME_LEN];
        bytes[..3].copy_from_slice(&[0b1101_1010, 0b1100_0001, 0b0111_1000]);
        let frame = Frame::from_bytes(&bytes).unwrap();
        assert_eq!(frame.ratios[..4], [0b10_1011, 0b00_0001, 0b0_1111, 0]);
        let mut bytes = [0; PAIR_LEN];
        bytes[..3].copy_from_slice(&[0b0110_1011, 0b1111_0000, 0b1]);
        bytes[32] = 0b1010_0000;
        bytes[33] = 0b01;
        let [first, second] = Frame::pair_from_bytes(&bytes);
        assert_eq!(first.ratios[..4], [0b10_1011, 0b00_0001, 0b1_1111, 0]);
        assert_eq!(second.ratios[..2], [0b01_1010, 0], "the second begins within an octet");
    }

    #[test]
    fn a_frame_without_its_signature_is_none() {
        assert_eq!(Frame::from_bytes(&[0xe0; FRAME_LEN]), None);
        assert!(Frame::may_begin_with(0xdf) && !Frame::may_begin_with(0xcf));
    }
}
