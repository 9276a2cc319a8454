//! A decoder of GSM 06.10 full rate speech (ETSI EN 300 961), bit-exact as the standard requires. Pure.
//!
//! A frame of 260 bits holds 160 samples at 8 kHz. The sound of a frame depends on all frames before it, through the
//! few numbers in a [`Decoder`].

#[cfg(test)]
mod tests;

/// Bytes of a frame in a `.gsm` file: a signature of 4 bits and 260 bits of parameters (RFC 3551, section 4.5.8).
pub const FRAME_LEN: usize = 33;
/// Bytes of a pair of frames in a WAV file: twice 260 bits.
pub const PAIR_LEN: usize = 65;
/// Number of samples in a frame.
pub const SAMPLES: usize = 160;
/// Number of samples in a subframe.
const SUBFRAME: usize = 40;
/// The longest lag of the long-term prediction in samples.
const LONGEST_LAG: u8 = 120;
/// The shortest lag, also used before the first frame (EN 300 961, section 5.3.2).
const SHORTEST_LAG: u8 = 40;

/// The first 4 bits of every frame of a `.gsm` file.
const SIGNATURE: u32 = 0xd;
/// Bits of the eight logarithmic area ratios (EN 300 961, table 1.1).
const LAR_BITS: [u32; 8] = [6, 6, 5, 5, 4, 4, 3, 3];
/// For each logarithmic area ratio: its lowest code, and the offset and inverted factor of its scale (EN 300 961,
/// table 5.1).
const RATIOS: [(i16, i16, i16); 8] = [
    (-32, 0, 13_107),
    (-32, 0, 13_107),
    (-16, 2_048, 13_107),
    (-16, -2_560, 13_107),
    (-8, 94, 19_223),
    (-8, -1_792, 17_476),
    (-4, -341, 31_454),
    (-4, -1_144, 29_708),
];
/// Gains of the long-term prediction (EN 300 961, table 5.3b).
const GAINS: [i16; 4] = [3_277, 11_469, 21_299, 32_767];
/// Normalised mantissas of the largest pulse (EN 300 961, table 5.6).
const MANTISSAS: [i16; 8] = [18_431, 20_479, 22_527, 24_575, 26_623, 28_671, 30_719, 32_767];
/// How much the high frequencies were raised before coding, 0.86 (EN 300 961, section 5.2.4).
const EMPHASIS: i16 = 28_180;

/// The parameters of 5 ms of sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Subframe {
    /// Lag of the long-term prediction.
    lag: u8,
    /// Its gain, coded.
    gain: u8,
    /// The position at which the grid of pulses begins.
    grid: u8,
    /// Amplitude of the largest pulse, coded.
    largest: u8,
    /// The pulses, coded.
    pulses: [u8; 13],
}

/// The parameters of 20 ms of sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Frame {
    /// Logarithmic area ratios, coded.
    ratios: [u8; 8],
    subframes: [Subframe; 4],
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

/// Computes a ratio for a part of a frame from the ratio of the last frame and of this one.
type Weigh = fn(i16, i16) -> i16;

/// The state of the decoder between two frames: 276 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoder {
    /// The last samples of the reconstructed short-term residual, oldest first.
    residual: [i16; LONGEST_LAG as usize],
    /// The last valid lag.
    lag: u8,
    /// The logarithmic area ratios of the last frame.
    ratios: [i16; 8],
    /// The memory of the short-term synthesis filter.
    lattice: [i16; 8],
    /// The last sample before its upscaling.
    last: i16,
}

impl Default for Decoder {
    /// The home state, before the first frame.
    fn default() -> Self {
        Self {
            residual: [0; LONGEST_LAG as usize],
            lag: SHORTEST_LAG,
            ratios: [0; 8],
            lattice: [0; 8],
            last: 0,
        }
    }
}

impl Decoder {
    /// Decodes the next frame into 16-bit samples. The standard leaves their lowest three bits zero.
    pub fn decode(&mut self, frame: &Frame) -> [i16; SAMPLES] {
        let mut samples = [0; SAMPLES];
        for (subframe, part) in frame.subframes.iter().zip(samples.chunks_exact_mut(SUBFRAME)) {
            self.predict(subframe, part);
        }
        let ratios = decode_ratios(frame.ratios);
        let before = std::mem::replace(&mut self.ratios, ratios);
        let glides: [(usize, Weigh); 4] = [
            (13, |old, new| (old >> 2).saturating_add(new >> 2).saturating_add(old >> 1)),
            (14, |old, new| (old >> 1).saturating_add(new >> 1)),
            (13, |old, new| (old >> 2).saturating_add(new >> 2).saturating_add(new >> 1)),
            (120, |_, new| new),
        ];
        // The filter changes gradually from the last frame's ratios to this one's (EN 300 961, section 5.2.9.1).
        let mut rest = &mut samples[..];
        for (len, weigh) in glides {
            let (part, after) = rest.split_at_mut(len);
            let mut reflections = [0; 8];
            for (reflection, (old, new)) in reflections.iter_mut().zip(before.into_iter().zip(ratios)) {
                *reflection = reflection_of(weigh(old, new));
            }
            self.synthesise(&reflections, part);
            rest = after;
        }
        self.finish(&mut samples);
        samples
    }

