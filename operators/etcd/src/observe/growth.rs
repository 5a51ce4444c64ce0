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

/// Who was told that it fills is told that it does not only once it is so much farther from that, in percent.
const CLEARLY: u32 = 25;

/// What one cluster held in the last hours, and what was said of it.
#[derive(Debug, Default)]
pub struct Growth {
    samples: VecDeque<(Instant, u64)>,
    told: Option<Fills>,
}

impl Growth {
    /// Notes what is held now of `quota` bytes, and says how soon it is all; nothing while too little is known.
    pub fn note(&mut self, now: Instant, used: u64, quota: u64) -> Option<Fills> {
        let since = |then: Instant| now.saturating_duration_since(then);
        self.samples.retain(|(then, _)| since(*then) <= WINDOW);
        if self.samples.back().is_none_or(|(last, _)| since(*last) >= STEP) {
            self.samples.push_back((now, used));
        }
        self.told = self.fills(used, quota).or(self.told);
        self.told
    }

    /// What was said last.
    pub fn told(&self) -> Option<Fills> {
        self.told
    }

    fn fills(&self, used: u64, quota: u64) -> Option<Fills> {
        let slack = |of: Fills| {
            if self.told.is_some_and(|told| told <= of) {
                CLEARLY
            } else {
                0
            }
        };
        let nearly = NEARLY_FULL_PERCENT * 100 / u64::from(100 + slack(Fills::WithinAnHour) / 4);
        if used > quota / 100 * nearly {
            return Some(Fills::WithinAnHour);
        }
        let rate = self.bytes_per_second()?;
        #[allow(clippy::cast_precision_loss)] // no database has 2^53 bytes
        let hours = (quota - used) as f64 / rate / 3600.0;
        let within = |border: u32, of: Fills| hours <= f64::from(border) * f64::from(100 + slack(of)) / 100.0;
        let borders = [
            (1, Fills::WithinAnHour),
            (6, Fills::WithinSixHours),
            (24, Fills::WithinADay),
        ];
        let first = borders.into_iter().find(|(border, of)| within(*border, *of));
        Some(match first {
            Some((_, fills)) if rate > 0.0 => fills,
            _ => Fills::NotSoon,
        })
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
        let (start, mut growth) = (Instant::now(), Growth::default());
        let noted = (0..=minutes).map(|minute| {
            let bytes = used - each * (minutes - minute);
            growth.note(start + Duration::from_mins(minute), bytes, quota)
        });
        noted.last().flatten()
    }

    #[test]
    fn growth_is_drawn_on_as_a_line() {
        // 1 MiB a minute, and room for 50, 300, 1000 and 2000 minutes.
        for (room, expected) in [
            (50, Fills::WithinAnHour),
            (300, Fills::WithinSixHours),
            (1000, Fills::WithinADay),
            (2000, Fills::NotSoon),
        ] {
            assert_eq!(
                fills(40, MIB, 600 * MIB, (600 + room) * MIB),
                Some(expected),
                "{room}"
            );
        }
    }

    #[test]
    fn rest_and_shrinking_are_not_soon_and_a_short_past_says_nothing() {
        assert_eq!(fills(600, 0, 50 * MIB, 100 * MIB), Some(Fills::NotSoon));
        assert_eq!(fills(20, MIB, 50 * MIB, 100 * MIB), None);
        let (start, mut growth) = (Instant::now(), Growth::default());
        let noted = (0..60).map(|minute| {
            growth.note(
                start + Duration::from_mins(minute),
                (80 - minute) * MIB,
                100 * MIB,
            )
        });
        assert_eq!(noted.last().flatten(), Some(Fills::NotSoon));
    }

    #[test]
    fn what_is_all_but_full_is_told_at_once() {
        assert_eq!(fills(0, 0, 91 * MIB, 100 * MIB), Some(Fills::WithinAnHour));
    }

    #[test]
    fn what_was_told_is_not_taken_back_at_the_border() {
        let (start, mut growth) = (Instant::now(), Growth::default());
        assert_eq!(growth.note(start, 91 * MIB, 100 * MIB), Some(Fills::WithinAnHour));
        let after = |minutes| start + Duration::from_mins(minutes);
        assert_eq!(
            growth.note(after(31), 89 * MIB, 100 * MIB),
            Some(Fills::WithinAnHour)
        );
        assert_eq!(growth.note(after(36), 80 * MIB, 100 * MIB), Some(Fills::NotSoon));
    }

    #[test]
    fn what_is_long_ago_is_forgotten() {
        let (start, mut growth) = (Instant::now(), Growth::default());
        for minute in 0..2000 {
            let now = start + Duration::from_mins(minute);
            growth.note(now, minute.min(100) * MIB, 150 * MIB);
        }
        assert!(growth.samples.len() <= 73);
        assert_eq!(growth.told(), Some(Fills::NotSoon));
    }
}
