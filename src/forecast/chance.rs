//! What is not known is drawn: the same seed draws the same.

/// What is taken to be usual may be off by so large a part: as the standard deviation of its logarithm.
const GUESSED: f64 = 0.7;

/// How likely a course is: all downloads take so long against the mean, and single ones as drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draws {
    pub(super) seed: u64,
    /// Standard deviations of the mean by which everything takes longer.
    pub(super) deviations: f64,
    /// Whether single downloads differ.
    pub(super) around: bool,
}

/// Draws for the devices of one play.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chance {
    seed: u64,
}

/// What is drawn for a device. Each has draws of its own.
#[derive(Debug, Clone, Copy)]
pub(super) enum Draw {
    /// How long its download takes, against the mean.
    Tempo = 1,
    /// Where in its rhythm it is.
    Phase = 2,
    /// Which known device stands for it.
    Likeness = 3,
    /// Whether it fails.
    Failure = 4,
    /// Its number among the devices that wait.
    Number = 5,
    /// What it runs, and so what it downloads.
    Route = 6,
    /// How it can be reached, where it was never heard.
    Rhythm = 7,
    /// At which site it is, and behind which gateway, where it is not there yet.
    Lanes = 8,
}

impl Draws {
    /// What is drawn for devices.
    pub(super) const fn chance(self) -> Chance {
        Chance::new(self.seed)
    }

    /// What was guessed of a whole fleet is so many times as much in this course.
    pub(super) fn guessed(self) -> f64 {
        (self.deviations * GUESSED).exp()
    }
}

impl Chance {
    pub(super) const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// 64 bits for a device: `SplitMix64` over its number, the draw and the seed.
    pub(super) const fn bits(self, device: u32, draw: Draw) -> u64 {
        let mut bits = (self.seed ^ ((draw as u64) << 56))
            .wrapping_add((device as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number from 0 on, below 1.
    pub(super) fn share(self, device: u32, draw: Draw) -> f64 {
        let high = u32::try_from(self.bits(device, draw) >> 32).unwrap_or(0);
        f64::from(high) / 4_294_967_296.0
    }

    /// A number below `below`; 0 where that is 0.
    pub(super) fn below(self, device: u32, draw: Draw, below: usize) -> usize {
        let product = u128::from(self.bits(device, draw)) * (below as u128);
        usize::try_from(product >> 64).unwrap_or(0)
    }
}
