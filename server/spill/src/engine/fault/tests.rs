use super::*;
use crate::{
    engine::tests::{DEPTH, Kind, PATIENCE, Rig, on_every_engine},
    memory::ALIGNMENT,
};

on_every_engine!(
    an_error_moves_nothing,
    a_short_write_leaves_the_rest_out_and_the_memory_as_it_was,
    a_short_read_leaves_the_rest_out,
    a_bit_changes_on_its_way_to_the_disk_or_from_it,
    a_completion_waits_for_so_many_others,
    a_completion_does_not_wait_for_others_that_never_come,
    a_gate_holds_completions_until_it_opens,
    a_gate_that_opens_elsewhere_ends_the_wait,
    a_completion_waits_for_its_time,
    a_mix_hands_each_operation_back_once,
    memory_comes_back_when_a_held_engine_goes,
);

fn rig(kind: Kind, plan: Plan) -> (Rig, Control) {
    let clock: Clock = Arc::new(Instant::now);
    rig_with(kind, plan, clock)
}

fn rig_with(kind: Kind, plan: Plan, clock: Clock) -> (Rig, Control) {
    let (engine, control) = Faulty::new(kind.engine(), plan, clock);
    (kind.rig_around(Box::new(engine), 1 << 20), control)
}

fn content(rig: &mut Rig) -> Vec<u8> {
    let read = rig.transfer(Direction::Read, 0, rig.piece(2 * ALIGNMENT, 0));
    assert!(read.result.is_ok());
    read.op.memory.to_vec()
}

fn write(rig: &mut Rig, fill: u8) -> Done {
    rig.transfer(Direction::Write, 0, rig.piece(2 * ALIGNMENT, fill))
}

fn push(rig: &mut Rig, ids: std::ops::Range<u64>) {
    for id in ids {
        let op = rig.op(id, Direction::Write, id * 4096, rig.piece(ALIGNMENT, 1));
        rig.engine.push(op);
    }
}

fn ids(done: &[Done]) -> Vec<u64> {
    done.iter().map(|done| done.op.id).collect()
}

fn an_error_moves_nothing(kind: Kind) {
    let (mut rig, control) = rig(kind, plan::pass());
    assert!(write(&mut rig, 1).result.is_ok());
    for errno in [5, 28, 12, 4, 11] {
        control.set(plan::script([Fault::Errno(errno)]));
        let error = write(&mut rig, 2).result.expect_err("it was told to fail");
        assert_eq!(error.raw_os_error(), Some(errno));
        assert!(content(&mut rig).iter().all(|byte| *byte == 1));
    }
    let counts = control.counts();
    assert_eq!((counts.errors, counts.passed), (5, 6));
}

fn a_short_write_leaves_the_rest_out_and_the_memory_as_it_was(kind: Kind) {
    let by = 100;
    for (round, expected) in [(1, 8092), (512, 7680), (ALIGNMENT, ALIGNMENT)] {
        let (mut rig, control) = rig(kind, plan::script([Fault::Short { by, round }]));
        let short = write(&mut rig, 3);
        assert_eq!(short.result.ok(), Some(expected));
        assert!(short.op.memory.iter().all(|byte| *byte == 3));
        let disk = content(&mut rig);
        assert!(disk[..expected].iter().all(|byte| *byte == 3));
        assert!(disk[expected..].iter().all(|byte| *byte != 3));
        assert_eq!(control.counts().shorts, 1);
    }
}

fn a_short_read_leaves_the_rest_out(kind: Kind) {
    let (mut rig, control) = rig(kind, plan::pass());
    write(&mut rig, 3);
    let (by, round) = (1, ALIGNMENT);
    control.set(plan::script([Fault::Short { by, round }]));
    let short = rig.transfer(Direction::Read, 0, rig.piece(2 * ALIGNMENT, 0));
    assert_eq!(short.result.ok(), Some(ALIGNMENT));
    let (read, left) = short.op.memory.split_at(ALIGNMENT);
    assert!(read.iter().all(|byte| *byte == 3));
    assert!(left.iter().all(|byte| *byte == POISON));
}

fn a_bit_changes_on_its_way_to_the_disk_or_from_it(kind: Kind) {
    let bit = 8 * 5000 + 2;
    let (mut rig, control) = rig(kind, plan::script([Fault::Flip { bit }]));
    let flipped = write(&mut rig, 0);
    assert!(flipped.op.memory.iter().all(|byte| *byte == 0));
    let mut expected = vec![0; 2 * ALIGNMENT];
    expected[5000] = 4;
    assert!(content(&mut rig) == expected, "the disk has the other bit");
    control.set(plan::each(Direction::Read, Fault::Flip { bit }));
    expected[5000] = 0;
    assert!(content(&mut rig) == expected, "and it is turned back");
    assert_eq!(control.counts().flips, 2);
}

