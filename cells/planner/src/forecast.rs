//! How much more a pool's tenants will take until a cell that is ordered now is ready.

use crate::model::Seconds;
use crate::policy::Policy;
use crate::resource::{Resource, Vector};

const DAY: f64 = 86_400.0;
/// The days over which the mean of growth is taken: four weeks, so that each weekday counts alike.
const MEAN_DAYS: usize = 28;
/// The days over which its deviation is taken.
const DEVIATION_DAYS: usize = 60;
/// Growth is compared over whole weeks, so that a season of a week is none.
const WEEK: usize = 7;

/// `m_L + z·s_L` for each dimension, in units and never below 0; nothing while the history is too short.
///
/// m and s are the mean and the deviation of the growth over a week, taken from each day to the same weekday before it;
/// over the lead time L they grow with L and with √L.
pub fn growth(history: &[Vector<f64>], lead: Seconds, policy: &Policy) -> Option<Vector<f64>> {
    let days = usize::try_from(policy.history_days).unwrap_or(usize::MAX);
    if history.len() < days.max(WEEK + 2) {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "a lead time is days")]
    let weeks = lead as f64 / DAY / 7.0;
    Some(Vector::from_fn(|r| {
        let (mean, _) = moments(history, r, MEAN_DAYS);
        let (_, deviation) = moments(history, r, DEVIATION_DAYS);
        (mean * weeks + policy.z * deviation * weeks.sqrt()).max(0.0)
    }))
}

/// The mean and deviation of a week's growth over the last days of a history.
fn moments(history: &[Vector<f64>], r: Resource, days: usize) -> (f64, f64) {
    let from = history.len().saturating_sub(days);
    let recent = &history[from..];
    let growths = recent
        .iter()
        .zip(recent.iter().skip(WEEK))
        .map(|(before, after)| after[r] - before[r]);
    let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for growth in growths {
        count += 1.0;
        sum += growth;
        squares += growth * growth;
    }
    let mean: f64 = sum / f64::max(count, 1.0);
    (
        mean,
        (squares / f64::max(count, 1.0) - mean * mean).max(0.0).sqrt(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(count: u32, value: impl Fn(f64) -> f64) -> Vec<Vector<f64>> {
        (0..count)
            .map(|day| Vector::splat(value(f64::from(day))))
            .collect()
    }

    #[test]
    fn steady_growth_goes_on_and_a_weekly_season_is_none() {
        let policy = Policy::default();
        let season = |day: f64| 100.0 + 2.0 * day + 10.0 * (day % 7.0);
        let growth = growth(&days(60, season), 14 * 86_400, &policy).unwrap();
        assert!((growth[Resource::Cpu] - 28.0).abs() < 1e-6, "{growth:?}");
    }

    #[test]
    fn a_short_history_gives_nothing_and_a_shrinking_one_no_growth() {
        let policy = Policy::default();
        assert_eq!(growth(&days(27, |_| 1.0), 86_400, &policy), None);
        let shrinking = growth(&days(40, |day| 100.0 - day), 86_400, &policy).unwrap();
        assert!(shrinking[Resource::Memory].abs() < 1e-9);
    }
}
