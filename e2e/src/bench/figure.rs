//! One figure: a value, the reference that it is compared with, and the bound that it is held to.
//!
//! Pure arithmetic; nothing here measures or prints.

use serde::Serialize;

/// The least, the middle and the greatest of some samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The greatest.
    pub max: f64,
    /// How many there are.
    pub samples: usize,
}

impl Spread {
    /// The spread of at least one sample.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self {
            min,
            median,
            max,
            samples: sorted.len(),
        })
    }
}

/// The most that a figure may be: its ratio where it has a reference, else its value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// It must hold.
    Gate(f64),
    /// It is aimed at, and reported.
    Goal(f64),
}

/// One figure of a report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// How much it is; the median where there were several samples.
    pub value: f64,
    /// The unit of value, reference and spread.
    pub unit: &'static str,
    /// What it is compared with, measured in the same run.
    pub reference: Option<f64>,
    /// Value by reference.
    pub ratio: Option<f64>,
    /// The most that the ratio, or without one the value, may be.
    pub goal: Option<f64>,
    /// Whether that must hold.
    pub gate: bool,
    /// Whether it did.
    pub holds: Option<bool>,
    /// The spread of the samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread: Option<Spread>,
}

impl Figure {
    /// A figure of one sample, without a bound.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            value: rounded(value),
            unit,
            reference: None,
            ratio: None,
            goal: None,
            gate: false,
            holds: None,
            spread: None,
        }
    }

    /// The median of some samples and their spread.
    pub fn of(name: impl Into<String>, spread: Spread, unit: &'static str) -> Self {
        let Spread {
            min,
            median,
            max,
            samples,
        } = spread;
        let spread = Spread {
            min: rounded(min),
            median: rounded(median),
            max: rounded(max),
            samples,
        };
        Self {
            spread: Some(spread),
            ..Self::new(name, median, unit)
        }
    }

    /// Compares it with a reference of the same unit.
    #[must_use]
    pub fn against(mut self, reference: f64) -> Self {
        self.reference = Some(rounded(reference));
        self.ratio = Some(rounded(self.value / reference));
        self
    }

    /// Holds it to a bound.
    #[must_use]
    pub fn held_to(mut self, bound: Bound) -> Self {
        let (most, gate) = match bound {
            Bound::Gate(most) => (most, true),
            Bound::Goal(most) => (most, false),
        };
        self.goal = Some(most);
        self.gate = gate;
        self.holds = Some(self.ratio.unwrap_or(self.value) <= most);
        self
    }

    /// Whether it breaks a bound that must hold.
    pub fn is_broken_gate(&self) -> bool {
        self.gate && self.holds != Some(true)
    }
}

/// To thousandths: finer than anything here is repeatable.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let spread = Spread::of(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 2.0, 3.0));
        assert!((Spread::of(&[4.0, 1.0, 2.0, 3.0]).unwrap().median - 2.5).abs() < 1e-9);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn a_bound_is_on_the_ratio_where_there_is_one() {
        let figure = Figure::new("f", 9.0, "s");
        assert_eq!(figure.clone().held_to(Bound::Gate(3.0)).holds, Some(false));
        let compared = figure.against(4.0);
        assert_eq!(compared.ratio, Some(2.25));
        assert!(!compared.clone().held_to(Bound::Gate(3.0)).is_broken_gate());
        let goal = compared.clone().held_to(Bound::Goal(2.0));
        assert!(goal.holds == Some(false) && !goal.is_broken_gate());
        assert!(compared.held_to(Bound::Gate(2.0)).is_broken_gate());
    }

    #[test]
    fn what_cannot_be_compared_holds_no_bound() {
        let nothing = Figure::new("f", 0.0, "s").against(0.0).held_to(Bound::Gate(1.0));
        assert!(nothing.is_broken_gate());
    }
}
