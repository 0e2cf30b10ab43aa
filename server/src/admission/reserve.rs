//! A reservation in line for its bytes.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;

use super::ledger::Ticket;
use super::{Budget, Error, Permit};

/// The future of [`Budget::reserve`]. Dropping it leaves the line.
#[derive(Debug)]
#[must_use = "a reservation that nobody awaits holds up those behind it"]
pub struct Reserve {
    state: State,
}

#[derive(Debug)]
enum State {
    Decided(Option<Result<Permit, Error>>),
    Waiting {
        budget: Budget,
        ticket: Ticket,
        grant: oneshot::Receiver<Permit>,
    },
}

impl Reserve {
    pub(super) fn granted(permit: Permit) -> Self {
        let state = State::Decided(Some(Ok(permit)));
        Self { state }
    }

    pub(super) fn refused(error: Error) -> Self {
        let state = State::Decided(Some(Err(error)));
        Self { state }
    }

    pub(super) fn waiting(
        budget: Budget,
        ticket: Ticket,
        grant: oneshot::Receiver<Permit>,
    ) -> Self {
        let state = State::Waiting {
            budget,
            ticket,
            grant,
        };
        Self { state }
    }
}

impl Future for Reserve {
    type Output = Result<Permit, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let decision = match &mut self.state {
            State::Decided(decision) => decision.take().expect("not polled after it was ready"),
            State::Waiting { grant, .. } => {
                let permit = ready!(Pin::new(grant).poll(cx));
                // `self` holds the budget, and its ledger the sender until a permit is sent.
                Ok(permit.expect("the ledger forgets a waiter only when this is dropped"))
            }
        };
        self.state = State::Decided(None);
        Poll::Ready(decision)
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        // A permit that was sent already is dropped with the receiver, after this.
        if let State::Waiting { budget, ticket, .. } = &self.state {
            let grants = budget.lock().cancel(*ticket);
            budget.hand_out(grants);
        }
    }
}
