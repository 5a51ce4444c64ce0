//! What came of a strategy.

use serde::Serialize;

use super::strategy::Strategy;

/// One day, at its end.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Day {
    /// The day, from 0.
    pub day: u32,
    /// Tenants that run.
    pub tenants: u32,
    /// Cells that take or keep tenants.
    pub cells: u32,
    /// Cells in building.
    pub building: u32,
    /// The load of all tenants by what their cells hold with one zone lost, in the dimension where it is the greatest.
    pub utilisation: f64,
    /// The same of the fullest cell.
    pub fullest: f64,
    /// Cells above 95%.
    pub hot: u32,
    /// Tenants that found no room on this day.
    pub refused: u32,
    /// Tenants that were moved.
    pub moves: u32,
    /// Tenants whose class changed.
    pub switches: u32,
    /// What cells cost, building ones too, in dollars.
    pub cost: f64,
}

/// All days of a strategy.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The strategy.
    pub strategy: Strategy,
    /// The seed.
    pub seed: u64,
    /// Its days.
    pub days: Vec<Day>,
}

impl Outcome {
    /// The mean utilisation over all days.
    pub fn utilisation(&self) -> f64 {
        self.mean(|day| day.utilisation)
    }

    /// The share of days of cells on which the cell was above 95%.
    pub fn hot_share(&self) -> f64 {
        let hot = self.sum(|day| f64::from(day.hot));
        let cells = self.sum(|day| f64::from(day.cells));
        if cells > 0.0 { hot / cells } else { 0.0 }
    }

    /// Tenants that found no room.
    pub fn refused(&self) -> u32 {
        self.days.iter().map(|day| day.refused).sum()
    }

    /// Moves of tenants.
    pub fn moves(&self) -> u32 {
        self.days.iter().map(|day| day.moves).sum()
    }

    /// Changes of class.
    pub fn switches(&self) -> u32 {
        self.days.iter().map(|day| day.switches).sum()
    }

    /// What all cells cost, in dollars.
    pub fn cost(&self) -> f64 {
        self.sum(|day| day.cost)
    }

    /// The most cells of a day.
    pub fn most_cells(&self) -> u32 {
        self.days.iter().map(|day| day.cells).max().unwrap_or(0)
    }

    fn sum(&self, value: impl Fn(&Day) -> f64) -> f64 {
        self.days.iter().map(value).sum()
    }

    fn mean(&self, value: impl Fn(&Day) -> f64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "days are thousands")]
        let days = self.days.len().max(1) as f64;
        self.sum(value) / days
    }
}
