//! Processes that end with their test, even when it is killed.

use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, mpsc};

/// Ends a process when dropped.
pub struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn spawn(program: &Path, arguments: &[String], log: &Path) -> Process {
    let log = std::fs::File::create(log).unwrap();
    let mut command = bound_to_this_process(program);
    command.args(arguments).stdout(Stdio::null()).stderr(log);
    let child = spawn_from_lasting_thread(command);
    Process(child.unwrap_or_else(|error| panic!("setpriv for {}: {error}", program.display())))
}

/// A program that the kernel kills when this process ends in whatever way.
fn bound_to_this_process(program: &Path) -> Command {
    // The shell looks whether this process ended before the signal was asked for.
    const STARTED_IN_TIME: &str = r#"[ "$PPID" = "$0" ] && exec "$@""#;
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "sh", "-c", STARTED_IN_TIME])
        .arg(std::process::id().to_string())
        .arg(program);
    command
}

struct Order {
    command: Command,
    answer: mpsc::Sender<io::Result<Child>>,
}

/// The kernel takes the end of the thread that spawned a child for the end of its parent, and a test's own threads
/// end before the test does.
fn spawn_from_lasting_thread(command: Command) -> io::Result<Child> {
    static ORDERS: LazyLock<mpsc::Sender<Order>> = LazyLock::new(|| {
        let (orders, taken) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for mut order in taken {
                let _ = order.answer.send(order.command.spawn());
            }
        });
        orders
    });
    let (answer, answered) = mpsc::channel();
    ORDERS.send(Order { command, answer }).unwrap();
    answered.recv().unwrap()
}

/// A port that nobody listens on at this moment.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

#[cfg(test)]
mod tests;