fn a_completion_waits_for_so_many_others(kind: Kind) {
    let hold = Fault::Hold(Until::Completed(3));
    let (mut rig, control) = rig(kind, plan::script([hold]));
    push(&mut rig, 0..6);
    let order = ids(&rig.in_order(6));
    let place = order.iter().position(|id| *id == 0);
    assert!(place.is_some_and(|place| place >= 3), "{order:?}");
    assert_eq!(control.counts().held, 1);
}

fn a_completion_does_not_wait_for_others_that_never_come(kind: Kind) {
    let hold = Fault::Hold(Until::Completed(100));
    let (mut rig, _) = rig(kind, plan::each(Direction::Write, hold));
    push(&mut rig, 0..3);
    assert_eq!(rig.collect(3).len(), 3);
}

fn a_gate_holds_completions_until_it_opens(kind: Kind) {
    let (mut rig, control) = rig(kind, plan::pass());
    let gate = control.gate();
    control.set(plan::script([Fault::Hold(Until::Open(gate.clone()))]));
    push(&mut rig, 0..4);
    let mut order = ids(&rig.in_order(3));
    order.sort_unstable();
    assert_eq!(order, [1, 2, 3]);
    let mut early = Vec::new();
    rig.engine.wait(Some(Duration::from_millis(20)), &mut early);
    assert!(early.is_empty());
    gate.open();
    assert_eq!(ids(&rig.in_order(1)), [0]);
}

fn a_gate_that_opens_elsewhere_ends_the_wait(kind: Kind) {
    let (mut rig, control) = rig(kind, plan::pass());
    let gate = control.gate();
    let hold = Fault::Hold(Until::Open(gate.clone()));
    control.set(plan::each(Direction::Write, hold));
    push(&mut rig, 0..1);
    let opener = std::thread::spawn(move || gate.open());
    assert_eq!(ids(&rig.in_order(1)), [0]);
    opener.join().expect("it does not panic");
    // Only the alarm can end a wait for which there is no completion.
    control.gate().open();
    let begin = Instant::now();
    rig.engine.wait(Some(PATIENCE), &mut Vec::new());
    assert!(begin.elapsed() < PATIENCE);
}

fn a_completion_waits_for_its_time(kind: Kind) {
    let begin = Instant::now();
    let passed = Arc::new(Mutex::new(Duration::ZERO));
    let hand = Arc::clone(&passed);
    let clock = Arc::new(move || begin + *hand.lock().expect("nobody panics"));
    let hold = Fault::Hold(Until::After(Duration::from_secs(3600)));
    let (mut rig, _) = rig_with(kind, plan::script([hold]), clock);
    push(&mut rig, 0..2);
    assert_eq!(ids(&rig.in_order(1)), [1]);
    let mut early = Vec::new();
    rig.engine.wait(Some(Duration::from_millis(20)), &mut early);
    assert!(early.is_empty());
    *passed.lock().expect("nobody panics") = Duration::from_secs(3600);
    assert_eq!(ids(&rig.in_order(1)), [0]);
}

fn a_mix_hands_each_operation_back_once(kind: Kind) {
    let mix = plan::Mix {
        errors: 200,
        shorts: 200,
        held: 300,
        flips: 100,
        errnos: vec![4, 5, 11, 12, 28],
        round: 512,
    };
    let mut seen = Vec::new();
    for seed in [1, 1, 2] {
        let (mut rig, control) = rig(kind, plan::seeded(seed, mix.clone()));
        for round in 0..40 {
            let first = round * DEPTH as u64;
            for id in first..first + DEPTH as u64 {
                let offset = id % 64 * 4096;
                let op = rig.op(id, Direction::Write, offset, rig.piece(ALIGNMENT, 1));
                rig.engine.push(op);
            }
            let done = rig.collect(DEPTH);
            assert_eq!(done.len(), DEPTH);
            assert!(
                done.values()
                    .all(|done| done.op.memory.iter().all(|b| *b == 1))
            );
        }
        let counts = control.counts();
        let all = counts.passed + counts.errors + counts.shorts + counts.held + counts.flips;
        assert_eq!(all, 40 * DEPTH as u64);
        assert!(counts.errors > 0 && counts.shorts > 0 && counts.held > 0 && counts.flips > 0);
        assert_eq!(rig.pool.usage().leased_bytes, 0);
        seen.push(counts);
    }
    assert_eq!(seen[0], seen[1], "a seed says it all");
    assert_ne!(seen[0], seen[2]);
}

fn memory_comes_back_when_a_held_engine_goes(kind: Kind) {
    let (mut rig, control) = rig(kind, plan::pass());
    let hold = Fault::Hold(Until::Open(control.gate()));
    control.set(plan::each(Direction::Write, hold));
    push(&mut rig, 0..4);
    let mut none = Vec::new();
    rig.engine.wait(Some(Duration::from_millis(20)), &mut none);
    assert_eq!(rig.pool.usage().leased_bytes, 4 * ALIGNMENT);
    drop(rig.engine);
    assert_eq!(rig.pool.usage().leased_bytes, 0);
}
