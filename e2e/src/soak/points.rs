//! Points at which something is interrupted: the n-th call in one of some phases, told by one number, the seed of a round.

use std::collections::BTreeSet;

use super::ledger::{Entry, Ledger};

/// How many calls a phase is thought to have until a round has told.
const FEW: u64 = 20;
/// A phase waits for as long as it takes and asks meanwhile: after so many rounds that were not interrupted it is over.
const UNINTERRUPTED: usize = 2;

/// All points of some phases.
#[derive(Debug, Clone, Copy)]
pub struct Points {
    /// The phases, in their order.
    pub phases: &'static [&'static str],
    /// What is numbered in a phase, such as `calls`.
    pub counted: &'static str,
    /// About how many there are, for the bar of progress.
    pub about: u64,
    /// By what name a round counts that it was interrupted.
    pub interrupted: &'static str,
}

/// One point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// The phase, by its place.
    pub phase: usize,
    /// The call in it, from 1.
    pub call: u64,
}

impl Points {
    /// The point of a seed, from 1: the first call of every phase, then the second.
    pub fn point(self, seed: u64) -> Point {
        let phases = self.phases.len() as u64;
        let index = seed.saturating_sub(1);
        Point {
            phase: usize::try_from(index % phases).unwrap_or_default(),
            call: index / phases + 1,
        }
    }

    fn seed(self, point: Point) -> u64 {
        (point.call - 1) * self.phases.len() as u64 + point.phase as u64 + 1
    }

    /// By what name a round counts what is numbered in a phase.
    pub fn counted_while(self, phase: &str) -> String {
        format!("{} while {phase}", self.counted)
    }

    /// The seed of the least point that was neither run nor begun; none when all phases are over.
    pub fn next(self, ledger: &Ledger, begun: &BTreeSet<u64>) -> Option<u64> {
        let is_over = |phase: usize| {
            let is_end =
                |entry: &&Entry| self.point(entry.seed).phase == phase && !self.is_interrupted(entry);
            ledger.done().iter().filter(is_end).count() >= UNINTERRUPTED
        };
        let open: Vec<usize> = (0..self.phases.len()).filter(|phase| !is_over(*phase)).collect();
        let points =
            (1..u64::MAX).flat_map(|call| open.iter().map(move |phase| Point { phase: *phase, call }));
        let mut seeds = points.map(|point| self.seed(point));
        if open.is_empty() {
            return None;
        }
        seeds.find(|seed| !begun.contains(seed) && !ledger.has(*seed))
    }

    /// The seed of the next of a sample of so many rounds, which is spread over all phases and over each as far as it is
    /// known to go.
    pub fn next_of_sample(self, ledger: &Ledger, begun: &BTreeSet<u64>, rounds: u64) -> Option<u64> {
        let (number, phases) = (begun.len() as u64, self.phases.len() as u64);
        // What is waited for differs from round to round: a phase may be over before its call has come.
        let over = ledger.done().iter().filter(|entry| !self.is_interrupted(entry));
        if number >= rounds + over.count() as u64 {
            return None;
        }
        let phase = usize::try_from(number % phases).unwrap_or_default();
        let known = ledger
            .least(&self.counted_while(self.phases[phase]))
            .unwrap_or(FEW);
        let call = 1 + number / phases * known / rounds.div_ceil(phases);
        let mut seeds = (call..).map(|call| self.seed(Point { phase, call }));
        seeds.find(|seed| !begun.contains(seed))
    }

    /// Whether nothing was interrupted in a round though its phase had as many calls.
    pub fn is_spared(self, entry: &Entry) -> bool {
        let Point { phase, call } = self.point(entry.seed);
        let calls = entry.totals.0.get(&self.counted_while(self.phases[phase]));
        !self.is_interrupted(entry) && calls.is_some_and(|calls| *calls >= call)
    }

    /// Whether something was interrupted in a round.
    pub fn is_interrupted(self, entry: &Entry) -> bool {
        entry
            .totals
            .0
            .get(self.interrupted)
            .is_some_and(|count| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::ledger::Totals;
    use super::*;

    const POINTS: Points = Points {
        phases: &["one", "other"],
        counted: "calls",
        about: 40,
        interrupted: "deaths",
    };

    fn ledger(rounds: &[(u64, bool)]) -> Ledger {
        let entries = rounds.iter().map(|(seed, is_interrupted)| {
            let mut totals = Totals::default();
            totals.add("deaths", u64::from(*is_interrupted));
            let other = 1 - POINTS.point(*seed).phase;
            totals.add(&POINTS.counted_while(POINTS.phases[other]), 40 + seed);
            Entry::new(*seed, 1.0, totals, None)
        });
        Ledger::of(entries.collect()).expect("a ledger")
    }

    #[test]
    fn every_seed_is_a_point_of_its_own() {
        let points: Vec<Point> = (1..=4).map(|seed| POINTS.point(seed)).collect();
        assert_eq!(points[2], Point { phase: 0, call: 2 });
        for (index, point) in points.into_iter().enumerate() {
            assert_eq!(POINTS.seed(point), index as u64 + 1);
        }
    }

    #[test]
    fn a_phase_is_over_when_two_rounds_in_it_were_not_interrupted() {
        let none = BTreeSet::new();
        assert_eq!(POINTS.next(&ledger(&[]), &none), Some(1));
        assert_eq!(
            POINTS.next(&ledger(&[(1, true), (2, true)]), &BTreeSet::from([3])),
            Some(4)
        );
        // The first phase is over with its third call.
        let mut rounds = vec![(1, true), (2, true), (3, false), (4, true), (5, false)];
        assert_eq!(POINTS.next(&ledger(&rounds), &none), Some(6));
        rounds.extend([(6, false), (8, false)]);
        assert_eq!(POINTS.next(&ledger(&rounds), &none), None);
    }

    #[test]
    fn a_sample_reaches_into_every_phase_as_far_as_it_goes() {
        let known = ledger(&[(1, true), (2, true)]);
        let mut begun = BTreeSet::from([1, 2]);
        while let Some(seed) = POINTS.next_of_sample(&known, &begun, 8) {
            assert!(begun.insert(seed));
        }
        let calls = |phase| -> Vec<u64> {
            let points = begun.iter().map(|seed| POINTS.point(*seed));
            points
                .filter(|point| point.phase == phase)
                .map(|point| point.call)
                .collect()
        };
        // Round 2 counted 42 calls in the first phase, round 1 counted 41 in the other.
        assert_eq!(calls(0), [1, 11, 22, 32]);
        assert_eq!(calls(1), [1, 11, 21, 31]);
    }
    #[test]
    fn a_round_of_a_sample_whose_phase_was_over_sooner_is_made_up_for() {
        let begun = BTreeSet::from([1, 2]);
        let whole = ledger(&[(1, true), (2, true)]);
        assert_eq!(POINTS.next_of_sample(&whole, &begun, 2), None);
        let sooner = ledger(&[(1, true), (2, false)]);
        assert!(POINTS.next_of_sample(&sooner, &begun, 2).is_some());
        assert!(!sooner.done().iter().any(|entry| POINTS.is_spared(entry)));

        let mut totals = Totals::default();
        totals.add(&POINTS.counted_while("other"), 1);
        assert!(POINTS.is_spared(&Entry::new(2, 1.0, totals, None)));
    }
}
