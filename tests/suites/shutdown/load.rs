//! Load that goes on until the server refuses it, and an account of every request.

use std::{
    collections::HashSet,
    ops::AddAssign,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use forebay_client::{Client, InferError, Reply, Request, Session, StreamOptions, Ticket, tensor};
use forebay_tests::harness::within;
use tokio::{sync::mpsc, task::JoinSet};

const CALLERS: i32 = 32;
const STREAMS: i32 = 8;
/// Requests that one stream has in flight.
const IN_FLIGHT: usize = 16;
/// Between the numbers of two sources of requests, more than either sends.
const STRIDE: i32 = 100_000;

/// What became of the requests of one source, or of all. The numbers name requests.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) sent: HashSet<i32>,
    pub(super) answered: HashSet<i32>,
    pub(super) refused: HashSet<i32>,
}

/// Load from many callers and streams.
pub(super) struct Load {
    sources: JoinSet<Tally>,
    answers: Arc<AtomicUsize>,
}

impl Load {
    /// Starts 32 callers that make one call after the other, and 8 streams that are kept full.
    pub(super) async fn start(client: &Client) -> Self {
        let answers = Arc::<AtomicUsize>::default();
        let mut sources = JoinSet::new();
        for source in 0..CALLERS {
            sources.spawn(call(client.clone(), source * STRIDE, Arc::clone(&answers)));
        }
        for source in CALLERS..CALLERS + STREAMS {
            let options = StreamOptions::default().with_requests_in_flight(IN_FLIGHT);
            let session = within(client.stream(options)).await.expect("streams open");
            sources.spawn(stream(session, source * STRIDE, Arc::clone(&answers)));
        }
        Self { sources, answers }
    }

    /// Returns how many requests were answered so far.
    pub(super) fn answers(&self) -> usize {
        self.answers.load(Ordering::Relaxed)
    }

    /// Waits until every source was refused, and returns the account of all.
    pub(super) async fn ended(self) -> Tally {
        let mut all = Tally::default();
        for tally in within(self.sources.join_all()).await {
            all += tally;
        }
        all
    }
}

/// Calls until refused.
async fn call(client: Client, first: i32, answers: Arc<AtomicUsize>) -> Tally {
    let mut tally = Tally::default();
    for number in first..first + STRIDE {
        tally.sent.insert(number);
        let outcome = client.infer(request(number)).await;
        let refused = outcome.is_err();
        tally.settle(number, outcome, &answers);
        if refused {
            return tally;
        }
    }
    panic!("the server never refused");
}

/// Keeps a stream full until refused.
async fn stream(session: Session, first: i32, answers: Arc<AtomicUsize>) -> Tally {
    let (submitted, mut tickets) = mpsc::channel::<(i32, Ticket)>(2 * IN_FLIGHT);
    let settled = tokio::spawn(async move {
        let mut tally = Tally::default();
        while let Some((number, ticket)) = tickets.recv().await {
            tally.settle(number, ticket.await, &answers);
        }
        tally
    });
    let mut sent = Tally::default();
    for number in first..first + STRIDE {
        sent.sent.insert(number);
        match session.submit(request(number)).await {
            Ok(ticket) => submitted
                .send((number, ticket))
                .await
                .expect("tickets are settled as long as there are any"),
            Err(error) => {
                sent.refuse(number, &error);
                break;
            }
        }
    }
    drop(submitted);
    sent += settled.await.expect("settling does not panic");
    sent
}

fn request(number: i32) -> Request {
    let input = |name| tensor::from_slice(name, &[number; 16], [1, 16]).expect("16 are 16");
    Request::new("simple")
        .with_id(number.to_string())
        .with_input(input("INPUT0"))
        .with_input(input("INPUT1"))
}

impl Tally {
    fn settle(&mut self, number: i32, outcome: Result<Reply, InferError>, answers: &AtomicUsize) {
        match outcome {
            Ok(reply) => {
                assert_eq!(reply.id(), number.to_string());
                let sum = reply.output("OUTPUT0").expect("it has this output");
                let sum: Vec<i32> = tensor::to_vec(sum).expect("it is of integers");
                assert_eq!(sum, [2 * number; 16], "another request's answer");
                assert!(self.answered.insert(number), "{number} was answered twice");
                answers.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => self.refuse(number, &error),
        }
    }

    fn refuse(&mut self, number: i32, error: &InferError) {
        assert!(
            error.is_retryable() && error.has_no_side_effects(),
            "{number} may have been executed: {error:?}"
        );
        self.refused.insert(number);
    }

    /// Asserts that each request was answered or refused, and none both.
    pub(super) fn assert_complete(&self) {
        let settled: HashSet<i32> = self.answered.union(&self.refused).copied().collect();
        assert_eq!(settled, self.sent);
        assert_eq!(self.answered.len() + self.refused.len(), self.sent.len());
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.sent.extend(other.sent);
        self.answered.extend(other.answered);
        self.refused.extend(other.refused);
    }
}
