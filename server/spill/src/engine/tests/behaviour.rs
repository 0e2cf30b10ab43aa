//! Transfers, alarms and idling.

use rustix::time::{ClockId, clock_gettime};

use super::*;

on_every_engine!(
    many_operations_keep_their_data_apart,
    a_transfer_goes_on_behind_what_is_skipped,
    a_wait_returns_all_that_was_pushed_at_once_or_later,
    an_alarm_ends_a_wait,
    an_alarm_before_the_wait_ends_it_at_once,
    an_alarm_ends_one_wait_only,
    an_alarm_comes_through_while_operations_run,
    a_timeout_ends_a_wait,
    an_idle_engine_uses_no_cpu,
    an_engine_is_built_here_and_driven_there,
    memory_comes_back_when_the_engine_goes_with_operations_in_flight,
);

fn many_operations_keep_their_data_apart(kind: Kind) {
    const COUNT: u64 = 256;
    let bytes = 4 * ALIGNMENT;
    let mut rig = kind.rig(COUNT * bytes as u64);
    let fill = |id: u64| (id % 251).to_le_bytes()[0] + 1;
    for direction in [Direction::Write, Direction::Read] {
        for batch in (0..COUNT).collect::<Vec<_>>().chunks(DEPTH) {
            for &id in batch {
                let content = match direction {
                    Direction::Write => fill(id),
                    Direction::Read => 0,
                };
                let offset = (COUNT - 1 - id) * bytes as u64;
                let op = rig.op(id, direction, offset, rig.piece(bytes, content));
                rig.engine.push(op);
            }
            let done = rig.collect(batch.len());
            for &id in batch {
                let one = &done[&id];
                assert_eq!(*one.result.as_ref().expect("the disk works"), bytes);
                assert!(one.op.memory.iter().all(|byte| *byte == fill(id)), "{id}");
            }
        }
    }
}

fn a_transfer_goes_on_behind_what_is_skipped(kind: Kind) {
    let mut rig = kind.rig(1 << 20);
    let all = rig.piece(2 * ALIGNMENT, 1);
    assert_eq!(
        rig.transfer(Direction::Write, 0, all).result.ok(),
        Some(8192)
    );
    let mut op = rig.op(1, Direction::Write, 0, rig.piece(2 * ALIGNMENT, 2));
    op.skip = ALIGNMENT;
    rig.engine.push(op);
    assert_eq!(rig.in_order(1).remove(0).result.ok(), Some(ALIGNMENT));
    let read = rig.transfer(Direction::Read, 0, rig.piece(2 * ALIGNMENT, 0));
    let (skipped, written) = read.op.memory.split_at(ALIGNMENT);
    assert!(skipped.iter().all(|byte| *byte == 1));
    assert!(written.iter().all(|byte| *byte == 2));
}

fn a_wait_returns_all_that_was_pushed_at_once_or_later(kind: Kind) {
    let mut rig = kind.rig(1 << 20);
    for id in 0..DEPTH as u64 {
        let op = rig.op(id, Direction::Write, id * 4096, rig.piece(ALIGNMENT, 3));
        rig.engine.push(op);
    }
    assert_eq!(rig.collect(DEPTH).len(), DEPTH, "each came back once");
    let mut more = Vec::new();
    rig.engine.wait(Some(Duration::ZERO), &mut more);
    assert!(more.is_empty());
}

fn an_alarm_ends_a_wait(kind: Kind) {
    let mut rig = kind.rig(4096);
    let alarm = rig.engine.alarm();
    let begin = Instant::now();
    thread::scope(|scope| {
        scope.spawn(move || alarm.ring());
        rig.engine.wait(Some(PATIENCE), &mut Vec::new());
    });
    assert!(begin.elapsed() < PATIENCE);
}

fn an_alarm_before_the_wait_ends_it_at_once(kind: Kind) {
    let mut rig = kind.rig(4096);
    rig.engine.alarm().ring();
    let begin = Instant::now();
    rig.engine.wait(Some(PATIENCE), &mut Vec::new());
    assert!(begin.elapsed() < PATIENCE);
}

fn an_alarm_ends_one_wait_only(kind: Kind) {
    let mut rig = kind.rig(4096);
    let alarm = rig.engine.alarm();
    for _ in 0..3 {
        alarm.ring();
    }
    rig.engine.wait(Some(PATIENCE), &mut Vec::new());
    let (begin, pause) = (Instant::now(), Duration::from_millis(30));
    rig.engine.wait(Some(pause), &mut Vec::new());
    assert!(begin.elapsed() >= pause);
}

fn an_alarm_comes_through_while_operations_run(kind: Kind) {
    let mut rig = kind.rig(1 << 20);
    for round in 0..50 {
        rig.engine.alarm().ring();
        let done = rig.transfer(Direction::Write, 0, rig.piece(ALIGNMENT, round));
        assert_eq!(done.result.ok(), Some(ALIGNMENT));
        rig.engine.alarm().ring();
        let begin = Instant::now();
        rig.engine.wait(Some(PATIENCE), &mut Vec::new());
        assert!(begin.elapsed() < PATIENCE, "round {round}");
    }
}

fn a_timeout_ends_a_wait(kind: Kind) {
    let mut rig = kind.rig(4096);
    let (begin, pause) = (Instant::now(), Duration::from_millis(30));
    rig.engine.wait(Some(pause), &mut Vec::new());
    assert!(begin.elapsed() >= pause);
}

fn an_idle_engine_uses_no_cpu(kind: Kind) {
    let mut rig = kind.rig(1 << 20);
    rig.transfer(Direction::Write, 0, rig.piece(ALIGNMENT, 1));
    let spent = || {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Duration::try_from(time).expect("the time is positive")
    };
    let used = spent();
    rig.engine
        .wait(Some(Duration::from_millis(300)), &mut Vec::new());
    // A loop that spins would take all of it. Other tests in this process count too.
    let used = spent() - used;
    assert!(used < Duration::from_millis(100), "{used:?} of 300 ms");
}

fn an_engine_is_built_here_and_driven_there(kind: Kind) {
    let mut rig = kind.rig(1 << 20);
    let mut buffers = vec![rig.piece(ALIGNMENT, 9)];
    rig.engine.register(&mut buffers);
    let driven = thread::spawn(move || {
        let memory = buffers.remove(0);
        let done = rig.transfer(Direction::Write, 0, memory);
        let read = rig.transfer(Direction::Read, 0, rig.piece(ALIGNMENT, 0));
        let other = rig.raw.try_clone().expect("a file can be opened twice");
        let added = rig.engine.add_file(Arc::new(other)).is_ok();
        (done.result.ok(), read.op.memory[17], added)
    });
    let seen = driven.join().expect("it does not panic");
    assert_eq!(seen, (Some(ALIGNMENT), 9, true));
}

fn memory_comes_back_when_the_engine_goes_with_operations_in_flight(kind: Kind) {
    let mut rig = kind.rig(16 << 20);
    for id in 0..DEPTH as u64 {
        let op = rig.op(id, Direction::Write, id << 20, rig.piece(1 << 20, 4));
        rig.engine.push(op);
    }
    rig.engine.wait(Some(Duration::ZERO), &mut Vec::new());
    drop(rig.engine);
    assert_eq!(rig.pool.usage().leased_bytes, 0);
}
