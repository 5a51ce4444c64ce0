//! What a candidate does about the lease that it sees: pure, so that every case is a test.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::LeaseSpec;
use tokio::time::Instant;

/// A lease's record and since when this process has seen it unchanged.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The record.
    pub spec: LeaseSpec,
    /// When it was first seen like this.
    pub since: Instant,
}

impl Observed {
    /// Takes in what was read at `now`; an unchanged record keeps its time.
    #[must_use]
    pub fn update(previous: Option<Self>, spec: LeaseSpec, now: Instant) -> Self {
        match previous {
            Some(known) if known.spec == spec => known,
            _ => Self { spec, since: now },
        }
    }
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// There is no lease: create it.
    Create,
    /// This process holds it: renew it.
    Renew,
    /// Nobody holds it any more: take it over.
    Take,
    /// Another process holds it at least this long.
    Wait(Duration),
}

/// Decides for candidate `identity`; `fallback` is the duration of a lease that states none.
pub fn evaluate(observed: Option<&Observed>, identity: &str, fallback: Duration, now: Instant) -> Decision {
    let Some(Observed { spec, since }) = observed else {
        return Decision::Create;
    };
    match spec.holder_identity.as_deref() {
        None | Some("") => Decision::Take,
        Some(holder) if holder == identity => Decision::Renew,
        Some(_) => {
            let stated = spec
                .lease_duration_seconds
                .and_then(|seconds| u64::try_from(seconds).ok());
            let duration = stated.map_or(fallback, Duration::from_secs);
            let expires = *since + duration;
            if now >= expires {
                Decision::Take
            } else {
                Decision::Wait(expires - now)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    const FALLBACK: Duration = Duration::from_secs(15);

    fn held_by(holder: Option<&str>, seconds: Option<i32>) -> LeaseSpec {
        LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            lease_duration_seconds: seconds,
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn cases() {
        let start = Instant::now();
        let seconds = Duration::from_secs;
        let cases = [
            ("no lease", None, 0, Decision::Create),
            ("released", Some(held_by(None, Some(15))), 0, Decision::Take),
            (
                "released by an empty name",
                Some(held_by(Some(""), Some(1))),
                0,
                Decision::Take,
            ),
            ("own", Some(held_by(Some("me"), Some(15))), 0, Decision::Renew),
            (
                "own and expired",
                Some(held_by(Some("me"), Some(15))),
                99,
                Decision::Renew,
            ),
            (
                "other's, fresh",
                Some(held_by(Some("you"), Some(15))),
                0,
                Decision::Wait(seconds(15)),
            ),
            (
                "other's, ageing",
                Some(held_by(Some("you"), Some(15))),
                14,
                Decision::Wait(seconds(1)),
            ),
            (
                "other's, expired",
                Some(held_by(Some("you"), Some(15))),
                15,
                Decision::Take,
            ),
            (
                "other's, a longer promise",
                Some(held_by(Some("you"), Some(60))),
                15,
                Decision::Wait(seconds(45)),
            ),
            (
                "other's, no duration",
                Some(held_by(Some("you"), None)),
                14,
                Decision::Wait(seconds(1)),
            ),
            (
                "other's, no duration, expired",
                Some(held_by(Some("you"), None)),
                15,
                Decision::Take,
            ),
            (
                "other's, nonsense duration",
                Some(held_by(Some("you"), Some(-1))),
                15,
                Decision::Take,
            ),
        ];
        for (case, spec, age, expected) in cases {
            let observed = spec.map(|spec| Observed { spec, since: start });
            let decision = evaluate(observed.as_ref(), "me", FALLBACK, start + seconds(age));
            assert_eq!(decision, expected, "{case}");
        }
    }

    #[test]
    fn a_renewal_starts_the_wait_anew_whatever_the_holders_clock_says() {
        let start = Instant::now();
        let later = start + Duration::from_secs(14);
        let mut renewed = held_by(Some("you"), Some(15));
        let seen = Observed::update(None, renewed.clone(), start);
        let same = Observed::update(Some(seen.clone()), renewed.clone(), later);
        assert_eq!(same.since, start);

        renewed.renew_time = Some(MicroTime("1990-01-01T00:00:00Z".parse().unwrap()));
        let newer = Observed::update(Some(seen), renewed, later);
        assert_eq!(
            evaluate(Some(&newer), "me", FALLBACK, later),
            Decision::Wait(Duration::from_secs(15))
        );
    }
}
