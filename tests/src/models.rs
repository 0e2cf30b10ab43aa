//! The fixture models: made from Rust, on the spot, in the layout of Triton's model repository.
//!
//! Invariant: a model's directory appears whole or not at all, because it is written elsewhere and
//! renamed. So several tests may write to one repository at once, and a server may watch it. (An
//! outdated model is gone for a moment before its successor appears.)

mod archive;
mod encoder;
mod fixture;
mod ladder;
mod pickle;
mod resnet;
mod scripted;
mod traced;

#[cfg(test)]
mod tests;

use std::{fs, io, path::Path};

use anyhow::{Context as _, Result};

use self::archive::Module;
pub use self::{
    fixture::{Fixture, UnknownFixture},
    ladder::{LADDER, write_ladder},
};

/// What [`write_one`] found to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The model was written, in place of an older one if there was one.
    Written,
    /// The model was there already.
    Kept,
}

/// Writes the models `which` to the repository `dir`, which is made if need be, and leaves those
/// that are there already as they are.
///
/// # Errors
/// As [`write_one`], at the first model that meets one.
pub fn write(dir: &Path, which: &[Fixture]) -> Result<()> {
    for &fixture in which {
        write_one(dir, fixture)?;
    }
    Ok(())
}

/// Writes one model to the repository `dir`, unless it is there already.
///
/// A model counts as there if its config is the current one and, for a model made of TorchScript
/// text, its archive too; a traced one is not compared. Seeds libtorch's global generator where it
/// draws weights.
///
/// # Errors
/// The directory cannot be written to, or libtorch cannot trace or save the model.
pub fn write_one(dir: &Path, fixture: Fixture) -> Result<Outcome> {
    let name = fixture.name();
    put(
        dir,
        name,
        |target| is_current(target, fixture.config(), &recipe(fixture)),
        |made| write_files(made, fixture.config(), &recipe(fixture)),
    )
    .with_context(|| format!("write the model {name} to {}", dir.display()))
}

/// Puts a model into the repository `dir`, unless it is current: `write` fills a folder elsewhere,
/// which is then renamed.
fn put(
    dir: &Path,
    name: &str,
    is_current: impl Fn(&Path) -> Result<bool>,
    write: impl FnOnce(&Path) -> Result<()>,
) -> Result<Outcome> {
    let target = dir.join(name);
    if is_current(&target)? {
        return Ok(Outcome::Kept);
    }
    fs::create_dir_all(dir)?;
    let scratch = tempfile::Builder::new()
        .prefix(".making-")
        .tempdir_in(dir)?;
    let made = scratch.path().join(name);
    fs::create_dir_all(made.join("1"))?;
    write(&made)?;
    match fs::rename(&made, &target) {
        Ok(()) => return Ok(Outcome::Written),
        // Another process was faster, and what it wrote is what this one would have.
        Err(_) if is_current(&target)? => return Ok(Outcome::Kept),
        // An older one is in the way.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
        Err(error) => return Err(error.into()),
    }
    fs::rename(&target, scratch.path().join("old"))?;
    fs::rename(&made, &target)?;
    Ok(Outcome::Written)
}

/// Where a model's file lies in its folder.
const MODULE: &str = "1/model.pt";

/// How a model comes to be.
enum Recipe {
    Traced(fn(&Path) -> Result<()>),
    Scripted(Module),
}

fn recipe(fixture: Fixture) -> Recipe {
    match fixture {
        Fixture::ResNet18 => Recipe::Traced(traced::resnet18),
        Fixture::Mlp => Recipe::Traced(traced::mlp),
        Fixture::Encoder => Recipe::Traced(traced::encoder),
        Fixture::IdentityFp32 => Recipe::Traced(traced::identity),
        Fixture::Simple => Recipe::Scripted(scripted::SIMPLE),
        Fixture::Thrower => Recipe::Scripted(scripted::THROWER),
        Fixture::Scaled => Recipe::Scripted(scripted::SCALED),
        Fixture::Counter => Recipe::Scripted(scripted::COUNTER),
        Fixture::CounterPlain => Recipe::Scripted(scripted::COUNTER_PLAIN),
        Fixture::Strings => Recipe::Scripted(scripted::STRINGS),
        Fixture::WrongOutput => Recipe::Scripted(scripted::WRONG_OUTPUT),
        Fixture::Digest => Recipe::Scripted(scripted::DIGEST),
    }
}

fn write_files(made: &Path, config: &str, recipe: &Recipe) -> Result<()> {
    fs::write(made.join("config.pbtxt"), config)?;
    let module = made.join(MODULE);
    match recipe {
        Recipe::Traced(save) => save(&module),
        Recipe::Scripted(scripted) => Ok(fs::write(module, scripted.archive()?)?),
    }
}

fn is_current(target: &Path, config: &str, recipe: &Recipe) -> Result<bool> {
    if read_if_there(&target.join("config.pbtxt"))?.as_deref() != Some(config.as_bytes()) {
        return Ok(false);
    }
    let module = target.join(MODULE);
    match recipe {
        Recipe::Traced(_) => Ok(module.is_file()),
        Recipe::Scripted(current) => Ok(read_if_there(&module)? == Some(current.archive()?)),
    }
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}
