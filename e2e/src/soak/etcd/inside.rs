//! Namespaces of its own for processes, mounts and network, so that the kernel takes away all that a run started, however
//! it ends.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

const MARK: &str = "SKEP_SOAK_INSIDE";

/// Whether this process is inside.
pub fn is_inside() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Runs this program again inside and says whether it ended well.
///
/// # Errors
/// When it cannot be started.
pub fn run_again(arguments: &[&str]) -> Result<bool> {
    // Inside there is no network for Go to fetch a module from.
    build_porcupine(&porcupine()?)?;
    let status = again(arguments)?.status().context("cannot run unshare")?;
    Ok(status.success())
}

/// This program inside, not started yet; whoever kills it has killed all that it started.
///
/// # Errors
/// When this program's own file is not found.
pub fn again(arguments: &[&str]) -> Result<Command> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid"])
        .args(["--fork", "--kill-child=KILL", "--mount-proc", "--"])
        .arg(program)
        .args(arguments)
        .env(MARK, "1");
    Ok(command)
}

/// Where the judge of histories is.
///
/// # Errors
/// When this program is not in a target directory.
pub fn porcupine() -> Result<PathBuf> {
    Ok(crate::bench::directory()?
        .with_file_name("soak")
        .join("porcupine"))
}

/// Builds it.
///
/// # Errors
/// When Go does not.
pub fn build_porcupine(program: &Path) -> Result<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("porcupine");
    let output = Command::new("go")
        .args(["build", "-o"])
        .arg(program)
        .arg(".")
        .current_dir(source)
        .output()
        .context("cannot run go")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "go build of porcupine: {}", said.trim());
    Ok(())
}

/// Loopback, a bridge for members, an own `/run`, and an own `/etc/hosts`, whose path is returned.
///
/// # Errors
/// When the kernel refuses one of them.
pub fn furnish(directory: &Path) -> Result<PathBuf> {
    ensure!(is_inside(), "only inside of namespaces of its own");
    run("mount", &["-t", "tmpfs", "tmpfs", "/run"])?;
    run("ip", &["link", "set", "lo", "up"])?;
    run("ip", &["link", "add", "members", "type", "bridge"])?;
    run("ip", &["address", "add", "10.77.0.1/16", "dev", "members"])?;
    run("ip", &["link", "set", "members", "up"])?;
    // An API server takes the address of the way out for its own; nothing is there.
    run(
        "ip",
        &["route", "add", "default", "via", "10.77.0.2", "dev", "members"],
    )?;
    let hosts = directory.join("hosts");
    std::fs::write(&hosts, "127.0.0.1 localhost\n")?;
    run("mount", &["--bind", &hosts.display().to_string(), "/etc/hosts"])?;
    Ok(hosts)
}

/// Runs a command of the system to its end.
///
/// # Errors
/// When it fails; with what it said.
pub fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{program} {}: {}",
        arguments.join(" "),
        said.trim()
    );
    Ok(())
}
