//! The fixture models: made from Rust, on the spot, in the layout of Triton's model repository.
//!
//! Invariant: a model's directory appears whole or not at all, because it is written elsewhere and
//! renamed. So several tests may write to one repository at once, and a server may watch it. (An
//! outdated model is gone for a moment before its successor appears.)

mod archive;
mod fixture;
mod pickle;
mod resnet;
mod scripted;
mod traced;

#[cfg(test)]
mod tests;

use std::{fs, io, path::Path};

use anyhow::{Context as _, Result};

use self::archive::Module;
pub use self::fixture::{Fixture, UnknownFixture};

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
    let target = dir.join(fixture.name());
    if is_current(&target, fixture)? {
        return Ok(Outcome::Kept);
    }
    let doing = || format!("write the model {fixture} to {}", dir.display());
    fs::create_dir_all(dir).with_context(doing)?;
    let scratch = tempfile::Builder::new()
        .prefix(".making-")
        .tempdir_in(dir)
        .with_context(doing)?;
    let made = scratch.path().join(fixture.name());
    fs::create_dir_all(made.join("1")).with_context(doing)?;
    fs::write(made.join("config.pbtxt"), fixture.config()).with_context(doing)?;
    write_module(&made.join("1/model.pt"), fixture).with_context(doing)?;
    match fs::rename(&made, &target) {
        Ok(()) => return Ok(Outcome::Written),
        // Another process was faster, and what it wrote is what this one would have.
        Err(_) if is_current(&target, fixture)? => return Ok(Outcome::Kept),
        // An older one is in the way.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
        Err(error) => return Err(error).with_context(doing),
    }
    fs::rename(&target, scratch.path().join("old")).with_context(doing)?;
    fs::rename(&made, &target).with_context(doing)?;
    Ok(Outcome::Written)
}

/// How a model comes to be.
enum Recipe {
    Traced(fn(&Path) -> Result<()>),
    Scripted(Module),
}

fn recipe(fixture: Fixture) -> Recipe {
    match fixture {
        Fixture::ResNet18 => Recipe::Traced(traced::resnet18),
        Fixture::Mlp => Recipe::Traced(traced::mlp),
        Fixture::IdentityFp32 => Recipe::Traced(traced::identity),
        Fixture::Simple => Recipe::Scripted(scripted::SIMPLE),
        Fixture::Thrower => Recipe::Scripted(scripted::THROWER),
        Fixture::Scaled => Recipe::Scripted(scripted::SCALED),
        Fixture::Counter => Recipe::Scripted(scripted::COUNTER),
        Fixture::CounterPlain => Recipe::Scripted(scripted::COUNTER_PLAIN),
        Fixture::Strings => Recipe::Scripted(scripted::STRINGS),
        Fixture::WrongOutput => Recipe::Scripted(scripted::WRONG_OUTPUT),
    }
}

fn write_module(path: &Path, fixture: Fixture) -> Result<()> {
    match recipe(fixture) {
        Recipe::Traced(save) => save(path),
        Recipe::Scripted(module) => Ok(fs::write(path, module.archive()?)?),
    }
}

fn is_current(target: &Path, fixture: Fixture) -> Result<bool> {
    if read_if_there(&target.join("config.pbtxt"))?.as_deref() != Some(fixture.config().as_bytes())
    {
        return Ok(false);
    }
    let module = target.join("1/model.pt");
    match recipe(fixture) {
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
