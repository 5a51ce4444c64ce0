//! Exponential backoff with jitter and least pauses, kept per object.
//!
//! Pure: the caller passes chance and time in, so that a sequence of delays can be tested.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The delay after the first failure.
pub const FIRST_DELAY: Duration = Duration::from_secs(1);
/// The longest delay: an object that begins to work again waits no more than this.
pub const LONGEST_DELAY: Duration = Duration::from_mins(1);

/// The bounds of an exponential backoff that doubles with each failure in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The delay after one failure, and the lower bound of all delays.
    pub first: Duration,
    /// The upper bound of all delays.
    pub longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: FIRST_DELAY,
            longest: LONGEST_DELAY,
        }
    }
}

impl Backoff {
    /// The delay after `failures` failures in a row (1 is the first); `chance` is in `0.0..1.0`.
    ///
    /// Half of the exponential delay is fixed and half is jitter, within `first..=longest`.
    pub fn delay(&self, failures: u32, chance: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let full = self.first.saturating_mul(1 << doublings).min(self.longest);
        let half = full / 2;
        (half + half.mul_f64(unit(chance))).clamp(self.first.min(self.longest), self.longest)
    }
}

/// Counts failures in a row per key; a success forgets the key.
#[derive(Debug)]
pub struct Failures<Key> {
    counts: Mutex<HashMap<Key, u32>>,
}

impl<Key> Default for Failures<Key> {
    fn default() -> Self {
        Self {
            counts: Mutex::new(HashMap::new()),
        }
    }
}

impl<Key: Eq + Hash> Failures<Key> {
    /// Counts one more failure and returns how many there are in a row.
    pub fn record(&self, key: Key) -> u32 {
        let mut counts = self.lock();
        let count = counts.entry(key).or_insert(0);
        *count = count.saturating_add(1);
        *count
    }

    /// Forgets the failures of `key`, after a success or when the object is gone.
    pub fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    /// The number of keys that are failing now.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether nothing is failing now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, u32>> {
        // A count is valid whenever the lock is free, so a poisoned lock is still usable.
        self.counts
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Remembers when work on each key ended, so that the next may keep a least pause: what changes in a burst is then
/// looked at once.
#[derive(Debug)]
pub struct Pauses<Key> {
    pause: Duration,
    ended: Mutex<HashMap<Key, Instant>>,
}

impl<Key: Eq + Hash> Pauses<Key> {
    /// No key was worked on yet; `pause` is the least time between two works on one.
    pub fn new(pause: Duration) -> Self {
        Self {
            pause,
            ended: Mutex::default(),
        }
    }

    /// What is left of the pause of `key`; nothing when it may be worked on.
    pub fn left(&self, key: &Key, now: Instant) -> Option<Duration> {
        let since = now.saturating_duration_since(*self.lock().get(key)?);
        self.pause.checked_sub(since).filter(|left| !left.is_zero())
    }

    /// Notes that work on `key` ended, and forgets the keys whose pause is over.
    pub fn note(&self, key: Key, now: Instant) {
        let mut ended = self.lock();
        ended.retain(|_, ended| now.saturating_duration_since(*ended) < self.pause);
        ended.insert(key, now);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Instant>> {
        // A time is valid whenever the lock is free, so a poisoned lock is still usable.
        self.ended
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Spreads `period` by up to a tenth in both directions; `chance` is in `0.0..1.0`.
pub fn spread(period: Duration, chance: f64) -> Duration {
    period.mul_f64(0.9 + 0.2 * unit(chance))
}

/// Keeps `chance` in `0.0..=1.0`; what is not a number counts as 1.
fn unit(chance: f64) -> f64 {
    if chance.is_nan() {
        1.0
    } else {
        chance.clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn doubles_up_to_the_bound() {
        let backoff = Backoff::default();
        let delays: Vec<u64> = (1..=9).map(|n| backoff.delay(n, 1.0).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn jitter_takes_away_at_most_half() {
        let backoff = Backoff::default();
        assert_eq!(backoff.delay(4, 0.0), Duration::from_secs(4));
        assert_eq!(backoff.delay(4, 0.5), Duration::from_secs(6));
        assert_eq!(backoff.delay(1, 0.0), FIRST_DELAY);
    }

    #[test]
    fn success_resets_one_key_only() {
        let failures = Failures::default();
        assert_eq!(failures.record("a"), 1);
        assert_eq!(failures.record("a"), 2);
        assert_eq!(failures.record("b"), 1);
        failures.forget(&"a");
        assert_eq!(failures.record("a"), 1);
        assert_eq!(failures.record("b"), 2);
        assert_eq!(failures.len(), 2);
    }

    #[test]
    fn a_key_rests_for_its_pause_and_is_then_forgotten() {
        let pause = Duration::from_millis(100);
        let (pauses, begin) = (Pauses::new(pause), Instant::now());
        assert_eq!(pauses.left(&"a", begin), None);
        pauses.note("a", begin);
        assert_eq!(pauses.left(&"a", begin + pause / 4), Some(pause * 3 / 4));
        assert_eq!(pauses.left(&"b", begin), None);
        assert_eq!(pauses.left(&"a", begin + pause), None);
        pauses.note("b", begin + pause);
        assert_eq!(pauses.lock().len(), 1);
    }

    #[test]
    fn spread_is_a_tenth() {
        let minute = Duration::from_mins(1);
        assert_eq!(spread(minute, 0.0), Duration::from_secs(54));
        assert_eq!(spread(minute, 1.0), Duration::from_secs(66));
    }

    proptest! {
        #[test]
        fn delay_stays_in_bounds(failures in any::<u32>(), chance in any::<f64>()) {
            let delay = Backoff::default().delay(failures, chance);
            prop_assert!(delay >= FIRST_DELAY && delay <= LONGEST_DELAY);
        }
    }
}
