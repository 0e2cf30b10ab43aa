//! Targets that do exactly what a test says, on the virtual clock.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, watch},
    time,
};

use super::{Flight, Limits, Setup};
use crate::{
    clock,
    pacer::{self, Arrival},
    progress::Progress,
    record::Outcome,
    schedule::Schedule,
    target::{Answer, Shot, Target},
};

/// Answers each request after what a function of its number and its send time says.
pub(super) struct Scripted<F> {
    pub(super) origin: Instant,
    pub(super) script: F,
}

impl<F> Target for Scripted<F>
where
    F: Fn(u64, Duration) -> (Duration, Outcome) + Send + Sync + 'static,
{
    async fn send(&self, shot: Shot) -> Answer {
        let sent = clock::now();
        let (took, outcome) = (self.script)(shot.number, sent - self.origin);
        // Exact, where the timer wakes up to a millisecond late.
        time::sleep(took).await;
        Answer {
            sent: Some(sent),
            first: Some(sent + took),
            done: sent + took,
            outcome,
            stages: None,
        }
    }
}

/// A server with one worker that takes `service` for each request, first come, first served.
pub(super) struct Queue {
    pub(super) service: Duration,
    free_at: Mutex<Option<Instant>>,
}

impl Queue {
    pub(super) fn new(service: Duration) -> Self {
        Self {
            service,
            free_at: Mutex::new(None),
        }
    }
}

impl Target for Queue {
    async fn send(&self, _shot: Shot) -> Answer {
        let sent = clock::now();
        let done = {
            let mut free_at = self.free_at.lock().unwrap();
            let done = free_at.map_or(sent, |at| at.max(sent)) + self.service;
            *free_at = Some(done);
            done
        };
        time::sleep_until(done.into()).await;
        Answer {
            sent: Some(sent),
            first: None,
            done,
            outcome: Outcome::Ok,
            stages: None,
        }
    }
}

pub(super) fn flight<T: Target>(target: T, origin: Instant, limits: Limits) -> Flight<T> {
    Flight::new(Setup {
        target: Arc::new(target),
        limits,
        origin,
        progress: watch::Sender::new(Progress::default()),
    })
}

/// The pacer on the virtual clock.
pub(super) fn pace(schedule: &Schedule, origin: Instant) -> mpsc::Receiver<Arrival> {
    let (arrivals, receiver) = mpsc::channel(pacer::CHANNEL);
    let offsets = schedule.offsets().to_vec();
    tokio::spawn(async move {
        for (number, intended) in (0..).zip(offsets) {
            time::sleep_until((origin + intended).into()).await;
            if arrivals.send(Arrival { number, intended }).await.is_err() {
                return;
            }
        }
    });
    receiver
}
