//! Blocks on their way out.

use std::{io, sync::Arc, time::Instant};

use crate::{
    extent::padded,
    memory::Piece,
    seal::Place,
    store::entry::{Source, WritePart},
};

use super::{Cargo, Driver};

impl Driver {
    /// Writes a block from where it lies.
    pub(super) fn write_in_place(&mut self, mut parts: Vec<WritePart>) {
        let part = &mut parts[0];
        let Source::Piece(piece) = std::mem::replace(&mut part.source, Source::Flying) else {
            unreachable!("only pieces lie where they can be written from");
        };
        let place = Place::new(part.block.extent, part.block.start);
        part.block.seal = self.shared.sealer.seal(&place, &piece[..part.block.len]);
        self.launch(Cargo::Write(parts), piece, None);
    }

    /// Writes blocks that lie side by side from a copy.
    pub(super) fn write_copy(&mut self, mut parts: Vec<WritePart>) {
        let bytes = parts.iter().map(|part| padded(part.block.len)).sum();
        let (mut memory, tail) = self.bounce(bytes);
        let mut rest = &mut memory[..];
        for part in &mut parts {
            let block = &mut part.block;
            let (to, behind) = rest.split_at_mut(padded(block.len));
            rest = behind;
            let from = match &part.source {
                Source::Piece(piece) => &piece[..block.len],
                Source::Bytes(bytes) => &bytes[..],
                Source::Flying => unreachable!("a copy is made from what is there"),
            };
            let (to, padding) = to.split_at_mut(block.len);
            let place = Place::new(block.extent, block.start);
            block.seal = self.shared.sealer.copy(&place, from, to);
            padding.fill(0);
        }
        self.launch(Cargo::Write(parts), memory, Some(tail));
    }

    pub(super) fn land_write(
        &mut self,
        mut parts: Vec<WritePart>,
        (memory, tail): (Piece, Option<Piece>),
        result: Result<(), Arc<io::Error>>,
    ) {
        match tail {
            Some(tail) => self.give_back(memory, tail),
            None => parts[0].source = Source::Piece(memory),
        }
        let (dir, now) = (self.dir, Instant::now());
        self.shared.with(|core| {
            for part in parts {
                match &result {
                    Ok(()) => core.written(part),
                    Err(error) => core.not_written(dir, part, error, now),
                }
            }
        });
    }
}
