use proptest::prelude::*;

use super::*;

const SEGMENT: u64 = 64 * BLOCK;

#[derive(Debug, Clone)]
enum Step {
    Allocate(u64),
    Most(u64),
    Free(usize),
    FreeInParts(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..20_u64).prop_map(|blocks| Step::Allocate(blocks * BLOCK)),
        1 => (1..80_u64).prop_map(|blocks| Step::Most(blocks * BLOCK)),
        2 => any::<usize>().prop_map(Step::Free),
        1 => any::<usize>().prop_map(Step::FreeInParts),
    ]
}

proptest! {
    #[test]
    fn extents_never_overlap_never_leak_and_merge_when_freed(
        steps in prop::collection::vec(step(), 1..200)
    ) {
        let mut allocator = Allocator::new(SEGMENT);
        let mut taken: Vec<(u64, u64)> = Vec::new();
        for step in steps {
            let new = match step {
                Step::Allocate(bytes) => {
                    let largest = allocator.largest_free();
                    let got = allocator.allocate(bytes);
                    prop_assert_eq!(got.is_some(), bytes <= largest);
                    got.map(|offset| (offset, bytes))
                }
                Step::Most(bytes) => allocator.allocate_most(bytes),
                Step::Free(pick) | Step::FreeInParts(pick) if !taken.is_empty() => {
                    let (offset, bytes) = taken.swap_remove(pick % taken.len());
                    let head = match step {
                        Step::FreeInParts(_) => (bytes / BLOCK / 2) * BLOCK,
                        _ => 0,
                    };
                    if head > 0 {
                        allocator.free(offset, head);
                    }
                    allocator.free(offset + head, bytes - head);
                    None
                }
                Step::Free(_) | Step::FreeInParts(_) => None,
            };
            if let Some((offset, bytes)) = new {
                prop_assert!(offset.is_multiple_of(BLOCK) && offset + bytes <= SEGMENT);
                let apart = |(at, run): &(u64, u64)| offset + bytes <= *at || at + run <= offset;
                prop_assert!(taken.iter().all(apart));
                taken.push((offset, bytes));
            }
            let used: u64 = taken.iter().map(|(_, bytes)| bytes).sum();
            prop_assert_eq!(used + allocator.free_bytes(), SEGMENT);
        }
        for (offset, bytes) in taken {
            allocator.free(offset, bytes);
        }
        prop_assert_eq!(allocator.largest_free(), SEGMENT);
        prop_assert_eq!(allocator.allocate(SEGMENT), Some(0));
    }
}

#[test]
fn the_lowest_segment_that_has_room_is_used_first() {
    let mut space = Space::new(0);
    space.add_segment(SEGMENT);
    space.add_segment(SEGMENT);
    let first = space.allocate(SEGMENT).expect("an empty segment");
    let second = space.allocate(BLOCK).expect("the next segment");
    assert_eq!((first.segment, second.segment), (0, 1));
    space.free(&first);
    assert_eq!(space.allocate(BLOCK).map(|extent| extent.segment), Some(0));
}

#[test]
fn the_same_place_has_another_generation_each_time() {
    let mut space = Space::new(0);
    space.add_segment(SEGMENT);
    let first = space.allocate(BLOCK).expect("an empty segment");
    space.free(&first);
    let second = space.allocate(BLOCK).expect("an empty segment");
    assert_eq!(first.offset, second.offset);
    assert_ne!(first.generation, second.generation);
}

#[test]
fn scattered_space_is_used_to_the_last_block() {
    let mut space = Space::new(0);
    space.add_segment(8 * BLOCK);
    let mut all: Vec<_> = (0..8).map_while(|_| space.allocate(BLOCK)).collect();
    let kept: Vec<_> = (0..4).map(|i| all.remove(i)).collect();
    for extent in kept.iter().take(3) {
        space.free(extent);
    }
    assert!(space.allocate(2 * BLOCK).is_none());
    let scattered = space
        .allocate_scattered(3 * BLOCK)
        .expect("3 blocks are free");
    assert_eq!(scattered.len(), 3);
    assert_eq!(space.free_bytes(), 0);
    assert!(space.allocate_scattered(BLOCK).is_none());
}

#[test]
fn a_bad_extent_is_never_given_out_again() {
    let mut space = Space::new(0);
    space.add_segment(2 * BLOCK);
    let bad = space.allocate(BLOCK).expect("an empty segment");
    space.quarantine(&bad);
    let good = space.allocate(BLOCK).expect("one block is left");
    assert_ne!(bad.offset, good.offset);
    assert!(space.allocate(BLOCK).is_none());
    assert_eq!(space.bad_bytes(), BLOCK);
}
