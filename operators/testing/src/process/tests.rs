use std::io::{BufRead, BufReader};
use std::time::Duration;

use super::*;

/// Set for the process that is killed.
const VICTIM: &str = "SKEP_TESTING_VICTIM";

fn sleeper(directory: &Path) -> Process {
    spawn(
        Path::new("sleep"),
        &["600".to_owned()],
        &directory.join("sleep.log"),
    )
}

/// Whether a process runs; one that waits to be reaped does not.
fn is_running(process: &str) -> bool {
    let told = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = told.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}

fn ends(process: &str) -> bool {
    (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        !is_running(process)
    })
}

#[test]
fn a_process_ends_with_a_test_that_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    if std::env::var_os(VICTIM).is_some() {
        let process = sleeper(directory.path());
        println!("\nprocess {}", process.0.id());
        std::thread::sleep(Duration::from_mins(1));
        return;
    }
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--nocapture",
            "process::tests::a_process_ends_with_a_test_that_is_killed",
        ])
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(victim.stdout.take().unwrap()).lines();
    let process = said
        .map(Result::unwrap)
        .find_map(|line| line.strip_prefix("process ").map(str::to_owned))
        .unwrap();
    assert!(is_running(&process));
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert!(ends(&process), "process {process} outlived its test");
}

#[test]
fn a_process_outlives_the_thread_that_asked_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let process = std::thread::scope(|scope| scope.spawn(|| sleeper(directory.path())).join().unwrap());
    let number = process.0.id().to_string();
    // Long enough for a signal that came with the end of the thread.
    std::thread::sleep(Duration::from_millis(200));
    assert!(is_running(&number));
    drop(process);
    assert!(!is_running(&number));
}
