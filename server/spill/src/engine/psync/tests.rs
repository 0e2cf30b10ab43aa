use std::sync::{
    Barrier, LazyLock,
    mpsc::{self, RecvTimeoutError},
};

use super::*;
use crate::memory::{ALIGNMENT, Pool};

/// A transfer begins at the first meeting and ends at the second.
static MEETING: LazyLock<Barrier> = LazyLock::new(|| Barrier::new(2));

fn meet_twice(_: &mut Op, _: &File) -> io::Result<usize> {
    MEETING.wait();
    MEETING.wait();
    Ok(0)
}

#[test]
fn an_engine_that_goes_waits_for_what_runs_and_drops_what_does_not() {
    let mut engine = Psync::with(1, meet_twice).expect("threads are there");
    engine.depth = 2;
    let file = tempfile::tempfile().expect("a file can be made");
    let file = engine.add_file(Arc::new(file)).expect("it has room");
    let pool = Pool::new(0);
    for id in 0..2 {
        engine.push(Op {
            id,
            direction: Direction::Read,
            file,
            offset: 0,
            memory: pool.lease(ALIGNMENT).into_pieces(ALIGNMENT).remove(0),
            skip: 0,
        });
    }
    let _alarm = engine.alarm();
    MEETING.wait();
    let (tell, told) = mpsc::sync_channel(1);
    let dropper = thread::spawn(move || {
        drop(engine);
        tell.send(()).expect("the test listens");
    });
    let early = told.recv_timeout(Duration::from_millis(100));
    assert_eq!(early, Err(RecvTimeoutError::Timeout));
    assert!(pool.usage().leased_bytes >= ALIGNMENT);
    MEETING.wait();
    dropper.join().expect("it does not panic");
    assert_eq!(pool.usage().leased_bytes, 0);
}
