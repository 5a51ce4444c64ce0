//! Builds the `conditions` of a status.
//!
//! Pure: the clock is an argument. Only the conditions that are set come out, so that under server-side
//! apply a controller never takes over a condition that another one writes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::{Timestamp, Unit};

/// The summary condition that comes first in every status.
pub const READY: &str = "Ready";

/// The longest message, in characters; the API allows 32768 bytes, people read far less.
const LONGEST_MESSAGE: usize = 1024;

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody could find out.
    Unknown,
}

impl ConditionStatus {
    /// The API's spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }

    /// `True` or `False`.
    pub fn from_bool(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// Collects conditions against those that were observed.
#[derive(Clone, Debug)]
pub struct Conditions {
    observed: Vec<Condition>,
    set: Vec<Condition>,
    generation: Option<i64>,
    now: Timestamp,
}

impl Conditions {
    /// Starts from the observed conditions and the object's `metadata.generation`.
    pub fn new(observed: &[Condition], generation: Option<i64>, now: Timestamp) -> Self {
        Self {
            observed: observed.to_vec(),
            set: Vec::new(),
            generation,
            now: to_second(now),
        }
    }

    /// Sets one condition; `lastTransitionTime` is kept when its status is unchanged.
    #[must_use]
    pub fn set(
        mut self,
        type_: &str,
        status: ConditionStatus,
        reason: &str,
        message: impl Into<String>,
    ) -> Self {
        let since = find(&self.observed, type_)
            .filter(|condition| condition.status == status.as_str())
            .map_or(self.now, |condition| to_second(condition.last_transition_time.0));
        self.put(Condition {
            type_: type_.to_owned(),
            status: status.as_str().to_owned(),
            reason: reason.to_owned(),
            message: shorten(message.into()),
            last_transition_time: Time(since),
            observed_generation: self.generation,
        });
        self
    }

    /// Carries an observed condition over as it is, if there is one.
    #[must_use]
    pub fn keep(mut self, type_: &str) -> Self {
        if let Some(condition) = find(&self.observed, type_).cloned() {
            self.put(condition);
        }
        self
    }

    /// The conditions: `Ready` first, the others in the order in which they were set.
    pub fn build(mut self) -> Vec<Condition> {
        self.set.sort_by_key(|condition| condition.type_ != READY);
        self.set
    }

    fn put(&mut self, condition: Condition) {
        match self.set.iter_mut().find(|known| known.type_ == condition.type_) {
            Some(known) => *known = condition,
            None => self.set.push(condition),
        }
    }
}

/// Finds a condition by its type.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether the condition is there and `True`.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|condition| condition.status == ConditionStatus::True.as_str())
}

/// Whether the condition is `True` and was written for this generation of the object.
pub fn is_true_for(conditions: &[Condition], type_: &str, generation: Option<i64>) -> bool {
    find(conditions, type_).is_some_and(|condition| {
        condition.status == ConditionStatus::True.as_str()
            && (generation.is_none() || condition.observed_generation == generation)
    })
}

/// Cuts a time to the second, the precision of Kubernetes' `Time`.
pub fn to_second(time: Timestamp) -> Timestamp {
    let rounding = k8s_openapi::jiff::TimestampRound::new()
        .smallest(Unit::Second)
        .mode(k8s_openapi::jiff::RoundMode::Trunc);
    time.round(rounding).unwrap_or(time)
}

fn shorten(message: String) -> String {
    match message.char_indices().nth(LONGEST_MESSAGE) {
        None => message,
        Some((end, _)) => format!("{}…", &message[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn first() -> Vec<Condition> {
        Conditions::new(&[], Some(1), at("2026-11-01T10:00:00.75Z"))
            .set("EtcdReady", ConditionStatus::True, "Serving", "3 of 3 members")
            .set(
                READY,
                ConditionStatus::False,
                "WaitingForApiServer",
                "no replica is available",
            )
            .build()
    }

    #[test]
    fn ready_comes_first_and_times_are_to_the_second() {
        let conditions = first();
        let types: Vec<&str> = conditions
            .iter()
            .map(|condition| condition.type_.as_str())
            .collect();
        assert_eq!(types, [READY, "EtcdReady"]);
        assert_eq!(conditions[0].last_transition_time.0, at("2026-11-01T10:00:00Z"));
        assert_eq!(conditions[0].observed_generation, Some(1));
    }

    #[test]
    fn transition_time_is_kept_while_the_status_is_the_same() {
        let conditions = Conditions::new(&first(), Some(2), at("2026-11-01T11:00:00Z"))
            .set(READY, ConditionStatus::True, "Serving", "")
            .set("EtcdReady", ConditionStatus::True, "Serving", "2 of 3 members")
            .build();
        assert_eq!(conditions[0].last_transition_time.0, at("2026-11-01T11:00:00Z"));
        assert_eq!(conditions[1].last_transition_time.0, at("2026-11-01T10:00:00Z"));
        assert_eq!(conditions[1].message, "2 of 3 members");
        assert_eq!(conditions[1].observed_generation, Some(2));
    }

    #[test]
    fn setting_twice_keeps_the_last_and_unset_ones_are_left_out() {
        let conditions = Conditions::new(&first(), Some(2), at("2026-11-01T11:00:00Z"))
            .set(READY, ConditionStatus::True, "Serving", "")
            .set(READY, ConditionStatus::Unknown, "Unreachable", "")
            .build();
        assert_eq!(conditions.len(), 1);
        assert_eq!(conditions[0].status, "Unknown");
        let kept = Conditions::new(&first(), Some(2), at("2026-11-01T11:00:00Z"))
            .keep("EtcdReady")
            .keep("No");
        assert_eq!(kept.build(), vec![first()[1].clone()]);
    }

    #[test]
    fn predicates() {
        assert!(is_true(&first(), "EtcdReady"));
        assert!(!is_true(&first(), READY));
        assert!(is_true_for(&first(), "EtcdReady", Some(1)));
        assert!(!is_true_for(&first(), "EtcdReady", Some(2)));
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let cut = shorten("é".repeat(LONGEST_MESSAGE + 5));
        assert_eq!(cut.chars().count(), LONGEST_MESSAGE + 1);
    }
}
