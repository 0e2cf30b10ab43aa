//! How many copies of a model run, and where: `instance_group`.

use forebay_proto::inference::{ModelInstanceGroup, model_instance_group::Kind};

use super::faults::Faults;

/// Most copies in one group. Each has threads of its own, so that more is a slip of the pen.
const MAX_COUNT: usize = 256;

/// Copies of a model that run alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceGroup {
    /// Where the copies run.
    pub kind: InstanceKind,
    /// How many there are, or for [`Gpu`](InstanceKind::Gpu) on each of the `gpus`; at least 1.
    pub count: usize,
    /// The GPUs to use, by index; empty means all.
    pub gpus: Vec<u32>,
}

/// Where a copy of a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceKind {
    /// On a GPU where there is one, else on the CPU.
    Auto,
    /// On the CPU.
    Cpu,
    /// On a GPU. Whether there is one is for the loader to find out.
    Gpu,
    /// Where it was saved. Served on the CPU, and only where there is no GPU.
    Model,
}

/// Reads the groups; none means one copy wherever it runs best.
pub(super) fn read(groups: &[ModelInstanceGroup], faults: &mut Faults) -> Vec<InstanceGroup> {
    if groups.is_empty() {
        return vec![InstanceGroup {
            kind: InstanceKind::Auto,
            count: 1,
            gpus: Vec::new(),
        }];
    }
    groups
        .iter()
        .enumerate()
        .map(|(index, group)| {
            let field = format!("instance_group[{index}]");
            refuse_and_note(&field, group, faults);
            InstanceGroup {
                kind: read_kind(&field, group, faults),
                count: read_count(&field, group.count, faults),
                gpus: read_gpus(&field, group, faults),
            }
        })
        .collect()
}

fn read_kind(field: &str, group: &ModelInstanceGroup, faults: &mut Faults) -> InstanceKind {
    match Kind::try_from(group.kind) {
        Ok(Kind::Auto) => InstanceKind::Auto,
        Ok(Kind::Cpu) => InstanceKind::Cpu,
        Ok(Kind::Gpu) => InstanceKind::Gpu,
        Ok(Kind::Model) => InstanceKind::Model,
        Err(_) => {
            faults.wrong(
                format_args!("{field}.kind"),
                format_args!("{} is no kind", group.kind),
                "use KIND_AUTO, KIND_CPU, KIND_GPU or KIND_MODEL",
            );
            InstanceKind::Auto
        }
    }
}

fn read_count(field: &str, count: i32, faults: &mut Faults) -> usize {
    match usize::try_from(count) {
        Ok(count) if count <= MAX_COUNT => count.max(1),
        _ => {
            faults.wrong(
                format_args!("{field}.count"),
                format_args!("{count} is no number of instances"),
                format_args!("use 1 to {MAX_COUNT}"),
            );
            1
        }
    }
}

fn read_gpus(field: &str, group: &ModelInstanceGroup, faults: &mut Faults) -> Vec<u32> {
    if !group.gpus.is_empty() && matches!(group.kind(), Kind::Cpu | Kind::Model) {
        faults.wrong(
            format_args!("{field}.gpus"),
            format_args!("{} uses no GPU", group.kind().as_str_name()),
            "remove it, or use KIND_GPU",
        );
    }
    let mut gpus = Vec::with_capacity(group.gpus.len());
    for (index, &gpu) in group.gpus.iter().enumerate() {
        let field = format_args!("{field}.gpus[{index}]");
        match u32::try_from(gpu) {
            Ok(gpu) if gpus.contains(&gpu) => {
                faults.wrong(field, format_args!("{gpu} is listed twice"), "list it once");
            }
            Ok(gpu) => gpus.push(gpu),
            Err(_) => faults.wrong(
                field,
                format_args!("{gpu} is negative"),
                "use the GPU's index, from 0",
            ),
        }
    }
    gpus
}

fn refuse_and_note(field: &str, group: &ModelInstanceGroup, faults: &mut Faults) {
    faults.unsupported(
        group.passive,
        format_args!("{field}.passive"),
        "remove it; every instance serves requests",
    );
    faults.unsupported(
        !group.secondary_devices.is_empty(),
        format_args!("{field}.secondary_devices"),
        "remove it; an instance runs on one device",
    );
    let limited = group.rate_limiter.is_some();
    faults.ignored(limited, format_args!("{field}.rate_limiter"));
    let profiled = !group.profile.is_empty();
    faults.ignored(profiled, format_args!("{field}.profile"));
    let placed = !group.host_policy.is_empty();
    faults.ignored(placed, format_args!("{field}.host_policy"));
}