    /// Long-term synthesis (EN 300 961, section 5.3.2): adds an echo of earlier samples to the pulses of a subframe.
    fn predict(&mut self, subframe: &Subframe, part: &mut [i16]) {
        if (SHORTEST_LAG..=LONGEST_LAG).contains(&subframe.lag) {
            self.lag = subframe.lag;
        }
        let gain = GAINS.into_iter().nth(usize::from(subframe.gain)).unwrap_or_default();
        pulses(subframe, part);
        let echo = self.residual.iter().skip(usize::from(LONGEST_LAG - self.lag));
        for (sample, past) in part.iter_mut().zip(echo) {
            *sample = sample.saturating_add(product(gain, *past));
        }
        self.residual.copy_within(SUBFRAME.., 0);
        let newest = self.residual.iter_mut().skip(usize::from(LONGEST_LAG) - SUBFRAME);
        for (kept, sample) in newest.zip(part.iter()) {
            *kept = *sample;
        }
    }

    /// The short-term synthesis filter, a lattice of eight (EN 300 961, section 5.3.4).
    fn synthesise(&mut self, reflections: &[i16; 8], samples: &mut [i16]) {
        for sample in samples {
            let mut signal = *sample;
            // The memory of each step goes to the step above it; that of the uppermost step is dropped.
            let mut above: Option<&mut i16> = None;
            for (reflection, memory) in reflections.iter().zip(&mut self.lattice).rev() {
                signal = signal.saturating_sub(product(*reflection, *memory));
                let passed = memory.saturating_add(product(*reflection, signal));
                if let Some(above) = above.replace(memory) {
                    *above = passed;
                }
            }
            if let Some(lowest) = above {
                *lowest = signal;
            }
            *sample = signal;
        }
    }

    /// De-emphasis, upscaling and truncation (EN 300 961, section 5.3.5 to 5.3.7).
    fn finish(&mut self, samples: &mut [i16]) {
        for sample in samples {
            self.last = sample.saturating_add(product(self.last, EMPHASIS));
            *sample = self.last.saturating_add(self.last) & !7;
        }
    }
}

/// Decodes the logarithmic area ratios (EN 300 961, section 5.2.8).
fn decode_ratios(coded: [u8; 8]) -> [i16; 8] {
    let mut ratios = [0; 8];
    for ((ratio, code), (least, offset, factor)) in ratios.iter_mut().zip(coded).zip(RATIOS) {
        // Codes have at most 6 bits, so the shift loses nothing.
        let scaled = (i16::from(code) + least) << 10;
        let value = product(factor, scaled.saturating_sub(offset << 1));
        *ratio = value.saturating_add(value);
    }
    ratios
}

/// A reflection coefficient from its logarithmic area ratio (EN 300 961, section 5.2.9.2).
fn reflection_of(ratio: i16) -> i16 {
    let size = magnitude(ratio);
    let reflection = if size < 11_059 {
        size << 1
    } else if size < 20_070 {
        size + 11_059
    } else {
        (size >> 2).saturating_add(26_112)
    };
    if ratio < 0 { -reflection } else { reflection }
}

/// Decodes the pulses of a subframe onto their grid (EN 300 961, section 5.2.15 to 5.2.17).
fn pulses(subframe: &Subframe, part: &mut [i16]) {
    let (exponent, mantissa) = largest(subframe.largest);
    let factor = MANTISSAS.into_iter().nth(mantissa).unwrap_or_default();
    // From 0 for the largest to 10 for the smallest.
    let shift = 6 - exponent;
    let rounding = if shift > 0 { 1 << (shift - 1) } else { 0 };
    let places = part.iter_mut().skip(usize::from(subframe.grid)).step_by(3);
    for (place, code) in places.zip(subframe.pulses) {
        let pulse = (i16::from(code) * 2 - 7) << 12;
        *place = product(factor, pulse).saturating_add(rounding) >> shift;
    }
}

/// Exponent (-4 to 6) and mantissa (0 to 7) of the coded amplitude of the largest pulse (EN 300 961, section 5.2.15).
fn largest(coded: u8) -> (i16, usize) {
    let mut exponent = if coded > 15 { i16::from(coded >> 3) - 1 } else { 0 };
    let mut mantissa = i16::from(coded) - (exponent << 3);
    if mantissa == 0 {
        return (-4, 7);
    }
    while mantissa <= 7 {
        mantissa = mantissa << 1 | 1;
        exponent -= 1;
    }
    (exponent, usize::try_from(mantissa - 8).unwrap_or_default())
}

/// A product of two fractions, rounded: `mult_r` of the standard.
fn product(a: i16, b: i16) -> i16 {
    let rounded = (i32::from(a) * i32::from(b) + 0x4000) >> 15;
    // Only -1 · -1 does not fit.
    i16::try_from(rounded).unwrap_or(i16::MAX)
}

/// The absolute value: `abs` of the standard.
fn magnitude(a: i16) -> i16 {
    a.saturating_abs()
}
