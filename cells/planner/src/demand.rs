//! What tenants ask for, what a cell's tenants ask for together, and the load that it makes.
//!
//! Sums are whole numbers and can be taken back exactly; only the load that is read off them is a real number.

use crate::policy::Policy;
use crate::resource::{MILLI, Resource, Vector};

/// The mean and the deviation of what one tenant takes, in thousandths of each unit, over all its zones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Demand {
    /// Means.
    pub mean: Vector<u32>,
    /// Standard deviations.
    pub deviation: Vector<u32>,
}

impl Demand {
    /// The greater of two demands in each dimension.
    #[must_use]
    pub fn max(&self, other: &Self) -> Self {
        Self {
            mean: Vector::from_fn(|r| self.mean[r].max(other.mean[r])),
            deviation: Vector::from_fn(|r| self.deviation[r].max(other.deviation[r])),
        }
    }
}

/// What some tenants ask for together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sums {
    mean: Vector<u64>,
    deviation: Vector<u64>,
    variance: Vector<u128>,
}

impl Sums {
    /// Counts a tenant in.
    pub fn add(&mut self, demand: &Demand) {
        for r in Resource::ALL {
            let deviation = u64::from(demand.deviation[r]);
            self.mean[r] += u64::from(demand.mean[r]);
            self.deviation[r] += deviation;
            self.variance[r] += u128::from(deviation * deviation);
        }
    }

    /// Takes back a tenant that was counted in.
    pub fn sub(&mut self, demand: &Demand) {
        for r in Resource::ALL {
            let deviation = u64::from(demand.deviation[r]);
            self.mean[r] -= u64::from(demand.mean[r]);
            self.deviation[r] -= deviation;
            self.variance[r] -= u128::from(deviation * deviation);
        }
    }

    /// Counts in what others were counted into.
    pub fn merge(&mut self, other: &Self) {
        for r in Resource::ALL {
            self.mean[r] += other.mean[r];
            self.deviation[r] += other.deviation[r];
            self.variance[r] += other.variance[r];
        }
    }

    /// The mean of one dimension, in thousandths.
    pub fn mean(&self, r: Resource) -> u64 {
        self.mean[r]
    }

    /// Mean, deviation and variance of one dimension, in units.
    pub fn moments(&self, r: Resource) -> Moments {
        Moments {
            mean: to_real(self.mean[r]) / MILLI,
            deviation: to_real(self.deviation[r]) / MILLI,
            variance: wide_to_real(self.variance[r]) / (MILLI * MILLI),
        }
    }
}

/// The sums of means, of deviations and of variances of some tenants in one dimension, in units.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Moments {
    /// Σμ.
    pub mean: f64,
    /// Σσ.
    pub deviation: f64,
    /// Σσ².
    pub variance: f64,
}

impl Moments {
    /// The moments of one tenant in one dimension, in units.
    pub fn of(demand: &Demand, r: Resource) -> Self {
        let deviation = f64::from(demand.deviation[r]) / MILLI;
        Self {
            mean: f64::from(demand.mean[r]) / MILLI,
            deviation,
            variance: deviation * deviation,
        }
    }

    /// The moments when each tenant takes only such a share.
    #[must_use]
    pub fn scaled(self, share: f64) -> Self {
        Self {
            mean: self.mean * share,
            deviation: self.deviation * share,
            variance: self.variance * share * share,
        }
    }

    /// The moments of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            mean: self.mean + other.mean,
            deviation: self.deviation + other.deviation,
            variance: self.variance + other.variance,
        }
    }

    /// `Σμ + z·√(Σσ² + ρ((Σσ)² − Σσ²))`: what is not exceeded with the policy's confidence when each two tenants
    /// correlate by ρ.
    pub fn load(self, policy: &Policy) -> f64 {
        let spread = self.variance + policy.rho * (self.deviation * self.deviation - self.variance).max(0.0);
        self.mean + policy.z * spread.max(0.0).sqrt()
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a load is compared to thousandths, not to the last bit"
)]
fn to_real(value: u64) -> f64 {
    value as f64
}

#[expect(clippy::cast_precision_loss, reason = "as above")]
fn wide_to_real(value: u128) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn demand() -> impl Strategy<Value = Demand> {
        let vector = || proptest::array::uniform14(any::<u32>());
        (vector(), vector()).prop_map(|(mean, deviation)| Demand {
            mean: Vector::from_fn(|r| mean[r as usize]),
            deviation: Vector::from_fn(|r| deviation[r as usize]),
        })
    }

    proptest! {
        #[test]
        fn what_was_added_can_be_taken_back_in_any_order(demands in proptest::collection::vec(demand(), 1..20)) {
            let mut sums = Sums::default();
            for demand in &demands {
                sums.add(demand);
            }
            let mut backwards = Sums::default();
            demands.iter().rev().for_each(|demand| backwards.add(demand));
            prop_assert_eq!(sums, backwards);
            for demand in &demands {
                sums.sub(demand);
            }
            prop_assert_eq!(sums, Sums::default());
        }

        #[test]
        fn tenants_together_never_take_more_than_the_sum_of_what_each_may_take(
            demands in proptest::collection::vec(demand(), 1..20), z in 0.0..4.0, rho in 0.0..1.0,
        ) {
            let policy = Policy { z, rho, ..Policy::default() };
            let mut sums = Sums::default();
            for demand in &demands {
                sums.add(demand);
            }
            for r in Resource::ALL {
                let alone: f64 = demands.iter()
                    .map(|demand| { let mut one = Sums::default(); one.add(demand); one.moments(r).load(&policy) })
                    .sum();
                let together = sums.moments(r).load(&policy);
                prop_assert!(together <= alone * (1.0 + 1e-9));
                prop_assert!(together >= sums.moments(r).mean);
            }
        }
    }
}
