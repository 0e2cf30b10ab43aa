use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, StreamBody};
use proptest::prelude::*;
use tokio::time::Instant;
use tonic::Code;

use super::*;

type Source = Result<Frame<Bytes>, Infallible>;

/// A body that yields `pieces` and then stays silent.
fn open_body(
    pieces: Vec<Bytes>,
) -> impl Body<Data = Bytes, Error = Infallible> + Send + Unpin + use<> {
    let pieces = pieces.into_iter().map(|piece| Ok(Frame::data(piece)));
    StreamBody::new(stream::iter(pieces).chain(stream::pending::<Source>()))
}

fn gate(budget: &Budget) -> Gate {
    Gate {
        budget: budget.clone(),
        pool: Pool::new(0),
        max_message_bytes: 1 << 20,
        progress_timeout: Duration::from_secs(1),
        unary_wait: Duration::from_millis(50),
    }
}

fn framed(length: usize) -> Vec<u8> {
    let prefix = u32::try_from(length).unwrap().to_be_bytes();
    [&[0][..], &prefix, &vec![1; length]].concat()
}

/// Reads what is handed on of a message to infer, and takes it from where it was gathered.
async fn gathered<B>(body: &mut AdmissionBody<B>, permits: &MessagePermits) -> Admitted
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<tonic::codegen::StdError>,
{
    let shown = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(shown[..], [0; 5], "tonic sees an empty message");
    permits.take().unwrap()
}

/// Reads the prefix of another message, and the frame behind it.
async fn message<B>(body: &mut AdmissionBody<B>) -> Vec<u8>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<tonic::codegen::StdError>,
{
    let mut bytes = Vec::new();
    for _ in 0..2 {
        bytes.extend(body.frame().await.unwrap().unwrap().into_data().unwrap());
        assert!(bytes.len() >= 5, "a prefix in one piece is handed on so");
    }
    bytes
}

#[tokio::test]
async fn the_end_of_a_message_does_not_wait_for_the_next_ones_permit() {
    let budget = Budget::new("test", 100);
    let permits = MessagePermits::default();
    let data = Bytes::from([framed(100), framed(50)].concat());
    let mut body = AdmissionBody::new(
        open_body(vec![data]),
        gate(&budget),
        Policy::Wait,
        permits.clone(),
    );

    let first = gathered(&mut body, &permits).await;
    assert!(body.frame().now_or_never().is_none());
    assert_eq!((budget.used(), budget.waiting()), (100, 1));
    drop(first);
    let second = gathered(&mut body, &permits).await;
    assert_eq!(second.permit.bytes(), 50);
}

#[tokio::test]
async fn a_dropped_body_gives_back_what_its_unfinished_message_held() {
    let budget = Budget::new("test", 100);
    let permits = MessagePermits::default();
    let half = Bytes::copy_from_slice(&framed(60)[..30]);
    let mut body = AdmissionBody::new(
        open_body(vec![half]),
        gate(&budget),
        Policy::WaitForRoom,
        permits.clone(),
    );
    assert!(body.frame().now_or_never().is_none());
    assert_eq!(budget.used(), 60);
    drop(body);
    assert_eq!(budget.used(), 0);
    assert!(permits.take().is_none());
}

#[tokio::test]
async fn small_control_messages_need_no_permit_and_large_ones_do() {
    let budget = Budget::new("test", 5000);
    let held = budget.charge(5000);
    let small = Bytes::from(framed(4096));
    let large = Bytes::from(framed(4097));
    let mut body = AdmissionBody::new(
        open_body(vec![small, large]),
        gate(&budget),
        Policy::Control,
        MessagePermits::default(),
    );
    message(&mut body).await;
    assert_eq!(budget.used(), held.bytes());
    let status = body.frame().await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(budget.refused().memory, 1);
    assert!(body.is_end_stream() && body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn empty_frames_do_not_count_as_progress() {
    let budget = Budget::new("test", 100);
    let beginning = stream::iter([Ok(Frame::data(Bytes::copy_from_slice(&framed(60)[..30])))]);
    let empty = stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        Some((Source::Ok(Frame::data(Bytes::new())), ()))
    });
    let inner = StreamBody::new(Box::pin(beginning.chain(empty)));
    let mut body = AdmissionBody::new(
        inner,
        gate(&budget),
        Policy::Wait,
        MessagePermits::default(),
    );
    let status = body.frame().await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!((budget.used(), budget.refused().progress), (0, 1));
}

/// A budget of 100 bytes that are taken, while somebody can make `room`.
fn full(room: u64) -> (Budget, Permit) {
    let budget = Budget::new("test", 100);
    budget.watch(75, 50, Arc::default());
    budget.makes_room(room);
    let held = budget.charge(100);
    (budget, held)
}

fn unary(
    budget: &Budget,
    length: usize,
) -> AdmissionBody<impl Body<Data = Bytes, Error = Infallible> + use<>> {
    let frame = Frame::data(Bytes::from(framed(length)));
    let inner = StreamBody::new(stream::iter([Ok::<_, Infallible>(frame)]));
    AdmissionBody::new(
        inner,
        gate(budget),
        Policy::WaitForRoom,
        MessagePermits::default(),
    )
}

