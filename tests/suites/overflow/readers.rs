//! Clients that do not read their answers, with a disk for what waits for them.
//!
//! All answers of a stream are there before the first can be sent, and that fills the window of a stream
//! that is not read: so all but one of its answers wait in the server.

use bytes::Bytes;
use forebay_client::{Client, Request, StreamOptions, tensor};
use forebay_proto::{
    InferRequest, StreamReply,
    inference::{ModelInferRequest, ModelStreamInferResponse},
};
use forebay_tests::harness::{Process, RawCall, RawClient, TestRepository, echo, framed, within};

use super::{disk, stop, written};

const MODEL: &str = "echo";
/// One that takes its time.
const LATE: &str = "late";
const BUDGET: usize = 8 << 20;
/// Streams that are not read.
const STREAMS: usize = 16;
/// Requests of a stream, and of a batch.
const REQUESTS: usize = 4;
const LEN: usize = 256 << 10;
/// What waits in the server for those who do not read.
const UNREAD: usize = STREAMS * (REQUESTS - 1) * LEN;

/// A stream and its connection.
type Unread = (RawClient, RawCall);

/// How the requests of a stream run.
#[derive(Clone, Copy, PartialEq)]
enum Passes {
    /// All in one: their outputs share memory.
    One,
    /// Each in its own, the first of them, which is answered first, as the last.
    Each,
}

async fn serve(passes: Passes, spill: &str) -> Process {
    let batches = |delay: &str| {
        format!(
            "max_batch_size: {REQUESTS} \
             dynamic_batching {{ max_queue_delay_microseconds: {delay} }}"
        )
    };
    let models = match passes {
        Passes::One => vec![(MODEL, batches("60000000"))],
        Passes::Each => vec![
            (MODEL, "max_batch_size: 1".to_owned()),
            (LATE, batches("500000")),
        ],
    };
    let mut repository = TestRepository::default();
    for (name, batching) in models {
        repository = repository.with_model(name, &echo(name, "TYPE_UINT8", &batching), None);
    }
    let toml = format!(
        "[admission]\nhost_bytes = {BUDGET}\nmax_message_bytes = \"1 MiB\"\n\
         [spill]\n{spill}\n[transport]\nstream_window = \"1 MiB\"\n"
    );
    Process::start(repository, &toml).await
}

/// What a request says and its answer says back.
fn content(stream: usize, nth: usize) -> Vec<u8> {
    let byte = |place: usize| u8::try_from((place * 7 + stream * 89 + nth * 31) % 251).unwrap();
    (0..LEN).map(byte).collect()
}

fn shape() -> [i64; 2] {
    [1, i64::try_from(LEN).unwrap()]
}

fn message(passes: Passes, stream: usize, nth: usize) -> Bytes {
    let is_late = passes == Passes::Each && nth == 0;
    let request = InferRequest {
        model_name: if is_late { LATE } else { MODEL }.to_owned(),
        inputs: vec![tensor::from_slice("x", &content(stream, nth), shape()).unwrap()],
        ..InferRequest::default()
    };
    framed(&ModelInferRequest::from(request)).into()
}

/// Sends all requests of the streams, one stream after the other, and waits for them to have run. Reads
/// nothing.
async fn fill(server: &Process, passes: Passes) -> Vec<Unread> {
    let count = match passes {
        Passes::One => 1,
        Passes::Each => REQUESTS as u64,
    };
    let client = server.client().await;
    let address = server.endpoint()["http://".len()..].parse().unwrap();
    let mut unread = Vec::new();
    for stream in 0..STREAMS {
        let before = executions(&client).await;
        let mut connection = RawClient::connect(address).await;
        let mut call = connection.call("ModelStreamInfer", &[]);
        for nth in 0..REQUESTS {
            call.send(message(passes, stream, nth), nth + 1 == REQUESTS);
        }
        within(async { while executions(&client).await < before + count {} }).await;
        unread.push((connection, call));
    }
    unread
}

async fn executions(client: &Client) -> u64 {
    let models = client.model_statistics("").await.unwrap();
    models.iter().map(|model| model.execution_count).sum()
}

/// Asks as one who reads.
async fn assert_answered(client: &Client) {
    let session = client.stream(StreamOptions::default()).await.unwrap();
    let mut tickets = Vec::new();
    for nth in 0..REQUESTS {
        let own = content(STREAMS, nth);
        let input = tensor::from_slice("x", &own, shape()).unwrap();
        let ticket = session.submit(Request::new(MODEL).with_input(input));
        tickets.push((ticket.await.unwrap(), own));
    }
    for (ticket, own) in tickets {
        let reply = within(ticket).await.unwrap();
        assert!(tensor::to_vec::<u8>(reply.output("y").unwrap()).unwrap() == own);
    }
}

async fn assert_right(call: &mut RawCall, stream: usize) {
    for nth in 0..REQUESTS {
        let reply: ModelStreamInferResponse = call.message().await.unwrap();
        match StreamReply::try_from(reply).unwrap() {
            StreamReply::Answer(answer) => {
                assert!(answer.outputs[0].data()[..] == content(stream, nth));
            }
            failure @ StreamReply::Failure { .. } => panic!("{failure:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_reads_leave_memory_to_others() {
    assert_unread_leave_memory(Passes::One).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_whose_own_memory_is_sent_leave_it_too_while_they_wait() {
    assert_unread_leave_memory(Passes::Each).await;
}

async fn assert_unread_leave_memory(passes: Passes) {
    let (_folder, spill) = disk("capacity = \"1 GiB\"");
    let server = serve(passes, &spill).await;
    let mut unread = fill(&server, passes).await;
    assert_answered(&server.client().await).await;
    // HTTP/2 may take one more of each stream where they come one by one.
    let least = match passes {
        Passes::One => (UNREAD - BUDGET) as u64,
        Passes::Each => 0,
    };
    assert!(written(&server) > least, "{}", written(&server));
    for (stream, (_connection, call)) in unread.iter_mut().enumerate() {
        assert_right(call, stream).await;
    }
    drop(unread);
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_on_disk_are_read_while_the_server_ends() {
    let (_folder, spill) = disk("capacity = \"1 GiB\"");
    let mut server = serve(Passes::One, &spill).await;
    let mut unread = fill(&server, Passes::One).await;
    server.sigterm().await;
    for (stream, (_connection, call)) in unread.iter_mut().enumerate() {
        assert_right(call, stream).await;
        assert_eq!(call.ended().await.code(), tonic::Code::Ok);
    }
    drop(unread);
    assert!(server.wait().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_frees_what_waited_for_it() {
    // Memory and disk hold what waits in one round, and not in two.
    let (_folder, spill) = disk("capacity = \"10 MiB\"");
    let server = serve(Passes::One, &spill).await;
    for _round in 0..2 {
        for (connection, call) in fill(&server, Passes::One).await {
            call.reset();
            connection.cut();
        }
    }
    assert_answered(&server.client().await).await;
    stop(server).await;
}
