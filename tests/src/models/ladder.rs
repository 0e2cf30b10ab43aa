//! The models of `loadgen ladder`: one ResNet-18 in several configurations, and its companions.
//!
//! Every request is a batch of its own: without `dynamic_batching` the server joins none, so that
//! the figures are of the configuration. `inline` and `stages` have one instance; `workers n` has n,
//! with copy stages; `auto` has [`AUTO_INSTANCES`], and the server chooses inline or stages for
//! each batch size by what it measures.
//!
//! Invariant: the weights are on the disk once; each configuration links to them where the file
//! system can.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{MODULE, Outcome, Recipe, is_current, put, scripted, traced, write_files};

/// The models that [`write_ladder`] writes.
pub const LADDER: [&str; 9] = [
    "ladder_inline",
    "ladder_stages",
    "ladder_workers2",
    "ladder_workers3",
    "ladder_workers4",
    "ladder_auto",
    "ladder_transport",
    "case6243",
    "product",
];

/// Instances of the configuration that chooses for itself: as many as the most that is compared.
const AUTO_INSTANCES: u32 = 4;

/// ResNet-18 in one configuration.
struct Rung {
    name: &'static str,
    mode: &'static str,
    instances: u32,
}

const RUNGS: [Rung; 6] = [
    rung("ladder_inline", "inline", 1),
    rung("ladder_stages", "stages", 1),
    rung("ladder_workers2", "stages", 2),
    rung("ladder_workers3", "stages", 3),
    rung("ladder_workers4", "stages", 4),
    rung("ladder_auto", "auto", AUTO_INSTANCES),
];

const fn rung(name: &'static str, mode: &'static str, instances: u32) -> Rung {
    Rung {
        name,
        mode,
        instances,
    }
}

/// Writes the models of the ladder to the repository `dir`, which is made if need be. Those that
/// are current stay.
///
/// # Errors
/// The directory cannot be written to, or libtorch cannot trace or save the network.
pub fn write_ladder(dir: &Path) -> Result<Vec<(&'static str, Outcome)>> {
    let mut outcomes = Vec::new();
    let mut weights: Option<PathBuf> = None;
    for rung in &RUNGS {
        let config = rung.config();
        let outcome = put(
            dir,
            rung.name,
            |target| is_current(target, &config, &Recipe::Traced(traced::resnet18)),
            |made| match &weights {
                None => write_files(made, &config, &Recipe::Traced(traced::resnet18)),
                Some(weights) => {
                    fs::write(made.join("config.pbtxt"), &config)?;
                    Ok(link(weights, &made.join(MODULE))?)
                }
            },
        );
        let outcome = outcome.with_context(|| format!("write the model {}", rung.name))?;
        weights.get_or_insert_with(|| dir.join(rung.name).join(MODULE));
        outcomes.push((rung.name, outcome));
    }
    for (name, config, module) in [
        (
            "ladder_transport",
            include_str!("repository/ladder_transport/config.pbtxt"),
            scripted::LADDER_TRANSPORT,
        ),
        (
            "case6243",
            include_str!("repository/case6243/config.pbtxt"),
            scripted::CASE6243,
        ),
        (
            "product",
            include_str!("repository/product/config.pbtxt"),
            scripted::PRODUCT,
        ),
    ] {
        let recipe = Recipe::Scripted(module);
        let outcome = put(
            dir,
            name,
            |target| is_current(target, config, &recipe),
            |made| write_files(made, config, &recipe),
        );
        outcomes.push((
            name,
            outcome.with_context(|| format!("write the model {name}"))?,
        ));
    }
    Ok(outcomes)
}

/// Links `to` to the file `from`, or copies it where that cannot be.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    if fs::hard_link(from, to).is_err() {
        fs::copy(from, to)?;
    }
    Ok(())
}

impl Rung {
    fn config(&self) -> String {
        let Self {
            name,
            mode,
            instances,
        } = self;
        // What has one way only is compared as that, and not cut.
        let pieces = if *mode == "auto" { "auto" } else { "off" };
        format!(
            "name: \"{name}\"\n\
             platform: \"pytorch_libtorch\"\n\
             max_batch_size: 256\n\
             input [ {{ name: \"INPUT__0\" data_type: TYPE_FP32 dims: [ 3, 250, 250 ] }} ]\n\
             output [ {{ name: \"OUTPUT__0\" data_type: TYPE_FP32 dims: [ 1000 ] }} ]\n\
             instance_group [ {{ count: {instances} }} ]\n\
             parameters {{ key: \"FOREBAY_EXECUTOR_MODE\" value {{ string_value: \"{mode}\" }} }}\n\
             parameters {{ key: \"FOREBAY_MICRO_BATCHES\" value {{ string_value: \"{pieces}\" }} }}\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use tch::{CModule, Device, Kind, Tensor};

    use super::*;

    const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

    #[test]
    fn the_weights_are_there_once_and_take_images_of_250() {
        let dir = tempfile::tempdir().unwrap();
        let written = write_ladder(dir.path()).unwrap();
        let names: Vec<_> = written.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, LADDER);
        assert!(
            written
                .iter()
                .all(|(_, outcome)| *outcome == Outcome::Written)
        );
        let file = |rung: &Rung| dir.path().join(rung.name).join(MODULE);
        let inodes = RUNGS
            .iter()
            .map(|rung| fs::metadata(file(rung)).unwrap().ino());
        let inodes: Vec<_> = inodes.collect();
        assert!(inodes.iter().all(|inode| *inode == inodes[0]), "{inodes:?}");

        let module = CModule::load(file(&RUNGS[0])).unwrap();
        for batch in [1, 2] {
            let images = Tensor::rand([batch, 3, 250, 250], F32);
            assert_eq!(module.forward_ts(&[&images]).unwrap().size(), [batch, 1000]);
        }
        let again = write_ladder(dir.path()).unwrap();
        assert!(again.iter().all(|(_, outcome)| *outcome == Outcome::Kept));
    }

    fn load(module: super::super::Module) -> CModule {
        CModule::load_data(&mut io::Cursor::new(module.archive().unwrap())).unwrap()
    }

    #[test]
    fn case_6243_returns_four_times_its_input_and_works_once_for_each_round() {
        let module = load(scripted::CASE6243);
        let x = Tensor::ones([1, 50, 1000], F32);
        for rounds in [1, 3] {
            let y = module
                .forward_ts(&[&x, &Tensor::zeros([1, rounds], F32)])
                .unwrap();
            assert_eq!(y.size(), [1, 200, 1000]);
            // Each product is 50 everywhere, over 1, 2 and 3.
            let total: f64 = (1..=rounds).map(|round| 0.005 / round as f64).sum();
            let value = y.double_value(&[0, 199, 999]);
            assert!((value - 1.0 - total).abs() < 1e-5, "{value} {total}");
        }
    }

    #[test]
    fn the_companions_do_what_their_names_say() {
        let x = Tensor::ones([4, 4], F32);
        let product = load(scripted::PRODUCT).forward_ts(&[&x]).unwrap();
        assert_eq!(product, Tensor::full([4, 4], 4.0, F32));
        let images = Tensor::rand([2, 3, 250, 250], F32);
        let slice = load(scripted::LADDER_TRANSPORT)
            .forward_ts(&[&images])
            .unwrap();
        assert_eq!(slice, images.flatten(1, -1).narrow(1, 0, 1000));
    }
}
