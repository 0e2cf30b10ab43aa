//! From a request that was received to its answer: finds the model, checks the request against its
//! signature, queues it, and waits for the answer up to the deadline.
//!
//! Invariant: every request to a model counts once in its statistics, whatever becomes of it.

use std::{
    collections::HashMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use forebay_proto::{
    InferRequest, InferResponse, Parameter, Parameters, Tensor, inference::ModelInferRequest,
};
use futures_util::future::BoxFuture;
use opentelemetry::KeyValue;

use crate::{
    admission::Permit,
    error::Error,
    parking::{Claim, Shelf},
    registry::{Registry, Served},
    request::{Answer, Job, Reply, Timings},
    scheduler::Pending,
    signature::Signature,
    telemetry::{RequestSpan, Tracer},
    tensor,
};

mod account;
mod patience;

use account::Account;
use patience::{deadline, queue_timeout, wait};

/// Answers requests.
#[derive(Debug, Clone)]
pub struct Inference {
    registry: Arc<Registry>,
    tracer: Tracer,
    shelf: Option<Arc<Shelf>>,
}

/// What comes with a request, besides its message.
#[derive(Debug)]
pub struct Origin {
    /// The host memory that was reserved for the message.
    pub permit: Option<Permit>,
    /// The bytes of the message.
    pub message_bytes: u64,
    /// Why it is not to be served, of which then only the names are there.
    pub refused: Option<Error>,
    /// When the message asked for it.
    pub arrived: Instant,
    /// The deadline of the call.
    pub deadline: Option<Instant>,
    /// The caller's trace.
    pub parent: crate::telemetry::Parent,
}

/// A request that is queued or runs.
///
/// # Cancel safety
/// Dropping it cancels the request.
#[derive(Debug)]
pub struct Running {
    pending: Pending,
    deadline: Option<Instant>,
    /// When it has been queued for too long.
    queue_until: Option<Instant>,
    served: Arc<Served>,
    account: Account,
    span: RequestSpan,
    id: String,
    echo_timings: bool,
}

/// A request that was answered, and whose outputs wait to be read.
///
/// # Cancel safety
/// Dropping it drops the outputs.
#[derive(Debug)]
pub struct Answered {
    answer: Answer,
    served: Arc<Served>,
    account: Account,
    span: RequestSpan,
    id: String,
    echo_timings: bool,
}

/// The response to a request that was answered.
#[must_use]
pub enum Response {
    /// Its outputs are in memory.
    Here(InferResponse),
    /// They come back from their shelf once this is polled, which is to be done when the response can be sent.
    Shelved(BoxFuture<'static, Result<InferResponse, Error>>),
}

impl Inference {
    /// Answers requests to the models of `registry`.
    pub fn new(registry: Arc<Registry>, tracer: Tracer) -> Self {
        Self {
            registry,
            tracer,
            shelf: None,
        }
    }

    /// Lets outputs wait for their readers on `shelf`, if there is one.
    #[must_use]
    pub fn shelving(mut self, shelf: Option<Arc<Shelf>>) -> Self {
        self.shelf = shelf;
        self
    }

    /// Makes a request of a message, unless that was refused.
    ///
    /// # Errors
    /// Why it was, or what is wrong with it.
    pub fn read(
        &self,
        mut message: ModelInferRequest,
        origin: &mut Origin,
    ) -> Result<InferRequest, Error> {
        let read = match origin.refused.take() {
            Some(refused) => Err(refused),
            None => InferRequest::take(&mut message).map_err(Error::from),
        };
        let (model, version) = (&message.model_name, &message.model_version);
        read.inspect_err(|_| self.count_refused(model, version, origin.arrived))
    }

    fn count_refused(&self, model: &str, version: &str, arrived: Instant) {
        if let Some(served) = self.registry.asked_for(model, version) {
            drop(Account::open(Arc::clone(&served.statistics), arrived));
        }
    }

    /// Queues a request. Requests run in the order of these calls.
    ///
    /// # Errors
    /// The model is not there, the request does not fit it, or its queue is full.
    pub fn begin(&self, request: InferRequest, origin: Origin) -> Result<Running, Error> {
        let (model, version) = (&request.model_name, &request.model_version);
        let found = self.registry.find_for_request(model, version);
        // A model that takes no requests now has failed them.
        let served = found.inspect_err(|_| self.count_refused(model, version, origin.arrived))?;
        let account = Account::open(Arc::clone(&served.statistics), origin.arrived);
        let rows = served
            .settings
            .signature
            .check(&request, &request.model_name)?;
        let deadline = deadline(served, &request, origin.deadline)?;
        let queue_until =
            queue_timeout(served).and_then(|patience| Instant::now().checked_add(patience));
        let sequence = request.sequence()?;
        let echo_timings = request.flag("forebay_timings")?;
        // Asks for an answer of its own that there are no more. Ours say so themselves, so that it need only be a flag.
        request.flag("triton_enable_empty_final_response")?;
        let mut permit = origin.permit;
        if let Some(permit) = &mut permit {
            // Typed contents have become more bytes than their message had, and are decoded by now.
            permit.hold(request.input_bytes().max(origin.message_bytes));
        }
        let span = self
            .tracer
            .begin_request(&origin.parent, origin.arrived, || {
                [
                    KeyValue::new("model", served.name.clone()),
                    KeyValue::new("version", signed(served.version)),
                    KeyValue::new("id", request.id.clone()),
                    KeyValue::new("bytes", signed(request.input_bytes())),
                ]
            });
        let (reply, answer) = Reply::channel();
        let mut inputs = request.inputs;
        if let Some(pool) = &served.align_in {
            inputs = inputs
                .into_iter()
                .map(|input| tensor::aligned(input, pool))
                .collect();
        }
        let job = Job {
            model: request.model_name,
            inputs: for_model(inputs, &served.settings.signature)?,
            rows,
            deadline,
            queue_until,
            sequence,
            life: None,
            permit,
            timings: Timings::new(origin.arrived),
            reply: reply
                .holding(served.lease())
                .picking(request.outputs)
                .shelving(self.shelf.clone()),
        };
        let pending = served
            .scheduler
            .submit(job, answer)
            .inspect_err(|error| span.fail(error))?;
        Ok(Running {
            pending,
            deadline,
            queue_until,
            served: Arc::clone(served),
            account,
            span,
            id: request.id,
            echo_timings,
        })
    }
}

impl Running {
    /// Waits for the answer, up to the deadline. Its outputs may then leave memory until they are
    /// collected.
    ///
    /// # Errors
    /// The deadline passed, or the model or its device failed.
    pub async fn answered(mut self) -> Result<Answered, Error> {
        let answer = match (self.deadline, self.queue_until) {
            (None, None) => (&mut self.pending).await,
            // Timers are large, and the others need not carry them.
            (deadline, queue_until) => {
                Box::pin(wait(&mut self.pending, deadline, queue_until)).await
            }
        };
        let Self {
            pending,
            served,
            mut account,
            span,
            id,
            echo_timings,
            ..
        } = self;
        // Takes the job out of the queue, and frees its memory, where the deadline passed.
        drop(pending);
        let answer = answer.inspect_err(|error| span.fail(error))?;
        account.answered(answer.timings, answer.at);
        span.record_stages(&answer.timings);
        Ok(Answered {
            answer,
            served,
            account,
            span,
            id,
            echo_timings,
        })
    }
}

impl Answered {
    /// Returns whether its outputs keep the memory of others' as long as they are held.
    pub fn shares_memory(&self) -> bool {
        self.answer.shares_memory
    }

    /// Returns the response, or what makes it where its outputs wait on a shelf.
    pub fn response(mut self) -> Response {
        match self.answer.claim.take() {
            None => Response::Here(self.made()),
            Some(claim) => Response::Shelved(Box::pin(self.redeem(claim))),
        }
    }

    async fn redeem(mut self, claim: Claim) -> Result<InferResponse, Error> {
        match claim.redeem().await {
            Ok(outputs) => {
                self.answer.outputs = outputs;
                Ok(self.made())
            }
            Err(error) => {
                let error = Error::Spill(error);
                self.span.fail(&error);
                self.account.lost();
                Err(error)
            }
        }
    }

    fn made(self) -> InferResponse {
        InferResponse {
            model_name: self.served.name.clone(),
            model_version: self.served.version.to_string(),
            id: self.id,
            parameters: if self.echo_timings {
                timing_parameters(&self.answer.timings)
            } else {
                Parameters::new()
            },
            outputs: self.answer.outputs,
        }
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(response) => f.debug_tuple("Here").field(response).finish(),
            Self::Shelved(_) => f.debug_tuple("Shelved").finish_non_exhaustive(),
        }
    }
}

impl Response {
    /// Returns it, once its outputs are in memory.
    ///
    /// # Errors
    /// The outputs were on disk and are lost.
    pub async fn collect(self) -> Result<InferResponse, Error> {
        match self {
            Self::Here(response) => Ok(response),
            Self::Shelved(collecting) => collecting.await,
        }
    }
}

/// Puts the inputs, which fit the signature, in its order and in the shapes that the model sees.
fn for_model(inputs: Vec<Tensor>, signature: &Signature) -> Result<Vec<Option<Tensor>>, Error> {
    let mut inputs = in_order(inputs, signature);
    signature.reshape(&mut inputs)?;
    Ok(inputs)
}

/// Puts the inputs in the order of the signature.
fn in_order(inputs: Vec<Tensor>, signature: &Signature) -> Vec<Option<Tensor>> {
    if let [one] = &signature.inputs[..]
        && !one.optional
    {
        return inputs.into_iter().map(Some).collect();
    }
    let mut by_name: HashMap<String, Tensor> = inputs
        .into_iter()
        .map(|tensor| (tensor.name().to_owned(), tensor))
        .collect();
    signature
        .inputs
        .iter()
        .map(|spec| by_name.remove(&spec.name))
        .collect()
}

/// Attributes of spans know no other integers.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn timing_parameters(timings: &Timings) -> Parameters {
    let nanos = |duration: Duration| {
        Parameter::Int64(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
    };
    let admission = timings.queued.saturating_duration_since(timings.arrived);
    let mut parameters = Parameters::from([
        ("forebay_admit_ns".to_owned(), nanos(admission)),
        ("forebay_queue_ns".to_owned(), nanos(timings.queue())),
        ("forebay_residency_ns".to_owned(), nanos(timings.residency)),
    ]);
    let mut tell = |name: &str, duration| parameters.insert(name.to_owned(), nanos(duration));
    if let Some(parking) = &timings.parked {
        tell("forebay_parked_ns", parking.parked());
        tell("forebay_onboard_ns", parking.onboard());
    }
    if let Some(stages) = &timings.stages {
        tell("forebay_h2d_ns", stages.h2d);
        tell("forebay_compute_ns", stages.compute);
        tell("forebay_d2h_ns", stages.d2h);
    }
    parameters
}
