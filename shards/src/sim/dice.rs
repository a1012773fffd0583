//! Every choice of a simulated run, drawn from one seed; or no choices at all.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Source of choices.
pub struct Dice {
    rng: Option<StdRng>,
}

impl Dice {
    /// Choices that depend on nothing but the seed.
    pub fn seeded(seed: u64) -> Self {
        Dice { rng: Some(StdRng::seed_from_u64(seed)) }
    }

    /// Everything arrives whole, nothing goes wrong.
    pub fn calm() -> Self {
        Dice { rng: None }
    }

    /// A part of `max` things, anything from none to all; all of them if calm.
    pub fn part(&mut self, max: usize) -> usize {
        match &mut self.rng {
            None => max,
            Some(_) if max == 0 => 0,
            Some(rng) => match rng.random_range(0..4) {
                0 => rng.random_range(0..=max.min(8)),
                1 => rng.random_range(0..=max),
                _ => max,
            },
        }
    }

    /// Whether something happens that does in `percent` of cases; never if calm.
    pub fn chance(&mut self, percent: u32) -> bool {
        self.rng.as_mut().is_some_and(|rng| rng.random_range(0..100) < percent)
    }

    /// A number below `limit`; 0 if calm.
    pub fn below(&mut self, limit: usize) -> usize {
        self.rng.as_mut().map_or(0, |rng| rng.random_range(0..limit))
    }

    /// 128 random bits; 0 if calm.
    pub fn bits(&mut self) -> u128 {
        self.rng.as_mut().map_or(0, Rng::random)
    }
}
