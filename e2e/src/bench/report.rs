//! The figures of one benchmark, as a table for people and as JSON for programs.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::figure::{Figure, Spread};

/// Everything that one benchmark found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The benchmark.
    pub name: &'static str,
    /// The machine that it ran on.
    pub machine: String,
    /// The commit that was built, with `-dirty` where files differ from it.
    pub commit: String,
    /// The figures.
    pub figures: Vec<Figure>,
}

impl Report {
    /// An empty report of this machine and this commit.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            machine: machine(),
            commit: commit().unwrap_or_else(|| "unknown".to_owned()),
            figures: Vec::new(),
        }
    }

    /// Adds a figure.
    pub fn add(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    /// Whether every bound holds that must.
    pub fn holds(&self) -> bool {
        !self.figures.iter().any(Figure::is_broken_gate)
    }

    /// Prints the table and the bounds that do not hold.
    pub fn print(&self) {
        println!("\n{} at {} on {}", self.name, self.commit, self.machine);
        println!("{}", self.table());
        for figure in self.figures.iter().filter(|figure| figure.holds == Some(false)) {
            let kind = if figure.gate { "GATE" } else { "goal" };
            println!("{kind} does not hold: {} ({})", figure.name, bound(figure));
        }
    }

    /// Writes `NAME.json` and says where.
    pub fn write(&self) -> Result<PathBuf> {
        let directory = super::directory()?;
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let path = directory.join(format!("{}.json", self.name));
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    fn table(&self) -> Table {
        let headings = [
            "FIGURE",
            "VALUE",
            "UNIT",
            "MIN",
            "MAX",
            "REFERENCE",
            "RATIO",
            "BOUND",
            "HOLDS",
        ];
        let mut table = new_table(&headings, &[1, 3, 4, 5, 6]);
        for figure in &self.figures {
            let optional = |value: Option<f64>| value.map(number).unwrap_or_default();
            let spread = |of: fn(&Spread) -> f64| optional(figure.spread.as_ref().map(of));
            table.add_row([
                figure.name.clone(),
                number(figure.value),
                figure.unit.to_owned(),
                spread(|spread| spread.min),
                spread(|spread| spread.max),
                optional(figure.reference),
                optional(figure.ratio),
                bound(figure),
                match figure.holds {
                    Some(true) => "yes".to_owned(),
                    Some(false) => "NO".to_owned(),
                    None => String::new(),
                },
            ]);
        }
        table
    }
}

/// A table without lines whose columns `right` hold numbers.
pub fn new_table(headings: &[&str], right: &[usize]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(headings.iter().copied());
    for index in right {
        if let Some(column) = table.column_mut(*index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// A number as tables show it.
pub fn number(value: f64) -> String {
    if value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

fn bound(figure: &Figure) -> String {
    let Some(most) = figure.goal else {
        return String::new();
    };
    let of = if figure.ratio.is_some() { " ×" } else { "" };
    let kind = if figure.gate { "gate" } else { "goal" };
    format!("{kind} ≤ {most}{of}")
}

/// Processor, cores, memory and kernel of this machine.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let value = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let processor = value(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned());
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kibibytes = value(&read("/proc/meminfo"), "MemTotal")
        .and_then(|text| text.split(' ').next()?.parse::<u64>().ok())
        .unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
    format!(
        "{cores} cores of {processor}, {} MiB, Linux {kernel}",
        kibibytes / 1024
    )
}

/// The commit of this tree, with `-dirty` where files differ from it.
pub fn commit() -> Option<String> {
    let head = git(&["rev-parse", "HEAD"], &[])?;
    marked(head, &[])
}

/// The last commit that changed one of these paths, from the root of the tree; with `-dirty` where they differ from it.
pub fn last_change(paths: &[&str]) -> Option<String> {
    let last = git(&["log", "-1", "--format=%H"], paths)?;
    marked(last, paths)
}

fn marked(commit: String, paths: &[&str]) -> Option<String> {
    let changes = git(&["status", "--porcelain", "--untracked-files=no"], paths)?;
    Some(if changes.is_empty() {
        commit
    } else {
        format!("{commit}-dirty")
    })
}

fn git(arguments: &[&str], paths: &[&str]) -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    // Some commands repeat the separator.
    let separator: &[&str] = if paths.is_empty() { &[] } else { &["--"] };
    let output = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(arguments)
        .args(separator)
        .args(paths)
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Bound;

    #[test]
    fn a_commit_is_named_by_its_hash_and_changes_beside_it() {
        let known = commit().unwrap();
        let hash = known.trim_end_matches("-dirty");
        assert!(
            hash.len() == 40 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{known}"
        );
        let last = last_change(&["LICENSE"]).unwrap();
        assert_eq!(last.len(), 40, "{last}");
    }

    #[test]
    fn the_format_is_as_promised() {
        let mut report = Report::new("create");
        report.add(
            Figure::new("one", 6.0, "s")
                .against(3.0)
                .held_to(Bound::Gate(3.0)),
        );
        report.add(Figure::new("restarts", 0.0, "containers").held_to(Bound::Goal(0.0)));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(
            json["figures"][0],
            serde_json::json!({"name": "one", "value": 6.0, "unit": "s", "reference": 3.0, "ratio": 2.0,
                "goal": 3.0, "gate": true, "holds": true})
        );
        assert_eq!(json["figures"][1]["reference"], serde_json::Value::Null);
        assert!(report.holds());
        report.add(Figure::new("last", 9.0, "s").held_to(Bound::Gate(8.0)));
        assert!(!report.holds());
    }
}
