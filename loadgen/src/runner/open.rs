//! The open loop: requests are sent when they are due, whatever became of those before.

use std::pin::pin;

use tokio::sync::mpsc;

use super::{End, Finished, Flight};
use crate::{pacer::Arrival, target::Target};

/// Sends each arrival on a task of its own until `arrivals` ends or `stop` resolves, then drains.
/// An arrival that finds as many requests in flight as allowed is recorded as not sent.
pub async fn run<T: Target>(
    mut flight: Flight<T>,
    mut arrivals: mpsc::Receiver<Arrival>,
    stop: impl Future<Output = ()>,
) -> Finished {
    let mut stop = pin!(stop);
    let end = loop {
        tokio::select! {
            biased;
            () = &mut stop => break End::Stopped,
            arrival = arrivals.recv() => match arrival {
                None => break End::Complete,
                Some(arrival) => {
                    // Arrivals come first, so what has ended meanwhile must not count as in flight.
                    flight.land_ready();
                    if flight.has_room() {
                        flight.launch(arrival, 0, None);
                    } else {
                        flight.refuse(arrival);
                    }
                }
            },
            Some(_slot) = flight.land() => {}
        }
    };
    drop(arrivals);
    flight.finish(end).await
}
