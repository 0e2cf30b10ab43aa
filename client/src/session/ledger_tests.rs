use std::rc::Rc;

use forebay_proto::{InferRequest, inference::ModelInferResponse};

use super::*;

/// Counts as room: its strong count tells how many requests are open.
type Room = Rc<()>;
type Reply = oneshot::Receiver<Result<crate::Reply, InferError>>;

fn submission(id: &str, room: &Room) -> (Submission<Room>, Reply) {
    let (reply, receiver) = oneshot::channel();
    let message = ModelInferRequest {
        id: id.into(),
        ..Default::default()
    };
    let submission = Submission {
        message,
        reserved: Instant::now(),
        deadline: None,
        reply,
        room: Rc::clone(room),
    };
    (submission, receiver)
}

fn submit(ledger: &mut Ledger<Room>, id: &str, room: &Room) -> Reply {
    let (submission, receiver) = submission(id, room);
    if let Some(settled) = ledger.submit(submission) {
        settled.deliver();
    }
    receiver
}

fn send(ledger: &mut Ledger<Room>) -> String {
    match ledger.next(Instant::now()) {
        Next::Send(message) => message.id,
        Next::Expired(_) | Next::Wait | Next::End => panic!("nothing to send"),
    }
}

fn answer(ledger: &mut Ledger<Room>, id: &str) -> Result<(), InferError> {
    let response = ModelInferResponse {
        id: id.into(),
        ..Default::default()
    };
    let message = ModelStreamInferResponse {
        infer_response: Some(response),
        ..Default::default()
    };
    let now = Instant::now();
    ledger.settle(message, now, now).map(Settled::deliver)
}

#[test]
fn room_is_given_back_when_settled_and_not_before() {
    let (mut ledger, room) = (Ledger::new(), Room::default());
    let reply = submit(&mut ledger, "a", &room);
    drop(reply);
    assert_eq!(Rc::strong_count(&room), 2);
    let id = send(&mut ledger);
    assert_eq!(Rc::strong_count(&room), 2);
    answer(&mut ledger, &id).unwrap();
    assert_eq!(Rc::strong_count(&room), 1);
}

