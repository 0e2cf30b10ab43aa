//! Many clients on slow networks: does the time of a run come near the larger of network and
//! compute, or near their sum?
//!
//! Each client has a connection of its own and sends its tensors on one stream, in pieces, at the
//! pace of its network, which does not wait for answers. The model takes a given time on the
//! simulated device.

use std::time::Duration;

use bytes::Bytes;
use forebay_client::tensor;
use forebay_proto::{
    InferRequest,
    inference::{ModelInferRequest, ModelStreamInferResponse},
};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep_until};
use tonic::Code;

use crate::harness::{RawClient, TestServer, framed};

const MODEL: &str = "echo";
/// Few enough for all answers of a client to fit into its window while it only sends.
const ELEMENTS: usize = 256;
/// DATA frames that a tensor comes in.
const PIECES: u32 = 5;

/// A run.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Clients that send at the same time.
    pub clients: usize,
    /// Tensors that each of them sends, one after the other.
    pub tensors: u32,
    /// What the network takes for one tensor.
    pub send: Duration,
    /// What the model takes for one batch.
    pub compute: Duration,
    /// Tensors in a batch, at most; 1 means that none are joined.
    pub batch: usize,
}

/// What a run took.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// What the networks take, all at the same time.
    pub io: Duration,
    /// What the model took, one batch after the other.
    pub compute: Duration,
    /// From the first byte sent to the last answer received.
    pub total: Duration,
    /// Batches.
    pub executions: u32,
}

impl Figures {
    /// Returns what the run would take if all of the shorter part hid behind the longer one.
    pub fn bound(&self) -> Duration {
        self.io.max(self.compute)
    }

    /// Returns how many times the bound the run took.
    pub fn over_bound(&self) -> f64 {
        self.total.div_duration_f64(self.bound())
    }
}

impl Load {
    /// Runs it against a server of its own.
    ///
    /// # Panics
    /// A request is not answered, or another number of batches ran than can be.
    pub async fn run(self) -> Figures {
        let server = TestServer::builder()
            .with_model(MODEL, &self.config(), None)
            .with_simulated(Duration::ZERO, self.compute, Duration::ZERO)
            .start()
            .await;
        let message = Bytes::from(framed(&request()));
        let mut clients = Vec::with_capacity(self.clients);
        for _ in 0..self.clients {
            clients.push(server.raw().await);
        }
        let begin = Instant::now();
        let clients = clients.into_iter().map(|client| {
            let message = message.clone();
            tokio::spawn(async move { self.send_slowly(client, &message, begin).await })
        });
        for client in join_all(clients).await {
            client.expect("each client has all its answers");
        }
        let total = begin.elapsed();
        let statistics = server.client().await.model_statistics(MODEL).await;
        let executions = statistics.expect("the server is well")[0].execution_count;
        server.stop().await;
        let executions = u32::try_from(executions).expect("no more than there are tensors");
        Figures {
            io: self.send * self.tensors,
            compute: self.compute * executions,
            total,
            executions,
        }
    }

    /// Sends every tensor at the network's pace, then takes the answers.
    async fn send_slowly(self, mut client: RawClient, message: &Bytes, begin: Instant) {
        let mut call = client.call("ModelStreamInfer", &[]);
        let size = message.len().div_ceil(PIECES as usize);
        let pieces = self.tensors * PIECES;
        for piece in 0..pieces {
            // A piece is there when the network has carried its last byte.
            sleep_until(begin + self.send * (piece + 1) / PIECES).await;
            let from = (piece % PIECES) as usize * size;
            let until = message.len().min(from + size);
            call.send(message.slice(from..until), piece + 1 == pieces);
        }
        for _ in 0..self.tensors {
            let reply: ModelStreamInferResponse = call.message().await.expect("an answer");
            assert_eq!(reply.error_message, "");
        }
        assert_eq!(call.ended().await.code(), Code::Ok);
    }

    fn config(&self) -> String {
        let scheduling = match self.batch {
            1 => "max_batch_size: 1".to_owned(),
            // Tensors wait for company as long as a batch takes: a device that begins a batch with
            // each tensor that comes is as busy as one without batches.
            batch => format!(
                "max_batch_size: {batch} \
                 dynamic_batching {{ max_queue_delay_microseconds: {} }}",
                self.compute.as_micros()
            ),
        };
        format!(
            r#"
            name: "{MODEL}" backend: "identity" {scheduling}
            input [ {{ name: "x" data_type: TYPE_FP32 dims: [ {ELEMENTS} ] }} ]
            output [ {{ name: "y" data_type: TYPE_FP32 dims: [ {ELEMENTS} ] }} ]
            "#
        )
    }
}

fn request() -> ModelInferRequest {
    let shape = [1, i64::try_from(ELEMENTS).unwrap_or(i64::MAX)];
    let input = tensor::from_slice("x", &[1.0f32; ELEMENTS], shape).expect("the shape fits");
    let request = InferRequest {
        model_name: MODEL.to_owned(),
        inputs: vec![input],
        ..InferRequest::default()
    };
    request.into()
}
