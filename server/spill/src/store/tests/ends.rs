//! Threads that end otherwise than by the last handle.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Wake, Waker},
};

use super::*;
use crate::{
    engine::fault::{Fault, Gate, Until},
    error::Error,
    store::Class,
};

on_each_engine!(
    after_a_thread_has_panicked_every_call_says_closed,
    a_waker_may_drop_the_last_handle,
);

fn after_a_thread_has_panicked_every_call_says_closed(choice: Choice) {
    let rig = Rig::with(choice, 2, usize::MAX, |_| ());
    let written = rig.store.blocking().offload_and_wait(random(1, 5000));
    let written = written.unwrap();
    for control in &rig.controls {
        control.set(Box::new(|_| panic!("a test says so")));
    }
    let waiting = rig.store.offload(random(2, 5000)).unwrap();
    let error = block_on(waiting.settled()).unwrap_err();
    assert!(matches!(error, Error::Closed), "{error}");
    let error = block_on(waiting.settled()).unwrap_err();
    assert!(matches!(error, Error::Closed), "{error}");
    for parked in [&written, &waiting] {
        let error = rig.store.blocking().read(parked).unwrap_err();
        assert!(matches!(error, Error::Closed), "{error}");
    }
    for parked in [written, waiting] {
        let lost = block_on(rig.store.onboard(parked, Class::Demand)).unwrap_err();
        assert!(matches!(lost.error, Error::Closed) && lost.parked.is_none());
    }
    rig.store.blocking().synchronize();
    let refused = rig.store.offload(vec![1]).unwrap_err();
    assert!(matches!(refused.error, Error::Closed));
}

/// Drops a store where it is woken.
struct Dropping(Mutex<Option<Store>>);

impl Wake for Dropping {
    fn wake(self: Arc<Self>) {
        drop(self.0.lock().unwrap().take());
    }
}

fn a_waker_may_drop_the_last_handle(choice: Choice) {
    let rig = Rig::with(choice, 2, usize::MAX, |_| ());
    let Rig {
        store,
        controls,
        _dirs,
        ..
    } = rig;
    let [early, late] = [(); 2].map(|()| controls[0].gate());
    let held = |gate: &Gate| Fault::Hold(Until::Open(gate.clone()));
    controls[0].set(plan::script([held(&early), held(&late)]));
    let first = store.offload(random(1, 300_000)).unwrap();
    let _elsewhere = store.offload(random(2, 300_000)).unwrap();
    let last = store.offload(random(3, 300_000)).unwrap();
    eventually(|| controls[0].counts().held == 2);
    let waker = Waker::from(Arc::new(Dropping(Mutex::new(Some(store)))));
    let mut settled = pin!(first.settled());
    let poll = settled.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(poll.is_pending());
    drop(waker);
    early.open();
    late.open();
    let written = last.settled();
    let waiter = thread::spawn(move || block_on(written));
    eventually(|| waiter.is_finished());
    waiter.join().unwrap().unwrap();
}