#[test]
fn ids_on_the_wire_differ_and_callers_get_theirs_back() {
    let (mut ledger, room) = (Ledger::new(), Room::default());
    let ids = ["fb-2", "", "fb-2", "", "fb-5", "x"];
    let mut replies = ids.map(|id| submit(&mut ledger, id, &room));
    let mut wire = ids.map(|_| send(&mut ledger));
    for (index, id) in wire.iter().enumerate().rev() {
        answer(&mut ledger, id).unwrap();
        let reply = replies[index].try_recv().unwrap().unwrap();
        assert_eq!(reply.id(), ids[index]);
    }
    assert!(wire.iter().all(|id| id.len() < WIRE_ID_BYTES));
    wire.sort();
    assert!(wire.windows(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn a_reply_before_its_request_was_sent_is_not_taken() {
    let (mut ledger, room) = (Ledger::new(), Room::default());
    let _reply = submit(&mut ledger, "a", &room);
    let error = answer(&mut ledger, "a").unwrap_err();
    assert!(matches!(error, InferError::UnexpectedReply { id } if id == "a"));
    assert_eq!(Rc::strong_count(&room), 2);
}

#[test]
fn each_request_is_answered_once() {
    let (mut ledger, room) = (Ledger::new(), Room::default());
    let _reply = submit(&mut ledger, "a", &room);
    send(&mut ledger);
    assert!(answer(&mut ledger, "a").is_ok());
    assert!(answer(&mut ledger, "a").is_err());
}

#[test]
fn the_first_end_stays_and_settles_everything() {
    let (mut ledger, room) = (Ledger::new(), Room::default());
    let mut sent = submit(&mut ledger, "a", &room);
    send(&mut ledger);
    let mut queued = submit(&mut ledger, "b", &room);
    ledger.close();
    let settled = ledger.end(Ok(()));
    settled.into_iter().for_each(Settled::deliver);
    assert!(ledger.end(Err(InferError::Stopped)).is_empty());
    let mut late = submit(&mut ledger, "c", &room);
    for reply in [&mut sent, &mut queued, &mut late] {
        let error = reply.try_recv().unwrap().unwrap_err();
        assert!(matches!(error, InferError::EndedEarly), "{error:?}");
    }
    assert_eq!(Rc::strong_count(&room), 1);
    assert!(matches!(ledger.next(Instant::now()), Next::End));
}

#[test]
fn what_is_queued_is_sent_before_a_close_ends_the_requests() {
    let (mut ledger, room) = (Ledger::new(), Room::default());
    let _reply = submit(&mut ledger, "a", &room);
    ledger.close();
    let mut late = submit(&mut ledger, "b", &room);
    assert!(matches!(late.try_recv().unwrap(), Err(InferError::Closed)));
    assert_eq!(send(&mut ledger), "a");
    assert!(matches!(ledger.next(Instant::now()), Next::End));
    answer(&mut ledger, "a").unwrap();
    assert!(ledger.end(Ok(())).is_empty());
    assert!(matches!(ledger.outcome(), Some(Ok(()))));
}

#[test]
fn what_a_lost_connection_did_not_carry_is_told_so() {
    let (mut ledger, room) = (Ledger::new(), Room::default());
    let mut sent = submit(&mut ledger, "a", &room);
    send(&mut ledger);
    let mut queued = submit(&mut ledger, "b", &room);
    let source: crate::error::Cause = Arc::new(std::io::Error::other("reset"));
    let settled = ledger.end(Err(InferError::ConnectionLost { source }));
    settled.into_iter().for_each(Settled::deliver);
    let mut late = submit(&mut ledger, "c", &room);
    let error = sent.try_recv().unwrap().unwrap_err();
    assert!(matches!(error, InferError::ConnectionLost { .. }));
    for reply in [&mut queued, &mut late] {
        let error = reply.try_recv().unwrap().unwrap_err();
        assert!(matches!(error, InferError::Unsent { .. }), "{error:?}");
    }
    assert!(matches!(ledger.refusal(), InferError::Unsent { .. }));
    let outcome = ledger.outcome();
    assert!(matches!(
        outcome,
        Some(Err(InferError::ConnectionLost { .. }))
    ));
    assert_eq!(Rc::strong_count(&room), 1);
}

/// Queues a request that may take a second from `start`.
fn submit_hurried(ledger: &mut Ledger<Room>, id: &str, room: &Room, start: Instant) -> Reply {
    let (mut submission, reply) = submission(id, room);
    let after = Duration::from_secs(1);
    let at = start + after;
    submission.deadline = Some(Deadline { at, after });
    assert!(ledger.submit(submission).is_none());
    reply
}

#[test]
fn what_is_sent_carries_the_time_that_is_left() {
    let (mut ledger, room) = (Ledger::new(), Room::default());
    let start = Instant::now();
    for nanos in [1, 1_000, 999_999_999] {
        let _reply = submit_hurried(&mut ledger, "", &room, start);
        let Next::Send(message) = ledger.next(start + Duration::from_nanos(nanos)) else {
            panic!("not sent");
        };
        let request = InferRequest::try_from(ModelInferRequest {
            model_name: "m".into(),
            ..message
        });
        let left = (1_000_000_000 - nanos).div_ceil(1000);
        let left = Some(Duration::from_micros(left));
        assert_eq!(request.unwrap().timeout(), Ok(left));
    }
}

#[test]
fn what_is_late_is_settled_and_not_sent_and_others_are() {
    let (mut ledger, room) = (Ledger::new(), Room::default());
    let start = Instant::now();
    let mut late = submit_hurried(&mut ledger, "late", &room, start);
    let _patient = submit(&mut ledger, "patient", &room);
    ledger.close();
    let now = start + Duration::from_secs(1);
    let Next::Expired(settled) = ledger.next(now) else {
        panic!("sent, or nothing to send");
    };
    settled.deliver();
    let error = late.try_recv().unwrap().unwrap_err();
    assert!(matches!(error, InferError::Expired { after } if after == Duration::from_secs(1)));
    assert_eq!(Rc::strong_count(&room), 2);
    assert!(matches!(ledger.next(now), Next::Send(message) if message.id == "patient"));
    assert!(answer(&mut ledger, "late").is_err());
    answer(&mut ledger, "patient").unwrap();
    assert!(matches!(ledger.next(now), Next::End));
    assert!(ledger.end(Ok(())).is_empty());
    assert!(matches!(ledger.outcome(), Some(Ok(()))));
}

#[test]
fn timings_are_those_of_the_request() {
    let (mut ledger, room) = (Ledger::new(), Room::default());
    let (submission, mut receiver) = submission("a", &room);
    let reserved = submission.reserved;
    assert!(ledger.submit(submission).is_none());
    let [sent, first_byte, done] = [1, 2, 3].map(|s| reserved + Duration::from_secs(s));
    assert!(matches!(ledger.next(sent), Next::Send(_)));
    let message = ModelStreamInferResponse {
        infer_response: Some(ModelInferResponse {
            id: "a".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    ledger.settle(message, first_byte, done).unwrap().deliver();
    let expected = Timings {
        reserved,
        sent,
        first_byte,
        done,
    };
    assert_eq!(receiver.try_recv().unwrap().unwrap().timings(), expected);
}
