//! Durations as people write them: `30m`, `1h`, `1h 30m`.

use jiff::SignedDuration;

use crate::fields::Fields;

/// Reads how long something shall last, between two bounds (inclusive).
pub(crate) fn read_ttl(
    fields: &mut Fields,
    default: SignedDuration,
    shortest: SignedDuration,
    longest: SignedDuration,
) -> SignedDuration {
    let Some(text) = fields.text("ttl") else {
        return default;
    };
    let Some(ttl) = parse(&text) else {
        fields.error("ttl", "is no duration such as 30m, 1h or 1h 30m");
        return default;
    };
    if ttl < shortest || ttl > longest {
        let message = format!("must be between {} and {}", show(shortest), show(longest));
        fields.error("ttl", message);
        return default;
    }
    ttl
}

/// Parses a duration in jiff's friendly form; ISO 8601 and what is longer than any sense are none.
fn parse(text: &str) -> Option<SignedDuration> {
    const LONGEST_TEXT: usize = 40;
    if text.len() > LONGEST_TEXT {
        return None;
    }
    jiff::fmt::friendly::SpanParser::new()
        .parse_duration(text.trim())
        .ok()
}

/// The shortest way to write a duration of whole minutes.
fn show(duration: SignedDuration) -> String {
    match (duration.as_hours(), duration.as_mins()) {
        (hours, minutes) if minutes == hours * 60 => format!("{hours}h"),
        (_, minutes) => format!("{minutes}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SignedDuration, String> {
        let mut fields = Fields::of(serde_json::json!({"ttl": text})).unwrap();
        let hours = SignedDuration::from_hours;
        let ttl = read_ttl(&mut fields, hours(1), SignedDuration::from_mins(10), hours(24));
        fields
            .finish("thing")
            .map(|()| ttl)
            .map_err(|problem| problem.errors[0].message.clone())
    }

    #[test]
    fn people_write_durations_in_many_ways() {
        for (text, minutes) in [
            ("1h", 60),
            ("30m", 30),
            ("1h 30m", 90),
            ("90 minutes", 90),
            ("24h", 1440),
        ] {
            assert_eq!(read(text), Ok(SignedDuration::from_mins(minutes)), "{text}");
        }
    }

    #[test]
    fn what_is_none_or_out_of_bounds_is_refused() {
        for bad in [
            "",
            "1",
            "h",
            "-1h",
            "9m",
            "25h",
            "1d",
            "PT1H",
            "999999999999999999h",
            "1h; rm",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(read("9m").unwrap_err(), "must be between 10m and 24h");
    }
}
