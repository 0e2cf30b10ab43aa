use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;

fn sealers() -> [Sealer; 2] {
    let sealer = |encrypt| Sealer::new(Checksum::Full, encrypt).expect("the system has randomness");
    [sealer(false), sealer(true)]
}

fn place(rng: &mut StdRng) -> Place {
    let extent = Extent {
        dir: rng.random_range(0..4),
        segment: rng.random_range(0..8),
        offset: rng.random_range(0..1000) * 4096,
        bytes: 4096,
        generation: rng.random_range(0..100_000),
    };
    Place::new(extent, rng.random_range(0..64) << 20)
}

fn written(rng: &mut StdRng, sealer: &Sealer, place: &Place) -> (Vec<u8>, Vec<u8>, Seal) {
    let mut plain = vec![0; rng.random_range(1..2000)];
    rng.fill(&mut plain[..]);
    let mut disk = vec![0; plain.len()];
    let seal = sealer.copy(place, &plain, &mut disk);
    (plain, disk, seal)
}

#[test]
fn a_block_comes_back_as_it_was() {
    let mut rng = StdRng::seed_from_u64(1);
    for sealer in sealers() {
        for _ in 0..200 {
            let place = place(&mut rng);
            let (plain, mut disk, seal) = written(&mut rng, &sealer, &place);
            assert_eq!(plain == disk, sealer.in_place());
            assert_eq!(sealer.open(&place, &seal, &mut disk), Ok(()));
            assert_eq!(plain, disk);
        }
    }
}

#[test]
fn sealing_in_place_and_while_copying_is_the_same() {
    let sealer = Sealer::Crc;
    let mut rng = StdRng::seed_from_u64(2);
    let place = place(&mut rng);
    let (plain, _, seal) = written(&mut rng, &sealer, &place);
    assert!(sealer.seal(&place, &plain) == seal);
}

#[test]
fn a_flipped_bit_is_caught_in_10_000_cases() {
    let mut rng = StdRng::seed_from_u64(3);
    for sealer in sealers() {
        for _ in 0..5000 {
            let place = place(&mut rng);
            let (_, mut disk, seal) = written(&mut rng, &sealer, &place);
            let at = rng.random_range(0..disk.len());
            disk[at] ^= 1 << rng.random_range(0..8);
            assert_eq!(sealer.open(&place, &seal, &mut disk), Err(Broken));
        }
    }
}

#[test]
fn bytes_of_another_place_or_generation_are_caught_in_10_000_cases() {
    let mut rng = StdRng::seed_from_u64(4);
    for sealer in sealers() {
        for case in 0..5000 {
            let right = place(&mut rng);
            let (_, mut disk, seal) = written(&mut rng, &sealer, &right);
            let mut wrong = right;
            match case % 5 {
                0 => wrong.extent.generation += rng.random_range(1..1000),
                1 => wrong.extent.offset += 4096 * rng.random_range(1..1000_u64),
                2 => wrong.extent.segment += 1,
                3 => wrong.extent.dir += 1,
                _ => wrong.piece += 256,
            }
            assert_eq!(sealer.open(&wrong, &seal, &mut disk), Err(Broken));
        }
    }
}

#[test]
fn the_same_block_is_never_encrypted_to_the_same_bytes() {
    let [_, sealer] = sealers();
    let place = place(&mut StdRng::seed_from_u64(5));
    let mut seen = std::collections::HashSet::new();
    for _ in 0..100 {
        let mut disk = [0; 64];
        sealer.copy(&place, &[7; 64], &mut disk);
        assert!(seen.insert(disk));
    }
}
