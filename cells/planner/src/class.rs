//! Which class a tenant is: the greatest that a signal asks for, with bands, delays, freezes and pins against flapping.

use serde::Serialize;

use crate::model::{Band, Choice, Class, Classes, Place, Readings, SIGNALS, Seconds, Signal, Tenant, Watch};
use crate::policy::Policy;

/// Why a tenant keeps its class although it may want another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Frozen {
    /// Nothing was measured yet.
    NoSignals,
    /// Its signals are too old.
    StaleSignals,
    /// Its signals are from the future.
    FutureSignals,
    /// Its apiserver does not answer.
    Down,
}

impl Frozen {
    /// Whether time alone does not end it.
    fn lasts(self) -> bool {
        self != Self::FutureSignals
    }
}

/// What a tenant's class should become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// What it is.
    Keep,
    /// What it is, for as long as this goes on.
    Frozen(Frozen),
    /// Another, if it lasts.
    Later {
        /// The class.
        to: Class,
        /// The signal that asks for it; none for a pin.
        signal: Option<Signal>,
        /// When.
        due: Seconds,
    },
    /// Another, now.
    Now {
        /// The class.
        to: Class,
        /// The signal that asks for it; none for a pin.
        signal: Option<Signal>,
        /// Whether it does not wait for a token.
        is_emergency: bool,
    },
}

/// A verdict, the band to remember, and how long both stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    /// What should become of the class.
    pub verdict: Verdict,
    /// The band that the tenant is in now and since when.
    pub watch: Watch,
    /// From when on time alone may make another of it.
    pub until: Seconds,
}

/// Judges one tenant.
pub fn judge(tenant: &Tenant, classes: &Classes, policy: &Policy, now: Seconds) -> Judgement {
    let (verdict, watch) = weigh(tenant, classes, policy, now);
    let measured = tenant.readings.map_or(Seconds::MAX, |readings| readings.at);
    let stale = after(after(measured, policy.signal_seconds), 1);
    let is_pinned = matches!(tenant.choice, Choice::Pinned(_));
    let until = match verdict {
        // Its first moment is the one that is remembered.
        _ if watch != tenant.watch => after(now, 1),
        Verdict::Frozen(Frozen::FutureSignals) => after(measured, -policy.signal_seconds),
        Verdict::Frozen(Frozen::NoSignals | Frozen::StaleSignals) => Seconds::MAX,
        _ if is_pinned => Seconds::MAX,
        Verdict::Later { due, .. } => due.min(stale),
        Verdict::Keep | Verdict::Now { .. } | Verdict::Frozen(Frozen::Down) => stale,
    };
    Judgement {
        verdict,
        watch,
        until,
    }
}

fn weigh(tenant: &Tenant, classes: &Classes, policy: &Policy, now: Seconds) -> (Verdict, Watch) {
    let steady = |verdict| (verdict, watch(tenant.watch, Band::Within, now));
    if let Choice::Pinned(pin) = tenant.choice {
        let verdict = if pin == tenant.class {
            Verdict::Keep
        } else {
            Verdict::Now {
                to: pin,
                signal: None,
                is_emergency: false,
            }
        };
        return steady(verdict);
    }
    let readings = match usable(tenant.readings, policy, now) {
        Ok(readings) => readings,
        // What was seen before is kept: the delay goes on when data comes back in the same band.
        Err(frozen) => return (Verdict::Frozen(frozen), tenant.watch),
    };
    // An emergency from before the last change is what that change answered.
    let is_emergency = readings.is_emergency && readings.at > tenant.changed;
    let (up, up_signal) = wanted(&readings, classes, policy.up_share);
    if up > tenant.class {
        let watch = watch(tenant.watch, Band::Above, now);
        let signal = Some(up_signal);
        let due = match is_emergency {
            true => now,
            false if tenant.went_down => {
                after(watch.since, policy.up_seconds).max(after(tenant.changed, policy.cooldown_seconds))
            }
            false => after(watch.since, policy.up_seconds),
        };
        return (step(up, signal, due, is_emergency, now), watch);
    }
    if is_emergency && let Some(next) = Class::ALL.into_iter().find(|class| *class > tenant.class) {
        let watch = watch(tenant.watch, Band::Above, now);
        return (step(next, Some(up_signal), now, true, now), watch);
    }
    let (down, down_signal) = wanted(&readings, classes, policy.down_share);
    if down < tenant.class {
        let watch = watch(tenant.watch, Band::Below, now);
        let due = after(watch.since, policy.down_seconds).max(after(tenant.changed, policy.cooldown_seconds));
        // One class at a time: what a greater class hid shows first.
        let to = tenant.class.below().unwrap_or(down).max(down);
        return (step(to, Some(down_signal), due, false, now), watch);
    }
    steady(Verdict::Keep)
}

