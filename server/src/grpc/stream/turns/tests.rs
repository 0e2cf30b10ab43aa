use std::task::Waker;

use tokio::sync::oneshot;

use super::*;

/// Pushes an answer that comes when it is sent.
fn answer(turns: &mut Turns<u8>) -> oneshot::Sender<u8> {
    let (sender, receiver) = oneshot::channel();
    turns.push(Box::pin(async { Turn::Here(receiver.await.unwrap()) }));
    sender
}

/// Pushes an answer that is there, with outputs that come back when it is sent.
fn shelved(turns: &mut Turns<u8>) -> oneshot::Sender<u8> {
    let (sender, receiver) = oneshot::channel();
    let collecting: Collecting<u8> = Box::pin(async { receiver.await.unwrap() });
    turns.push(Box::pin(async { Turn::Shelved(collecting) }));
    sender
}

fn poll(turns: &mut Turns<u8>) -> Poll<Option<u8>> {
    turns.poll_next(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn others_go_on_while_outputs_come_back() {
    for mut turns in [Turns::in_order(), Turns::as_finished()] {
        let _back = shelved(&mut turns);
        let (polled, mut was_polled) = oneshot::channel();
        turns.push(Box::pin(async {
            polled.send(()).unwrap();
            std::future::pending().await
        }));
        assert_eq!(poll(&mut turns), Poll::Pending);
        assert_eq!(was_polled.try_recv(), Ok(()));
    }
}

#[test]
fn in_order_they_wait_for_outputs_that_come_back() {
    let mut turns = Turns::in_order();
    let (first, second) = (shelved(&mut turns), answer(&mut turns));
    let third = shelved(&mut turns);
    second.send(2).unwrap();
    assert_eq!(poll(&mut turns), Poll::Pending);
    assert_eq!(turns.len(), 3);
    third.send(3).unwrap();
    first.send(1).unwrap();
    let all: Vec<_> = (0..4).map(|_| poll(&mut turns)).collect();
    assert_eq!(all, [Some(1), Some(2), Some(3), None].map(Poll::Ready));
    assert_eq!(turns.len(), 0);
}

#[test]
fn as_they_finish_those_in_memory_pass_outputs_that_come_back() {
    let mut turns = Turns::as_finished();
    let (first, second) = (shelved(&mut turns), answer(&mut turns));
    assert_eq!(poll(&mut turns), Poll::Pending);
    second.send(2).unwrap();
    assert_eq!(poll(&mut turns), Poll::Ready(Some(2)));
    assert_eq!(poll(&mut turns), Poll::Pending);
    first.send(1).unwrap();
    assert_eq!(poll(&mut turns), Poll::Ready(Some(1)));
    assert_eq!(poll(&mut turns), Poll::Ready(None));
}

#[test]
fn outputs_come_back_one_answer_at_a_time() {
    for mut turns in [Turns::in_order(), Turns::as_finished()] {
        let back = [shelved(&mut turns), shelved(&mut turns)];
        let (asked, mut was_asked) = oneshot::channel();
        turns.push(Box::pin(async {
            Turn::Shelved(Box::pin(async {
                asked.send(()).unwrap();
                3_u8
            }) as Collecting<u8>)
        }));
        assert_eq!(poll(&mut turns), Poll::Pending);
        for (nth, back) in (1..).zip(back) {
            assert!(was_asked.try_recv().is_err());
            back.send(nth).unwrap();
            assert_eq!(poll(&mut turns), Poll::Ready(Some(nth)));
        }
        assert_eq!(poll(&mut turns), Poll::Ready(Some(3)));
    }
}
