//! What was measured of a tenant.

use crate::demand::Demand;
use crate::resource::{MILLI, Vector};

/// The share of a day's measure in what is known of a tenant: a half-life of a week, so that the season of the week is
/// part of the deviation.
const FRESH: f64 = 0.094;

/// Decayed moments, in units.
#[derive(Clone, Copy)]
pub struct Known {
    days: u32,
    mean: Vector<f64>,
    square: Vector<f64>,
}

impl Known {
    /// Nothing but what a first day's load makes likely.
    pub fn new(load: &Vector<f64>) -> Self {
        Self {
            days: 0,
            mean: *load,
            square: Vector::from_fn(|r| load[r] * load[r]),
        }
    }

    /// How many days were measured.
    pub fn days(&self) -> u32 {
        self.days
    }

    /// Takes a day's load in and returns what is known with it.
    pub fn learn(&mut self, load: &Vector<f64>) -> Demand {
        self.days += 1;
        self.mean = Vector::from_fn(|r| self.mean[r] + FRESH * (load[r] - self.mean[r]));
        self.square = Vector::from_fn(|r| self.square[r] + FRESH * (load[r] * load[r] - self.square[r]));
        Demand {
            mean: Vector::from_fn(|r| milli(self.mean[r])),
            deviation: Vector::from_fn(|r| {
                milli((self.square[r] - self.mean[r] * self.mean[r]).max(0.0).sqrt())
            }),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float's cast saturates"
)]
fn milli(units: f64) -> u32 {
    (units * MILLI).round() as u32
}
