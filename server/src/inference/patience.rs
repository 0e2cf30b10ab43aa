//! How long a request may take, in the queue and in all.

use std::time::{Duration, Instant};

use forebay_proto::InferRequest;

use crate::{error::Error, registry::Served, request::Answer, scheduler::Pending};

/// How long a request of a model may be queued.
pub(super) fn queue_timeout(served: &Served) -> Option<Duration> {
    served.settings.queue.default_timeout
}

/// The earlier of the call's deadline and the request's own timeout.
///
/// The request's `timeout` counts, unless the model sets a timeout and does not let it be changed.
pub(super) fn deadline(
    served: &Served,
    request: &InferRequest,
    call: Option<Instant>,
) -> Result<Option<Instant>, Error> {
    let policy = &served.settings.queue;
    let own = request
        .timeout()?
        .filter(|_| policy.default_timeout.is_none() || policy.allow_timeout_override);
    let own = own.and_then(|timeout| Instant::now().checked_add(timeout));
    Ok(own.into_iter().chain(call).min())
}

/// Waits for an answer, up to `deadline`. A request that is still queued at `queue_until` leaves the queue;
/// one that runs by then is waited for.
pub(super) async fn wait(
    pending: &mut Pending,
    deadline: Option<Instant>,
    queue_until: Option<Instant>,
) -> Result<Answer, Error> {
    let patient = async {
        if let Some(until) = queue_until {
            match tokio::time::timeout_at(until.into(), &mut *pending).await {
                Ok(answer) => return answer,
                Err(_) if pending.leave_queue() => return Err(Error::QueueTimeout),
                Err(_) => {}
            }
        }
        pending.await
    };
    let Some(deadline) = deadline else {
        return patient.await;
    };
    let answer = tokio::time::timeout_at(deadline.into(), patient).await;
    answer.unwrap_or(Err(Error::DeadlineExceeded))
}
