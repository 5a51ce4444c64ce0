//! The truth: which tenants live when, and what they take each day. The same for every strategy.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp, Normal, Poisson, StandardNormal};

use super::scenario::{Scenario, Tenants};
use crate::model::Name;
use crate::resource::{MILLI, Resource, Vector};

/// A tenant's life.
#[derive(Debug, Clone)]
pub(super) struct Life {
    pub name: Name,
    pub account: Name,
    /// The step in which it comes.
    pub born: u32,
    /// The step in which it goes.
    pub dies: u32,
    /// How large it is at first, by a small class's prior.
    size: f64,
    /// How much it gains a day.
    growth: f64,
}

/// All lives, the first born first, and what the loads of days are made from.
pub(super) struct Fleet {
    pub lives: Vec<Life>,
    seed: u64,
    steps_a_day: u32,
    tenants: Tenants,
    prior: Vector<f64>,
    noise: Vector<f64>,
}

impl Fleet {
    pub fn new(scenario: &Scenario, prior: &Vector<u32>, seed: u64) -> Self {
        let tenants = scenario.tenants.clone();
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        let mut lives = Vec::new();
        for _ in 0..tenants.initial {
            lives.push(life(&tenants, scenario, &mut chance, 0, lives.len()));
        }
        for step in 0..scenario.days * scenario.steps_a_day {
            let day = step / scenario.steps_a_day;
            let years = f64::from(day) / 365.0;
            let rate = tenants.arrivals_a_day * (1.0 + tenants.arrivals_growth * years)
                / f64::from(scenario.steps_a_day);
            let mut count = Poisson::new(rate.max(0.0)).map_or(0.0, |poisson| poisson.sample(&mut chance));
            if step % scenario.steps_a_day == 0 {
                let bursts = scenario.bursts.iter().filter(|burst| burst.day == day);
                count += bursts.map(|burst| f64::from(burst.tenants)).sum::<f64>();
            }
            while count >= 1.0 {
                lives.push(life(&tenants, scenario, &mut chance, step, lives.len()));
                count -= 1.0;
            }
        }
        Self {
            lives,
            seed,
            steps_a_day: scenario.steps_a_day,
            prior: Vector::from_fn(|r| f64::from(prior[r]) / MILLI),
            noise: Vector::from_fn(|r| tenants.noise.get(&r).copied().unwrap_or(0.0)),
            tenants,
        }
    }

    /// How large a tenant is on a day, by a small class's prior.
    pub fn size(&self, life: &Life, day: u32) -> f64 {
        let age = f64::from(day.saturating_sub(life.born / self.steps_a_day));
        life.size * (1.0 + life.growth * age).min(self.tenants.most_growth)
    }

    /// Nodes of a tenant on a day.
    pub fn nodes(&self, life: &Life, day: u32) -> u32 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float's cast saturates"
        )]
        let nodes = (self.tenants.nodes * self.size(life, day)).round() as u32;
        nodes
    }

    /// What each tenant that lives at the end of a day took on it, in units: its position and loads.
    pub fn loads(&self, day: u32) -> Vec<(usize, Vector<f64>)> {
        let mut chance =
            ChaCha8Rng::seed_from_u64(self.seed ^ (u64::from(day) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let common = Vector::from_fn(|_| sample(&mut chance));
        let (shared, own) = (
            self.tenants.common_noise.sqrt(),
            (1.0 - self.tenants.common_noise).sqrt(),
        );
        let season = if day % 7 >= 5 { self.tenants.weekend } else { 1.0 };
        let end = (day + 1) * self.steps_a_day;
        let mut loads = Vec::new();
        for (position, life) in self.lives.iter().enumerate() {
            // Every tenant draws, so that one that goes changes nothing for the others.
            let noise = Vector::from_fn(|_| sample(&mut chance));
            if life.born >= end || life.dies < end {
                continue;
            }
            let size = self.size(life, day);
            let load = |r: Resource| {
                let deviation = self.noise[r];
                // What does not vary by itself, addresses and pods, has no season either.
                let season = if deviation > 0.0 { season } else { 1.0 };
                let noise = 1.0 + deviation * (shared * common[r] + own * noise[r]);
                (self.prior[r] * size * season * noise).max(0.0)
            };
            loads.push((position, Vector::from_fn(load)));
        }
        loads
    }
}

fn sample(chance: &mut ChaCha8Rng) -> f64 {
    StandardNormal.sample(chance)
}

fn life(tenants: &Tenants, scenario: &Scenario, chance: &mut ChaCha8Rng, born: u32, number: usize) -> Life {
    let lifetime =
        Exp::new(1.0 / tenants.lifetime_days).map_or(tenants.lifetime_days, |exp| exp.sample(chance));
    let steps = lifetime * f64::from(scenario.steps_a_day);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float's cast saturates"
    )]
    let dies = born.saturating_add((steps as u32).max(1));
    let spread = Normal::new(0.0, tenants.size_spread).map_or(0.0, |normal| normal.sample(chance));
    let is_growing = chance.random::<f64>() < tenants.growing;
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "tenants are millions"
    )]
    let accounts = ((number as f64 / tenants.per_account) as u64).max(1);
    Life {
        name: Name::from(format!("t{number:06}")),
        account: Name::from(format!("a{}", chance.random_range(0..accounts))),
        born,
        dies,
        size: spread.exp(),
        growth: if is_growing { tenants.growth_a_day } else { 0.0 },
    }
}
