//! Libraries of a Debian release, unpacked into a folder of their own.
//!
//! apt finds, fetches and verifies them with lists, sources and a cache that lie in that folder
//! too, so the system's own are neither read nor changed, and no rights are needed.

use std::{
    fs, io,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    process::{self, Interrupt},
    say,
};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Where Debian is, for systems whose own sources name no mirror of it.
const MIRROR: &str = "http://deb.debian.org/debian";

/// Unpacks `packages` of `release` into `folder`, unless that is done.
pub(crate) fn unpack(
    release: &str,
    packages: &[&str],
    folder: &Path,
    interrupt: &Interrupt,
) -> Result<()> {
    let stamp = folder.join("packages.txt");
    let wanted = packages.join("\n");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    check_tools()?;
    let state = folder.with_extension("apt");
    for old in [folder, &state] {
        if old.exists() {
            fs::remove_dir_all(old).with_context(|| format!("remove {}", old.display()))?;
        }
    }
    let mirror = find_mirror(Path::new("/etc/apt"));
    say(format_args!(
        "Debian {release}, from {mirror}: {}",
        packages.join(" ")
    ))?;
    lay_out(&state, release, &mirror)?;
    process::run(apt(&state).arg("update"), interrupt)?;
    let archives = state.join("archives");
    process::run(
        apt(&state)
            .arg("download")
            .args(packages)
            .current_dir(&archives),
        interrupt,
    )?;
    for archive in fs::read_dir(&archives).context("list what apt fetched")? {
        let archive = archive.context("list what apt fetched")?.path();
        process::run(
            Command::new("dpkg").arg("-x").arg(archive).arg(folder),
            interrupt,
        )?;
    }
    fs::remove_dir_all(&state).context("remove apt's lists")?;
    fs::write(&stamp, wanted).context("write the stamp")
}

fn check_tools() -> Result<()> {
    for tool in ["apt-get", "dpkg"] {
        let asked = Command::new(tool)
            .arg("--version")
            .stdin(Stdio::null())
            .output();
        if asked.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            bail!(
                "{tool} is not on PATH: Debian's packages are unpacked on Debian and Ubuntu only"
            );
        }
    }
    ensure!(
        Path::new(KEYRING).exists(),
        "{KEYRING} is missing, which Debian's packages are verified with; \
         install it (apt-get install debian-archive-keyring)"
    );
    Ok(())
}

/// Makes the folder that apt keeps its state in.
fn lay_out(state: &Path, release: &str, mirror: &str) -> Result<()> {
    for part in [
        "lists/partial",
        "cache/archives/partial",
        "none",
        "archives",
    ] {
        fs::create_dir_all(state.join(part)).context("make a folder for apt")?;
    }
    let source =
        format!("deb [arch=amd64 target=Packages signed-by={KEYRING}] {mirror} {release} main\n");
    fs::write(state.join("sources.list"), source)
        .and_then(|()| fs::write(state.join("status"), ""))
        .context("write apt's sources")
}

/// Returns apt-get, set to keep to `state`.
fn apt(state: &Path) -> Command {
    let mut apt = Command::new("apt-get");
    for (option, place) in [
        ("Dir::Etc::SourceList", "sources.list"),
        ("Dir::Etc::SourceParts", "none"),
        ("Dir::Etc::PreferencesParts", "none"),
        ("Dir::State", ""),
        ("Dir::State::status", "status"),
        ("Dir::Cache", "cache"),
    ] {
        apt.arg("-o")
            .arg(format!("{option}={}", state.join(place).display()));
    }
    // apt would hand the download to a user that cannot enter our folder.
    apt.args([
        "-o",
        "APT::Sandbox::User=root",
        "-o",
        "Acquire::Languages=none",
    ]);
    apt.args(["-o", "APT::Architecture=amd64", "-qq"]);
    apt
}

/// Returns the mirror of Debian that the system's own sources below `etc` name.
fn find_mirror(etc: &Path) -> String {
    let mut files = vec![etc.join("sources.list")];
    if let Ok(parts) = fs::read_dir(etc.join("sources.list.d")) {
        let parts = parts.filter_map(|part| Some(part.ok()?.path()));
        files.extend(parts.filter(|part| {
            part.extension()
                .is_some_and(|ending| ending == "sources" || ending == "list")
        }));
    }
    let texts = files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok());
    let mirror = texts.filter_map(|text| mirror_in(&text)).next();
    mirror.unwrap_or_else(|| MIRROR.to_owned())
}

/// Returns the first mirror of Debian in a text of sources, without the name and password that it may
/// hold: it is printed, and the release that we want is in every public mirror.
fn mirror_in(sources: &str) -> Option<String> {
    let lines = sources
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    let mut words = lines.flat_map(str::split_whitespace);
    words.find_map(|word| {
        let (scheme, rest) = word.trim_end_matches('/').split_once("://")?;
        let (authority, path) = rest.split_once('/')?;
        // `linux/debian` is how vendors name the part for Debian of their own packages.
        let is_debian = path == "debian" || path.ends_with("/debian");
        if !scheme.starts_with("http") || !is_debian || path.ends_with("linux/debian") {
            return None;
        }
        let host = authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host);
        Some(format!("{scheme}://{host}/{path}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_one_that_the_systems_sources_name() {
        let deb822 = "Types: deb\n# http://snapshot.example/debian\n\
                      URIs: http://mirror.example/debian/\nSuites: bookworm\n";
        assert_eq!(mirror_in(deb822).unwrap(), "http://mirror.example/debian");
        let line = "deb https://a.example/debian-security bookworm main\n\
                    deb [arch=amd64] https://a.example/debian bookworm main\n";
        assert_eq!(mirror_in(line).unwrap(), "https://a.example/debian");
    }

    #[test]
    fn a_vendors_packages_are_no_mirror_and_a_password_is_not_told() {
        let sources = "deb https://download.example/linux/debian bookworm stable\n\
                       deb http://me:secret@mirror.example/pub/debian bookworm main\n";
        let mirror = mirror_in(sources).unwrap();
        assert_eq!(mirror, "http://mirror.example/pub/debian");
    }

    #[test]
    fn a_system_without_debian_sources_gets_debians_own_address() {
        let etc = tempfile::tempdir().unwrap();
        fs::write(
            etc.path().join("sources.list"),
            "deb http://u.example/ubuntu noble main\n",
        )
        .unwrap();
        assert_eq!(find_mirror(etc.path()), MIRROR);
    }
}
