//! Prints results in the form that was asked for; one place for all commands.

use anyhow::{Context as _, Result};
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::context::Format;

/// Something that has a row in a table.
pub trait Tabular: Serialize {
    /// The headings; those from `wide` on only with `-o wide`.
    const HEADINGS: &'static [&'static str];
    /// How many headings the plain table has.
    const NARROW: usize;

    /// The cells, one for each heading.
    fn cells(&self) -> Vec<String>;

    /// The name that `-o name` prints.
    fn name(&self) -> String;
}

/// Prints a list.
pub fn print_list<T: Tabular>(format: Format, items: &[T]) -> Result<()> {
    match format {
        Format::Json => print_json(&items),
        Format::Yaml => print_yaml(&items),
        Format::Name => {
            for item in items {
                println!("{}", item.name());
            }
            Ok(())
        }
        Format::Table => {
            print_table(items, T::NARROW);
            Ok(())
        }
        Format::Wide => {
            print_table(items, T::HEADINGS.len());
            Ok(())
        }
    }
}

/// Prints one thing; as a list of one where a table is wanted.
pub fn print_one<T: Tabular>(format: Format, item: &T) -> Result<()> {
    match format {
        Format::Json => print_json(item),
        Format::Yaml => print_yaml(item),
        Format::Name | Format::Table | Format::Wide => print_list(format, std::slice::from_ref(item)),
    }
}

/// Prints something that has no table where JSON or YAML is wanted; false where they are not.
pub fn print_whole(format: Format, value: &impl Serialize) -> Result<bool> {
    match format {
        Format::Json => print_json(value)?,
        Format::Yaml => print_yaml(value)?,
        Format::Name | Format::Table | Format::Wide => return Ok(false),
    }
    Ok(true)
}

fn print_table<T: Tabular>(items: &[T], columns: usize) {
    if items.is_empty() {
        eprintln!("none found");
        return;
    }
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(&T::HEADINGS[..columns]);
    for item in items {
        table.add_row(item.cells().into_iter().take(columns));
    }
    for line in table.lines() {
        println!("{}", line.trim_end());
    }
}

/// Prints anything as JSON.
pub fn print_json(value: &(impl Serialize + ?Sized)) -> Result<()> {
    println!(
        "{}",
        serde_json::to_string_pretty(value).context("cannot print JSON")?
    );
    Ok(())
}

fn print_yaml(value: &impl Serialize) -> Result<()> {
    print!("{}", serde_saphyr::to_string(value).context("cannot print YAML")?);
    Ok(())
}

/// How long ago an RFC 3339 time was, as kubectl prints it: `42s`, `7m`, `3h`, `2d`.
pub fn age(time: Option<&str>, now: jiff::Timestamp) -> String {
    let Some(then) = time.and_then(|time| time.parse::<jiff::Timestamp>().ok()) else {
        return "-".to_owned();
    };
    let seconds = now.duration_since(then).as_secs().max(0);
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_as_in_kubectl() {
        let now = "2026-01-02T00:00:00Z".parse().unwrap();
        let cases = [
            ("2026-01-01T23:59:18Z", "42s"),
            ("2026-01-01T23:53:00Z", "7m"),
            ("2026-01-01T21:00:00Z", "3h"),
            ("2025-12-30T00:00:00Z", "3d"),
            ("2026-01-02T00:00:09Z", "0s"),
        ];
        for (time, expected) in cases {
            assert_eq!(age(Some(time), now), expected);
        }
        assert_eq!(age(None, now), "-");
    }
}
