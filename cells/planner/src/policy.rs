//! The numbers that decisions are made by, each with the reason for its default.

use serde::{Deserialize, Serialize};

/// How decisions are made.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Policy {
    /// Deviations above the mean that a cell has room for; 2.33 is the 99th percentile of a normal distribution.
    pub z: f64,
    /// How far each two tenants' loads correlate, 0 to 1.
    pub rho: f64,
    /// The share of a cell that may be filled, 0 to 1; the rest is for what no report shows.
    pub kappa: f64,
    /// How long a reservation holds, in seconds.
    pub reservation_seconds: i64,
    /// How old a cell's report may be, in seconds.
    pub report_seconds: i64,
    /// How old a tenant's signals may be, in seconds.
    pub signal_seconds: i64,
    /// How many tenants of one account a cell takes.
    pub account_limit: u32,
    /// The share of a class above which a tenant goes up.
    pub up_share: f64,
    /// For how long it must be above, in seconds.
    pub up_seconds: i64,
    /// The share of the lower class below which a tenant goes down.
    pub down_share: f64,
    /// For how long it must be below, in seconds.
    pub down_seconds: i64,
    /// How long after a switch or move no further one follows, in seconds; emergencies excepted.
    pub cooldown_seconds: i64,
    /// Switches of a cell in a window; new tenants and emergencies excepted.
    pub switch_tokens: u32,
    /// The window, in seconds.
    pub switch_window_seconds: i64,
    /// How long a tenant is new, in seconds.
    pub new_seconds: i64,
    /// Moves under way at once in a pool.
    pub move_budget: u32,
    /// Days of history before a forecast is trusted.
    pub history_days: u32,
    /// With less history: the share of capacity in use at which to warn.
    pub warn_share: f64,
    /// With less history: the share of capacity in use at which to order.
    pub order_share: f64,
    /// The share of what raised an alarm below which it is cleared.
    pub clear_share: f64,
    /// Saving over disruption from which draining a cell pays.
    pub drain_ratio: f64,
    /// The time over which the saving of a drained cell is counted, in hours.
    pub saving_hours: f64,
    /// What moving one tenant costs, in dollars: the operator's estimate of its disruption.
    pub move_cost: f64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            z: 2.33,
            rho: 0.1,
            kappa: 0.95,
            reservation_seconds: 600,
            report_seconds: 180,
            signal_seconds: 300,
            account_limit: 100,
            up_share: 0.85,
            up_seconds: 30,
            down_share: 0.6,
            down_seconds: 1200,
            cooldown_seconds: 3600,
            switch_tokens: 5,
            switch_window_seconds: 600,
            new_seconds: 600,
            move_budget: 5,
            history_days: 28,
            warn_share: 0.6,
            order_share: 0.85,
            clear_share: 0.9,
            drain_ratio: 0.5,
            saving_hours: 720.0,
            move_cost: 1.0,
        }
    }
}

impl Policy {
    /// Each number that is out of its range, as field and message.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let share = |name, value: f64| {
            let is_share = value > 0.0 && value <= 1.0;
            (!is_share).then(|| (name, format!("{value} is no share above 0 and up to 1")))
        };
        let positive =
            |name, value: i64| (value <= 0).then(|| (name, format!("{value} is not above 0 seconds")));
        let amount = |name, value: f64| {
            let is_amount = value.is_finite() && value >= 0.0;
            (!is_amount).then(|| (name, format!("{value} is no number from 0")))
        };
        let rho = !(0.0..=1.0).contains(&self.rho);
        [
            amount("z", self.z),
            rho.then(|| ("rho", format!("{} is not from 0 to 1", self.rho))),
            share("kappa", self.kappa),
            positive("reservationSeconds", self.reservation_seconds),
            positive("reportSeconds", self.report_seconds),
            positive("signalSeconds", self.signal_seconds),
            share("upShare", self.up_share),
            positive("upSeconds", self.up_seconds),
            share("downShare", self.down_share),
            positive("downSeconds", self.down_seconds),
            positive("cooldownSeconds", self.cooldown_seconds),
            positive("switchWindowSeconds", self.switch_window_seconds),
            positive("newSeconds", self.new_seconds),
            share("warnShare", self.warn_share),
            share("orderShare", self.order_share),
            share("clearShare", self.clear_share),
            amount("drainRatio", self.drain_ratio),
            amount("savingHours", self.saving_hours),
            amount("moveCost", self.move_cost),
            (self.down_share >= self.up_share).then(|| {
                (
                    "downShare",
                    "it must be below upShare, or classes flap".to_owned(),
                )
            }),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
