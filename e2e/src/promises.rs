//! The scoreboard: rows of `| promise | path::test |` and whether each test is there.
//!
//! It reads text alone; running the tests is the test runner's business.

/// One promise and the tests that show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What is promised.
    pub promise: String,
    /// Tests as `path/of/file.rs::test_name`.
    pub tests: Vec<String>,
}

/// The rows of every table in the text, without headings and rules.
pub fn rows(text: &str) -> Vec<Row> {
    text.lines().filter_map(row).collect()
}

fn row(line: &str) -> Option<Row> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    let (promise, tests) = inner.rsplit_once('|')?;
    let promise = promise.trim().to_owned();
    let is_rule = promise.chars().all(|c| matches!(c, '-' | ':' | ' ' | '|'));
    if is_rule || promise.eq_ignore_ascii_case("promise") {
        return None;
    }
    let tests = tests
        .split(',')
        .map(|test| test.trim().trim_matches('`').to_owned());
    Some(Row {
        promise,
        tests: tests.filter(|test| !test.is_empty()).collect(),
    })
}

/// Why a row counts as not shown; nothing when every test that it names is there and switched on.
pub fn missing_test(row: &Row, read: impl Fn(&str) -> Option<String>) -> Option<String> {
    if row.tests.is_empty() {
        return Some("it names no test".to_owned());
    }
    row.tests.iter().find_map(|test| {
        let Some((path, name)) = test.rsplit_once("::") else {
            return Some(format!("{test} is not of the form path::test"));
        };
        let Some(source) = read(path) else {
            return Some(format!("{path} cannot be read"));
        };
        check(&source, name).err().map(|why| format!("{test} {why}"))
    })
}

fn check(source: &str, name: &str) -> Result<(), &'static str> {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let heads = [format!("fn {name}("), format!("async fn {name}(")];
    let at = lines
        .iter()
        .position(|line| heads.iter().any(|head| line.starts_with(head.as_str())));
    let Some(at) = at else { return Err("is not there") };
    let attributes: Vec<&&str> = lines[..at]
        .iter()
        .rev()
        .take_while(|line| line.starts_with("#["))
        .collect();
    if attributes.iter().any(|line| line.starts_with("#[ignore")) {
        return Err("is switched off");
    }
    if attributes.iter().any(|line| line.contains("test")) {
        Ok(())
    } else {
        Err("is no test")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "| promise | test |\n| --- | --- |\n| it works | `a.rs::works` |\n| both | `a.rs::works`, `a.rs::off` |\n";
    const SOURCE: &str =
        "#[tokio::test]\nasync fn works() {}\n#[test]\n#[ignore]\nfn off() {}\nfn plain() {}\n";

    fn verdict(test: &str) -> Option<String> {
        let row = Row {
            promise: "p".into(),
            tests: vec![test.into()],
        };
        missing_test(&row, |path| (path == "a.rs").then(|| SOURCE.to_owned()))
    }

    #[test]
    fn rows_are_read_without_heading_and_rule() {
        let rows = rows(TABLE);
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[1].tests, ["a.rs::works", "a.rs::off"]);
    }

    #[test]
    fn a_row_stands_only_with_a_test_that_is_there_and_on() {
        assert_eq!(verdict("a.rs::works"), None);
        assert_eq!(verdict("a.rs::gone").unwrap(), "a.rs::gone is not there");
        assert_eq!(verdict("a.rs::off").unwrap(), "a.rs::off is switched off");
        assert_eq!(verdict("a.rs::plain").unwrap(), "a.rs::plain is no test");
        assert_eq!(verdict("b.rs::works").unwrap(), "b.rs cannot be read");
        assert!(
            missing_test(
                &Row {
                    promise: "p".into(),
                    tests: vec![]
                },
                |_| None
            )
            .is_some()
        );
    }
}