#[tokio::test(start_paused = true)]
async fn a_unary_message_waits_a_moment_while_room_is_made() {
    let (budget, held) = full(1000);
    let (mut first, mut second) = (unary(&budget, 60), unary(&budget, 40));
    assert!(first.frame().now_or_never().is_none());
    assert!(second.frame().now_or_never().is_none());
    assert_eq!(budget.waiting(), 2);
    drop(held);
    for body in [&mut first, &mut second] {
        assert!(body.frame().await.unwrap().unwrap().is_data());
        assert!(body.frame().await.is_none());
    }
    assert_eq!(budget.used(), 100);
}

#[tokio::test]
async fn the_last_piece_of_a_unary_message_comes_once_the_call_has_ended() {
    let budget = Budget::new("test", 1 << 20);
    for length in [0, 10, 100_000] {
        let bytes = Bytes::from(framed(length));
        let trailers = Frame::trailers(http::HeaderMap::new());
        let (end, ended) = tokio::sync::oneshot::channel();
        let first = stream::iter([Ok::<_, Infallible>(Frame::data(bytes))]);
        let behind = stream::once(async move {
            ended.await.unwrap();
            Ok(trailers)
        });
        let source = StreamBody::new(Box::pin(first.chain(behind)));
        let permits = MessagePermits::default();
        let policy = Policy::WaitForRoom;
        let mut body = AdmissionBody::new(source, gate(&budget), policy, permits.clone());
        let mut frames = Vec::new();
        while let Some(frame) = body.frame().now_or_never() {
            frames.push(frame.unwrap().unwrap().into_data().unwrap());
        }
        assert!(frames.concat().len() <= 5 && !body.is_end_stream());
        assert_eq!(permits.take().unwrap().bytes, length as u64);
        end.send(()).unwrap();
        let last = body.frame().await.unwrap().unwrap();
        assert!(last.is_data() && !body.is_end_stream());
        assert!(body.frame().await.unwrap().unwrap().is_trailers());
        assert!(body.frame().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_unary_message_is_refused_when_no_room_was_made_in_time() {
    let (budget, held) = full(1000);
    let mut body = unary(&budget, 60);
    let began = Instant::now();
    let status = body.frame().await.unwrap().unwrap_err();
    assert_eq!(
        (status.code(), began.elapsed()),
        (Code::ResourceExhausted, Duration::from_millis(50))
    );
    assert_eq!((budget.used(), budget.waiting()), (held.bytes(), 0));
    assert_eq!(budget.refused().memory, 1);
}

#[tokio::test(start_paused = true)]
async fn a_unary_message_is_refused_at_once_where_no_room_is_made_or_the_line_is_long() {
    let (budget, _held) = full(0);
    let is_refused = |length| {
        let frame = unary(&budget, length).frame().now_or_never();
        let refused = frame.map(|frame| frame.unwrap().unwrap_err());
        refused.is_some_and(|status| status.code() == Code::ResourceExhausted)
    };
    assert!(is_refused(1));
    budget.makes_room(70);
    let mut waits = unary(&budget, 60);
    assert!(waits.frame().now_or_never().is_none());
    assert!(
        !is_refused(10) && is_refused(11),
        "the disk has no more room"
    );
    budget.makes_room(1000);
    assert!(
        !is_refused(40) && is_refused(41),
        "no more than the budget waits"
    );
}

#[test]
fn only_the_two_inference_methods_have_no_free_messages() {
    let of = |method| Policy::of(&format!("/inference.GRPCInferenceService/{method}"));
    assert_eq!(of("ModelStreamInfer"), Policy::Wait);
    assert_eq!(of("ModelInfer"), Policy::WaitForRoom);
    assert_eq!(of("ServerLive"), Policy::Control);
    assert_eq!(Policy::of("/grpc.health.v1.Health/Check"), Policy::Control);
}

/// Cuts what encodes messages of `lengths` into pieces as long as the `cuts` say, in turn.
fn cut(lengths: &[usize], cuts: &[usize]) -> Vec<Bytes> {
    let mut rest: Bytes = lengths.iter().flat_map(|&length| framed(length)).collect();
    let mut cuts = cuts.iter().cycle();
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        pieces.push(rest.split_to(rest.len().min(*cuts.next().unwrap())));
    }
    pieces
}

proptest! {
    #[test]
    fn every_message_comes_through_however_it_is_cut(
        lengths in prop::collection::vec(0usize..30, 0..8),
        cuts in prop::collection::vec(0usize..20, 1..20),
    ) {
        prop_assume!(cuts.iter().any(|&cut| cut > 0));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _entered = runtime.enter();
        let budget = Budget::new("test", 1000);
        let permits = MessagePermits::default();
        let body = |policy| {
            let pieces = open_body(cut(&lengths, &cuts));
            AdmissionBody::new(pieces, gate(&budget), policy, permits.clone())
        };

        let mut inferring = body(Policy::Wait);
        for &length in &lengths {
            let admitted = gathered(&mut inferring, &permits).now_or_never().expect("there is more");
            prop_assert_eq!(admitted.permit.bytes(), length as u64);
            prop_assert_eq!(&admitted.message.unwrap_or_default()[..], &framed(length)[5..]);
            prop_assert!(permits.take().is_none());
        }

        let mut others = body(Policy::Control);
        for &length in &lengths {
            let mut received = Vec::new();
            while received.len() < 5 + length {
                let frame = others.frame().now_or_never().expect("there is more").unwrap().unwrap();
                received.extend(frame.into_data().unwrap());
            }
            prop_assert_eq!(received, framed(length), "no frame reaches beyond its message");
        }
        prop_assert_eq!(budget.used(), 0);
    }
}

#[test]
fn an_empty_message_ends_a_body_well() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    for policy in [Policy::Wait, Policy::WaitForRoom, Policy::Control] {
        let budget = Budget::new("test", 1000);
        let permits = MessagePermits::default();
        let inner = http_body_util::Full::new(Bytes::from(framed(0)));
        let mut body = AdmissionBody::new(inner, gate(&budget), policy, permits.clone());
        let frame = body.frame().now_or_never().expect("it is there").unwrap();
        assert_eq!(frame.unwrap().into_data().unwrap().len(), 5);
        let is_admitted = permits.take().is_some();
        assert_eq!(is_admitted, policy != Policy::Control);
        let end = body.frame().now_or_never().expect("it is over");
        assert!(end.is_none(), "{policy:?}: {end:?}");
    }
}

#[tokio::test]
async fn a_message_to_infer_goes_past_tonic_with_its_permit() {
    let budget = Budget::new("test", 1 << 20);
    let length = 100_000;
    let message: Vec<u8> = (0..length).map(|n: u32| n.to_le_bytes()[0]).collect();
    let prefix = [&[0][..], &length.to_be_bytes()].concat();
    let bytes = Bytes::from([&prefix, &message, &framed(3)[..]].concat());
    // Cut in the prefix, behind it, and within the message.
    for cuts in [vec![], vec![3], vec![5], vec![5, 6, 70_000]] {
        let permits = MessagePermits::default();
        let mut pieces = Vec::new();
        let mut rest = bytes.clone();
        for cut in cuts.into_iter().rev() {
            pieces.push(rest.split_off(cut));
        }
        pieces.push(rest);
        pieces.reverse();
        let source = open_body(pieces);
        let mut body = AdmissionBody::new(source, gate(&budget), Policy::Wait, permits.clone());
        let admitted = gathered(&mut body, &permits).await;
        assert_eq!(admitted.permit.bytes(), u64::from(length));
        assert_eq!(admitted.message.unwrap(), message);
        let next = gathered(&mut body, &permits).await;
        assert_eq!(next.message.unwrap()[..], framed(3)[5..]);
    }
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn a_large_message_that_ends_early_leaves_nothing_behind() {
    let budget = Budget::new("test", 1 << 20);
    let pool = Pool::new(0);
    let half = Bytes::copy_from_slice(&framed(100_000)[..70_000]);
    let gate = Gate {
        pool: pool.clone(),
        ..gate(&budget)
    };
    let source = StreamBody::new(stream::iter([Source::Ok(Frame::data(half))]));
    let permits = MessagePermits::default();
    let mut body = AdmissionBody::new(source, gate, Policy::WaitForRoom, permits.clone());
    let status = body.frame().await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!((budget.used(), pool.usage().leased_bytes), (0, 0));
    assert!(permits.take().is_none() && body.frame().await.is_none());
}

#[tokio::test]
async fn a_unary_call_takes_one_message() {
    let budget = Budget::new("test", 1 << 20);
    for second in [0, 3, 100_000] {
        let permits = MessagePermits::default();
        let bytes = Bytes::from([framed(10), framed(second)].concat());
        let source = open_body(vec![bytes]);
        let policy = Policy::WaitForRoom;
        let mut body = AdmissionBody::new(source, gate(&budget), policy, permits.clone());
        let status = body.frame().await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{status}");
        assert!(permits.take().is_some() && permits.take().is_none());
        assert_eq!(budget.used(), 0);
    }
}

#[tokio::test]
async fn a_control_stream_holds_no_more_than_one_message() {
    let budget = Budget::new("test", 100_000);
    let permits = MessagePermits::default();
    let bytes = Bytes::from(framed(60_000).repeat(3));
    let source = open_body(vec![bytes]);
    let mut body = AdmissionBody::new(source, gate(&budget), Policy::Control, permits.clone());
    for _ in 0..3 {
        assert_eq!(message(&mut body).await, framed(60_000));
        assert_eq!(budget.used(), 60_000);
    }
    drop(body);
    assert_eq!(budget.used(), 0);
    assert!(permits.take().is_none());
}
