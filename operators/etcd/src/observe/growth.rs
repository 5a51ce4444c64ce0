//! How fast the data of a cluster grow, and when they will have reached the quota.
//!
//! A straight line through what was seen in the last hours, as Prometheus' `predict_linear` draws it. Holes do not count:
//! what is written next goes into them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::observed::Fills;

/// How far back it looks.
const WINDOW: Duration = Duration::from_hours(6);
/// At least so far apart are two samples: a window of them is not more than 72.
const STEP: Duration = Duration::from_mins(5);
/// A shorter past says nothing of the future.
const SHORTEST: Duration = Duration::from_mins(30);
/// Above so many percent of the quota the rest may go at once.
const NEARLY_FULL_PERCENT: u64 = 90;

/// What one cluster held in the last hours.
#[derive(Debug, Default)]
pub struct Growth {
    samples: VecDeque<(Instant, u64)>,
}

impl Growth {
    /// Notes what is held now.
    pub fn note(&mut self, now: Instant, bytes: u64) {
        let since = |then: Instant| now.saturating_duration_since(then);
        self.samples.retain(|(then, _)| since(*then) <= WINDOW);
        if self.samples.back().is_none_or(|(last, _)| since(*last) >= STEP) {
            self.samples.push_back((now, bytes));
        }
    }

    /// How soon `used` bytes become `quota`, where that is within a day.
    pub fn fills(&self, used: u64, quota: u64) -> Option<Fills> {
        if used > quota / 100 * NEARLY_FULL_PERCENT {
            return Some(Fills::WithinAnHour);
        }
        let rate = self.bytes_per_second()?;
        #[allow(clippy::cast_precision_loss)] // no database has 2^53 bytes
        let seconds = (rate > 0.0).then(|| (quota - used) as f64 / rate)?;
        match seconds / 3600.0 {
            hours if hours <= 1.0 => Some(Fills::WithinAnHour),
            hours if hours <= 6.0 => Some(Fills::WithinSixHours),
            hours if hours <= 24.0 => Some(Fills::WithinADay),
            _ => None,
        }
    }

    /// The slope of the line with the least squares of differences.
    fn bytes_per_second(&self) -> Option<f64> {
        let (first, last) = (self.samples.front()?.0, self.samples.back()?.0);
        if last.saturating_duration_since(first) < SHORTEST {
            return None;
        }
        #[allow(clippy::cast_precision_loss)] // no database has 2^53 bytes
        let points = self
            .samples
            .iter()
            .map(|(at, bytes)| ((*at - first).as_secs_f64(), *bytes as f64));
        let (mut count, mut times, mut sizes) = (0.0, 0.0, 0.0);
        for (time, size) in points.clone() {
            (count, times, sizes) = (count + 1.0, times + time, sizes + size);
        }
        let (time_mean, size_mean) = (times / count, sizes / count);
        let (mut both, mut squares) = (0.0, 0.0);
        for (time, size) in points {
            both += (time - time_mean) * (size - size_mean);
            squares += (time - time_mean).powi(2);
        }
        Some(both / squares)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// What is said after `minutes` of growth by `each` bytes a minute up to `used`.
    fn fills(minutes: u64, each: u64, used: u64, quota: u64) -> Option<Fills> {
        let start = Instant::now();
        let mut growth = Growth::default();
        for minute in 0..=minutes {
            let bytes = used - each * (minutes - minute);
            growth.note(start + Duration::from_mins(minute), bytes);
        }
        growth.fills(used, quota)
    }

    #[test]
    fn growth_is_drawn_on_as_a_line() {
        // 1 MiB a minute, and room for 50, 300, 1000 and 2000 minutes.
        for (room, expected) in [
            (50, Some(Fills::WithinAnHour)),
            (300, Some(Fills::WithinSixHours)),
            (1000, Some(Fills::WithinADay)),
            (2000, None),
        ] {
            assert_eq!(fills(120, MIB, 600 * MIB, (600 + room) * MIB), expected, "{room}");
        }
    }

    #[test]
    fn rest_shrinking_and_a_short_past_say_nothing() {
        assert_eq!(fills(600, 0, 50 * MIB, 100 * MIB), None);
        assert_eq!(fills(20, MIB, 50 * MIB, 100 * MIB), None);
        let (start, mut growth) = (Instant::now(), Growth::default());
        for minute in 0..60 {
            growth.note(start + Duration::from_mins(minute), (100 - minute) * MIB);
        }
        assert_eq!(growth.fills(40 * MIB, 100 * MIB), None);
    }

    #[test]
    fn what_is_all_but_full_is_told_at_once() {
        assert_eq!(fills(0, 0, 91 * MIB, 100 * MIB), Some(Fills::WithinAnHour));
    }

    #[test]
    fn what_is_long_ago_is_forgotten() {
        let (start, mut growth) = (Instant::now(), Growth::default());
        for minute in 0..2000 {
            growth.note(start + Duration::from_mins(minute), minute.min(100) * MIB);
        }
        assert!(growth.samples.len() <= 73);
        assert_eq!(growth.fills(100 * MIB, 150 * MIB), None);
    }
}
