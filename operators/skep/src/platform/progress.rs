//! Shows what `skep up` is at: bars on a terminal, plain lines otherwise.
//!
//! Everything goes to standard error; standard output is for results.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use skep_distro::Progress;

/// One terminal's view of steps that overlap.
pub struct Display {
    bars: Option<MultiProgress>,
    /// Whether what was there already goes without saying.
    is_brief: bool,
    steps: Mutex<BTreeMap<String, Step>>,
}

struct Step {
    bar: Option<ProgressBar>,
    detail: String,
}

impl Display {
    /// Bars where standard error is a terminal.
    pub fn new() -> Self {
        let bars = std::io::stderr().is_terminal().then(MultiProgress::new);
        Self {
            bars,
            is_brief: false,
            steps: Mutex::default(),
        }
    }

    /// The same, for commands on a platform that is up: what was there already is not told.
    pub fn brief() -> Self {
        Self {
            is_brief: true,
            ..Self::new()
        }
    }

    /// Runs a step of our own under a name, and tells its end only when it went well.
    pub async fn step<T, E>(
        &self,
        name: &str,
        what: &str,
        usual: Option<Duration>,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.start(name, what, usual);
        let begin = Instant::now();
        let result = work.await;
        match &result {
            Ok(_) => self.finish(name, begin.elapsed(), false),
            Err(_) => self.fail(name),
        }
        result
    }

    /// Takes the bars away, so that what is printed next stands alone.
    pub fn clear(&self) {
        for (_, step) in std::mem::take(&mut *self.lock()) {
            if let Some(bar) = step.bar {
                bar.finish_and_clear();
            }
        }
    }

    fn fail(&self, name: &str) {
        if let Some(bar) = self.lock().remove(name).and_then(|step| step.bar) {
            bar.abandon();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Step>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, line: &str) {
        match &self.bars {
            // A line above the bars; if the terminal is gone there is no one to tell.
            Some(bars) => drop(bars.println(line)),
            None => eprintln!("{line}"),
        }
    }
}

impl Progress for Display {
    fn start(&self, name: &str, what: &str, usual: Option<Duration>) {
        let usual_text = usual
            .map(|usual| format!(", usually {}", human(usual)))
            .unwrap_or_default();
        let bar = self.bars.as_ref().map(|bars| {
            let bar = match usual {
                Some(usual) => bars.add(ProgressBar::new(usual.as_secs().max(1))),
                None => bars.add(ProgressBar::new_spinner()),
            };
            bar.set_style(style(usual.is_some()));
            bar.set_prefix(name.to_owned());
            bar.set_message(what.to_owned());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        // Only what takes its time has a usual one.
        if bar.is_none() && !(self.is_brief && usual.is_none()) {
            self.say(&format!("  {name:<22} {what}{usual_text}"));
        }
        self.lock().insert(
            name.to_owned(),
            Step {
                bar,
                detail: String::new(),
            },
        );
    }

    fn line(&self, name: &str, detail: &str) {
        if let Some(step) = self.lock().get_mut(name) {
            if let Some(bar) = &step.bar {
                bar.set_position(bar.elapsed().as_secs());
                bar.set_message(detail.to_owned());
            }
            detail.clone_into(&mut step.detail);
        }
    }

    fn finish(&self, name: &str, took: Duration, cached: bool) {
        if let Some(bar) = self.lock().remove(name).and_then(|step| step.bar) {
            bar.finish_and_clear();
        }
        if cached && self.is_brief {
            return;
        }
        let how = if cached {
            "already there".to_owned()
        } else {
            human(took)
        };
        self.say(&format!("✓ {name:<22} {how}"));
    }
}

fn style(has_length: bool) -> ProgressStyle {
    let template = if has_length {
        "{spinner} {prefix:<22} {wide_msg} {elapsed}/{len}s"
    } else {
        "{spinner} {prefix:<22} {wide_msg} {elapsed}"
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// A duration as people say it: `350 ms`, `12 s`, `6 min 05 s`.
pub fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..=119 => format!("{}.{} s", seconds, duration.subsec_millis() / 100),
        _ => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        assert_eq!(human(Duration::from_millis(350)), "350 ms");
        assert_eq!(human(Duration::from_millis(12_300)), "12.3 s");
        assert_eq!(human(Duration::from_secs(365)), "6 min 05 s");
    }
}
