//! What a tenant takes, from samples: histograms whose weights decay, as the vertical pod autoscaler keeps them.
//!
//! Source of the rule and of its constants: kubernetes/autoscaler, vertical-pod-autoscaler, `pkg/recommender/util` and
//! `pkg/recommender/model`: half-life 24 h, 90th percentile, 15% on top, buckets that grow by 5%.

use serde::{Deserialize, Serialize};

use crate::model::Seconds;

/// Buckets; with the first of `FIRST` and a growth of 5% the last begins at some 10^9 times the first.
const BUCKETS: usize = 430;
/// The upper end of the first bucket, in units: a thousandth, the least that is counted.
const FIRST: f64 = 0.001;
/// How much each bucket is longer than the one before.
const GROWTH: f64 = 1.05;
/// The time in which a sample loses half its weight, in seconds.
const HALF_LIFE: f64 = 86_400.0;
/// Weights are scaled anew before they are too large, after so many half-lives.
const MOST_HALF_LIVES: f64 = 100.0;
/// The percentile that a request is made from.
pub const TARGET: f64 = 0.9;
/// What is added to it.
pub const MARGIN: f64 = 0.15;
/// The target's place in a normal distribution, in deviations.
const TARGET_DEVIATIONS: f64 = 1.2816;

/// Samples of one dimension with weights that decay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    weights: Vec<f64>,
    total: f64,
    sum: f64,
    squares: f64,
    /// When weights are 1.
    origin: Seconds,
}

impl Histogram {
    /// An empty one.
    pub fn new(now: Seconds) -> Self {
        Self {
            weights: vec![0.0; BUCKETS],
            total: 0.0,
            sum: 0.0,
            squares: 0.0,
            origin: now,
        }
    }

    /// Counts a sample in; one that is no number from 0 is left out.
    pub fn add(&mut self, value: f64, at: Seconds) {
        if !value.is_finite() || value < 0.0 {
            return;
        }
        if self.half_lives(at) > MOST_HALF_LIVES {
            self.scale(at);
        }
        let weight = self.half_lives(at).exp2();
        self.weights[bucket(value)] += weight;
        self.total += weight;
        self.sum += weight * value;
        self.squares += weight * value * value;
    }

    /// Whether nothing was counted in.
    pub fn is_empty(&self) -> bool {
        self.total <= 0.0
    }

    /// The weighted mean; 0 when empty.
    pub fn mean(&self) -> f64 {
        if self.is_empty() {
            0.0
        } else {
            self.sum / self.total
        }
    }

    /// The upper end of the bucket in which a share of the weight is reached; 0 when empty.
    pub fn percentile(&self, share: f64) -> f64 {
        let wanted = share * self.total;
        let mut reached = 0.0;
        for (position, weight) in self.weights.iter().enumerate() {
            reached += weight;
            if *weight > 0.0 && reached >= wanted * (1.0 - 1e-9) {
                return end(position);
            }
        }
        0.0
    }

    /// Mean and deviation for the planner: the deviation is at least so great that the mean and 1.28 of it reach the 90th
    /// percentile with 15% on top.
    pub fn moments(&self) -> (f64, f64) {
        let mean = self.mean();
        let own = (self.squares / self.total.max(f64::MIN_POSITIVE) - mean * mean)
            .max(0.0)
            .sqrt();
        let target = self.percentile(TARGET) * (1.0 + MARGIN);
        (mean, own.max((target - mean) / TARGET_DEVIATIONS))
    }

    fn half_lives(&self, at: Seconds) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a sample's age is days")]
        let age = at.saturating_sub(self.origin) as f64;
        age / HALF_LIFE
    }

    fn scale(&mut self, at: Seconds) {
        let factor = (-self.half_lives(at)).exp2();
        for value in self
            .weights
            .iter_mut()
            .chain([&mut self.total, &mut self.sum, &mut self.squares])
        {
            *value *= factor;
        }
        self.origin = at;
    }
}

/// What memory is to be reckoned after a kill for want of it: 20% more, and no less than 100 MiB more.
pub fn after_oom(mib: f64) -> f64 {
    (mib * 1.2).max(mib + 100.0)
}

fn bucket(value: f64) -> usize {
    // The sum of the lengths before bucket n is FIRST·(GROWTH^n − 1)/(GROWTH − 1).
    let position = (value * (GROWTH - 1.0) / FIRST + 1.0).ln() / GROWTH.ln();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float's cast saturates"
    )]
    let position = position as usize;
    position.min(BUCKETS - 1)
}

fn end(position: usize) -> f64 {
    let power = i32::try_from(position + 1).unwrap_or(i32::MAX);
    FIRST * (GROWTH.powi(power) - 1.0) / (GROWTH - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_within_a_bucket_of_the_truth() {
        let mut histogram = Histogram::new(0);
        (1..=100).for_each(|value| histogram.add(f64::from(value), 0));
        let found = histogram.percentile(0.9);
        assert!((90.0..=90.0 * GROWTH + FIRST).contains(&found), "{found}");
        assert!((histogram.mean() - 50.5).abs() < 1e-9);
    }

    #[test]
    fn a_sample_loses_half_its_weight_in_a_day() {
        let mut histogram = Histogram::new(0);
        histogram.add(10.0, 0);
        histogram.add(20.0, 86_400);
        assert!((histogram.mean() - (10.0 + 2.0 * 20.0) / 3.0).abs() < 1e-9);
    }

    #[test]
    fn years_do_not_overflow_and_bad_samples_do_not_count() {
        let mut histogram = Histogram::new(0);
        for day in 0..4000 {
            histogram.add(5.0, day * 86_400);
        }
        for bad in [f64::NAN, f64::INFINITY, -1.0] {
            histogram.add(bad, 0);
        }
        assert!((histogram.mean() - 5.0).abs() < 1e-6 && histogram.total.is_finite());
        let (mean, deviation) = histogram.moments();
        assert!(mean + TARGET_DEVIATIONS * deviation >= 5.0 * 1.15 - 1e-6);
    }

    #[test]
    fn memory_jumps_after_a_kill() {
        assert!((after_oom(200.0) - 300.0).abs() < 1e-9);
        assert!((after_oom(1000.0) - 1200.0).abs() < 1e-9);
    }
}