/// Whether a tenant of such a judgement may change its class, now or by time alone, or has something to report.
pub fn is_restless(tenant: &Tenant, judgement: &Judgement) -> bool {
    let is_calm = match judgement.verdict {
        Verdict::Keep => true,
        Verdict::Frozen(why) => why.lasts(),
        Verdict::Later { .. } | Verdict::Now { .. } => false,
    };
    let is_within = tenant.watch.band == Band::Within && judgement.watch.band == Band::Within;
    let is_running = matches!(tenant.place, Place::Running { .. });
    is_running && !(is_calm && is_within && tenant.choice != Choice::Unknown)
}

fn step(to: Class, signal: Option<Signal>, due: Seconds, is_emergency: bool, now: Seconds) -> Verdict {
    if due <= now {
        Verdict::Now {
            to,
            signal,
            is_emergency,
        }
    } else {
        Verdict::Later { to, signal, due }
    }
}

/// A time so much later, or the end of time.
fn after(time: Seconds, seconds: Seconds) -> Seconds {
    time.saturating_add(seconds)
}

fn usable(readings: Option<Readings>, policy: &Policy, now: Seconds) -> Result<Readings, Frozen> {
    let readings = readings.ok_or(Frozen::NoSignals)?;
    if readings.at > after(now, policy.signal_seconds) {
        Err(Frozen::FutureSignals)
    } else if now > after(readings.at, policy.signal_seconds) {
        Err(Frozen::StaleSignals)
    } else if !readings.is_up {
        Err(Frozen::Down)
    } else {
        Ok(readings)
    }
}

fn watch(before: Watch, band: Band, now: Seconds) -> Watch {
    if before.band == band {
        before
    } else {
        Watch { band, since: now }
    }
}

/// The smallest class that no signal fills beyond the share, and the signal that asks for the most.
fn wanted(readings: &Readings, classes: &Classes, share: f64) -> (Class, Signal) {
    let mut most = (Class::Small, Signal::Nodes);
    for signal in Signal::ALL {
        let value = f64::from(readings.values[signal as usize]);
        let fits = |class: &Class| match classes.get(*class).limits[signal as usize] {
            Some(limit) => value <= share * f64::from(limit),
            None => true,
        };
        let class = Class::ALL.into_iter().find(fits).unwrap_or(Class::Large);
        if class > most.0 {
            most = (class, signal);
        }
    }
    most
}

/// A class's range of one signal, from and up to.
pub type Range = (Class, u32, Option<u32>);

/// What is wrong with the ranges of one signal, the gap or overlap named; nothing when each value has one class.
pub fn gaps(signal: Signal, ranges: &[Range]) -> Vec<String> {
    let name = signal.name();
    let mut faults = Vec::new();
    let mut covered = Some(0);
    for (class, from, to) in ranges {
        match covered {
            Some(end) if *from > end => faults.push(format!("{name} {end} to {from} belongs to no class")),
            Some(end) if *from < end => faults.push(format!("{name} {from} to {end} belongs to two classes")),
            None => faults.push(format!("{name} from {from} belongs to two classes")),
            Some(_) => {}
        }
        if to.is_some_and(|to| to <= *from) {
            faults.push(format!("{name} of class {class} is empty"));
        }
        covered = *to;
    }
    if let Some(end) = covered {
        faults.push(format!("{name} from {end} belongs to no class"));
    }
    faults
}

/// The limits of each class from the ranges of each signal, or what is wrong with them.
pub fn limits(ranges: &[Vec<Range>; SIGNALS]) -> Result<[[Option<u32>; SIGNALS]; 3], Vec<String>> {
    let faults: Vec<String> = Signal::ALL
        .into_iter()
        .flat_map(|signal| gaps(signal, &ranges[signal as usize]))
        .collect();
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut limits = [[None; SIGNALS]; 3];
    for signal in Signal::ALL {
        for (class, _, to) in &ranges[signal as usize] {
            limits[*class as usize][signal as usize] = *to;
        }
    }
    Ok(limits)
}
