//! Waits on a cluster by its stream of events, and shows meanwhile what is waited for.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use eventsource_stream::Eventsource;
use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use skep_provision::model::Cluster;

use super::api::Api;
use super::failure::Failure;

/// Between two connections when a stream ends early.
const RECONNECT: Duration = Duration::from_secs(1);

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// The cluster is ready.
    Ready,
    /// The cluster is gone.
    Gone,
}

/// Waits until the goal is reached; returns the cluster as it then is, or nothing when it is gone.
pub async fn wait(
    api: &Api,
    path: &str,
    name: &str,
    goal: Goal,
    limit: Duration,
) -> Result<Option<Cluster>, Failure> {
    let mut view = View::new(name, goal);
    let waiting = follow(api, path, goal, &mut view);
    let result = tokio::time::timeout(limit, waiting).await;
    let last = view.end();
    result.unwrap_or_else(|_| {
        let what = if goal == Goal::Ready { "ready" } else { "gone" };
        let seconds = limit.as_secs();
        Err(Failure::TimedOut(format!(
            "cluster {name} is not {what} after {seconds} s ({last}); it goes on; see `skep cluster get {name}`"
        )))
    })
}

async fn follow(api: &Api, path: &str, goal: Goal, view: &mut View) -> Result<Option<Cluster>, Failure> {
    let events = format!("{path}/events");
    loop {
        let stream = match api.events(&events).await {
            Ok(response) => response.bytes_stream().eventsource(),
            Err(Failure::Problem(problem)) if problem.status == 404 && goal == Goal::Gone => return Ok(None),
            Err(Failure::Problem(problem)) if problem.status < 429 => return Err(Failure::Problem(problem)),
            Err(_) => {
                tokio::time::sleep(RECONNECT).await;
                continue;
            }
        };
        let mut stream = std::pin::pin!(stream);
        while let Some(Ok(event)) = stream.next().await {
            match event.event.as_str() {
                "deleted" if goal == Goal::Gone => return Ok(None),
                "deleted" => return Err(Failure::NotFound("the cluster was deleted meanwhile".to_owned())),
                "cluster" => {
                    let Ok(cluster) = serde_json::from_str::<Cluster>(&event.data) else {
                        continue;
                    };
                    view.show(&cluster);
                    check_refusal(&cluster, goal)?;
                    if goal == Goal::Ready && cluster.is_ready() {
                        return Ok(Some(cluster));
                    }
                }
                _ => {}
            }
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

/// A spec that was found wrong after it was taken never becomes ready: say so instead of waiting.
fn check_refusal(cluster: &Cluster, goal: Goal) -> Result<(), Failure> {
    match cluster.condition("Ready") {
        Some(ready) if goal == Goal::Ready && ready.reason == skep_core::reasons::INVALID_SPEC => Err(
            Failure::Refused(format!("cluster {}: {}", cluster.name, ready.message)),
        ),
        _ => Ok(()),
    }
}

/// The line or the bar that shows what is waited for.
struct View {
    bar: Option<ProgressBar>,
    last: String,
    begin: Instant,
}

impl View {
    fn new(name: &str, goal: Goal) -> Self {
        let what = if goal == Goal::Ready {
            "creating"
        } else {
            "deleting"
        };
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {prefix} {wide_msg} {elapsed}");
            let bar = ProgressBar::new_spinner();
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.set_prefix(format!("{what} {name}"));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self {
            bar,
            last: "nothing was heard of it".to_owned(),
            begin: Instant::now(),
        }
    }

    fn show(&mut self, cluster: &Cluster) {
        let Some(ready) = cluster.condition("Ready") else {
            return;
        };
        if ready.message == self.last {
            return;
        }
        self.last.clone_from(&ready.message);
        match &self.bar {
            Some(bar) => bar.set_message(self.last.clone()),
            None => eprintln!(
                "{:>4} s  {}: {}",
                self.begin.elapsed().as_secs(),
                cluster.name,
                self.last
            ),
        }
    }

    fn end(self) -> String {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        self.last
    }
}
