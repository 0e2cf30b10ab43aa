//! The state of a run while it runs: one live line on a terminal, a plain line now and then
//! elsewhere.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::{sync::watch, time};

use crate::record::Outcome;

/// Time between two refreshes of the live line.
const LIVE: Duration = Duration::from_millis(200);

/// Time between two plain lines.
const PLAIN: Duration = Duration::from_secs(5);

/// Counts since the start, warm-up included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Requests offered.
    pub offered: u64,
    /// Answered correctly.
    pub ok: u64,
    /// Failed or timed out.
    pub failed: u64,
    /// In flight now.
    pub in_flight: usize,
    /// The slowest response since the last time someone looked.
    pub slowest: Duration,
}

impl Progress {
    /// Counts a request that has ended.
    pub fn landed(&mut self, outcome: Outcome, response: Duration) {
        match outcome {
            Outcome::Ok => self.ok += 1,
            _ => self.failed += 1,
        }
        self.slowest = self.slowest.max(response);
    }
}

/// Two looks at the progress.
#[derive(Debug, Clone, Copy)]
struct Line {
    now: Progress,
    before: Progress,
    between: Duration,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            now,
            before,
            between,
        } = self;
        let rate = (now.ok - before.ok) as f64 / between.as_secs_f64();
        write!(
            f,
            "{} offered, {} ok, {} failed, {} in flight, {rate:.0}/s, slowest {:.1} ms",
            now.offered,
            now.ok,
            now.failed,
            now.in_flight,
            now.slowest.as_secs_f64() * 1e3,
        )
    }
}

/// Shows the progress on stderr until the future is dropped.
pub async fn show(progress: watch::Sender<Progress>, length: Option<Duration>) {
    let live = io::stderr().is_terminal();
    let bar = live.then(|| bar(length));
    let mut ticks = time::interval(if live { LIVE } else { PLAIN });
    ticks.tick().await;
    let mut last = (Progress::default(), time::Instant::now());
    loop {
        let at = ticks.tick().await;
        let mut now = Progress::default();
        progress.send_modify(|progress| {
            now = *progress;
            progress.slowest = Duration::ZERO;
        });
        let line = Line {
            now,
            before: last.0,
            between: at - last.1,
        };
        last = (now, at);
        match &bar {
            Some(bar) => {
                let step = u64::try_from(LIVE.as_millis()).unwrap_or(1);
                bar.inc(step);
                bar.set_message(line.to_string());
            }
            // A closed stderr is no reason to end a measurement.
            None => writeln!(io::stderr(), "{line}").unwrap_or(()),
        }
    }
}

fn bar(length: Option<Duration>) -> ProgressBar {
    let millis = length.and_then(|length| u64::try_from(length.as_millis()).ok());
    let (bar, template) = match millis {
        Some(millis) => (ProgressBar::new(millis), "{bar:24} {elapsed} {msg}"),
        None => (ProgressBar::new_spinner(), "{spinner} {elapsed} {msg}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_gives_the_rate_since_the_look_before() {
        let before = Progress {
            ok: 100,
            ..Progress::default()
        };
        let mut now = Progress {
            offered: 205,
            ok: 199,
            in_flight: 3,
            ..Progress::default()
        };
        now.landed(Outcome::Ok, Duration::from_millis(4));
        now.landed(Outcome::TimedOut, Duration::from_millis(9));
        let line = Line {
            now,
            before,
            between: Duration::from_millis(500),
        };
        assert_eq!(
            line.to_string(),
            "205 offered, 200 ok, 1 failed, 3 in flight, 200/s, slowest 9.0 ms"
        );
    }
}
