use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

const CONFIG: &str = "platform: 'pytorch_libtorch' max_batch_size: 4 \
     input { name: 'x' data_type: TYPE_FP32 dims: 4 } \
     output { name: 'y' data_type: TYPE_FP32 dims: 4 }";

/// A repository on disk that a test writes.
struct Fixture {
    dir: TempDir,
}

impl Fixture {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self { dir }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn open(&self) -> Repository {
        Repository::open(self.dir.path()).unwrap()
    }

    fn faults(&self, model: &str) -> Vec<String> {
        self.open().model(model).unwrap_err().faults
    }

    fn fault(&self, model: &str) -> String {
        let faults = self.faults(model);
        assert_eq!(faults.len(), 1, "{faults:#?}");
        faults[0].clone()
    }
}

/// The versions that are served of a model with these versions and this policy.
fn served(folders: &[&str], policy: &str) -> Vec<u64> {
    let config = format!("{CONFIG} version_policy {{ {policy} }}");
    let files: Vec<String> = folders
        .iter()
        .map(|it| format!("m/{it}/model.pt"))
        .collect();
    let mut all = vec![("m/config.pbtxt", config.as_str())];
    all.extend(files.iter().map(|path| (path.as_str(), "")));
    let entry = Fixture::new(&all).open().model("m").unwrap();
    entry
        .versions
        .iter()
        .map(|version| version.number)
        .collect()
}

#[test]
fn a_scan_finds_sound_and_broken_models_by_name() {
    let fixture = Fixture::new(&[
        ("zebra/config.pbtxt", CONFIG),
        ("zebra/1/model.pt", ""),
        ("broken/config.pbtxt", "nam: 1"),
        ("ant/config.pbtxt", CONFIG),
        ("ant/3/model.pt", ""),
        ("README.md", "no model"),
        (".git/config", "no model"),
        ("bad name/config.pbtxt", CONFIG),
    ]);
    let scan = fixture.open().scan().unwrap();
    let found: Vec<_> = scan
        .iter()
        .map(|model| match model {
            Ok(entry) => (entry.settings.name.as_str(), true),
            Err(fault) => (fault.name.as_str(), false),
        })
        .collect();
    assert_eq!(
        found,
        [
            ("ant", true),
            ("bad name", false),
            ("broken", false),
            ("zebra", true)
        ]
    );
    let ant = scan[0].as_ref().unwrap();
    let root = fixture.dir.path().canonicalize().unwrap();
    assert_eq!(ant.dir, root.join("ant"));
    assert_eq!(
        ant.versions,
        [Version {
            number: 3,
            file: root.join("ant/3/model.pt")
        }]
    );
    let broken = scan[2].as_ref().unwrap_err();
    assert!(broken.faults[0].contains("broken/config.pbtxt:1:1: ModelConfig has no field 'nam'"));
}

#[test]
fn an_empty_repository_has_no_models() {
    assert!(Fixture::new(&[]).open().scan().unwrap().is_empty());
}

#[test]
fn only_a_folder_can_be_opened() {
    let fixture = Fixture::new(&[("file", "")]);
    let missing = Repository::open(&fixture.path("missing")).unwrap_err();
    assert!(matches!(missing, Error::Unreadable { .. }), "{missing}");
    let file = Repository::open(&fixture.path("file")).unwrap_err();
    assert!(matches!(file, Error::NotAFolder { .. }), "{file}");
}

#[test]
fn a_repository_that_vanishes_is_an_error_not_an_empty_one() {
    let fixture = Fixture::new(&[]);
    let repository = fixture.open();
    fs::remove_dir(fixture.dir.path()).unwrap();
    assert!(matches!(repository.scan(), Err(Error::Unreadable { .. })));
}

#[test]
fn the_policy_picks_the_versions() {
    let folders = ["1", "2", "10", "01", "0", "old", "3a"];
    assert_eq!(served(&folders, ""), [10]);
    assert_eq!(served(&folders, "latest { num_versions: 2 }"), [2, 10]);
    assert_eq!(served(&folders, "all { }"), [1, 2, 10]);
    assert_eq!(
        served(&folders, "specific { versions: [ 2, 1, 7 ] }"),
        [1, 2]
    );
}

#[test]
fn odd_version_folders_are_noted() {
    let config = format!("{CONFIG} version_policy {{ specific {{ versions: [1, 7] }} }}");
    let fixture = Fixture::new(&[
        ("m/config.pbtxt", &config),
        ("m/1/model.pt", ""),
        ("m/01/model.pt", ""),
        ("m/warmup/x", ""),
    ]);
    let notes = fixture.open().model("m").unwrap().settings.notes;
    assert_eq!(notes.len(), 2, "{notes:#?}");
    assert!(notes[0].starts_with("01/: ignored"));
    assert!(notes[1].contains("version 7 has no folder"));
}

#[test]
fn each_missing_part_is_named_with_its_mend() {
    let fixture = Fixture::new(&[
        ("empty/.keep", ""),
        ("bare/config.pbtxt", CONFIG),
        ("hollow/config.pbtxt", CONFIG),
        ("hollow/1/other.pt", ""),
        ("folder/config.pbtxt", CONFIG),
        ("folder/1/model.pt/x", ""),
        ("large/config.pbtxt", &"#".repeat(2 << 20)),
    ]);
    for (model, fault) in [
        ("nowhere", "folder: missing; add it"),
        ("empty", "config.pbtxt: missing; add it"),
        (
            "large",
            "config.pbtxt: larger than 1048576 bytes; shorten it",
        ),
        ("hollow", "1/model.pt: missing; add it"),
        ("folder", "1/model.pt: not a file; put a regular file there"),
        (
            "bare",
            "versions: there is no folder named by a number; put the model in 1/model.pt",
        ),
    ] {
        assert_eq!(fixture.fault(model), fault);
    }
}

#[test]
fn every_version_that_is_served_needs_its_file() {
    let config = format!("{CONFIG} version_policy {{ all {{ }} }}");
    let fixture = Fixture::new(&[
        ("m/config.pbtxt", &config),
        ("m/1/x", ""),
        ("m/2/model.pt", ""),
        ("m/3/x", ""),
    ]);
    assert_eq!(
        fixture.faults("m"),
        ["1/model.pt: missing; add it", "3/model.pt: missing; add it"]
    );
}

#[test]
fn an_identity_model_needs_no_file() {
    let config = CONFIG.replace("platform: 'pytorch_libtorch'", "backend: 'identity'");
    let fixture = Fixture::new(&[
        ("bare/config.pbtxt", &config),
        ("numbered/config.pbtxt", &config),
        ("numbered/5/.keep", ""),
    ]);
    for (model, number) in [("bare", 1), ("numbered", 5)] {
        let entry = fixture.open().model(model).unwrap();
        assert_eq!(entry.versions.len(), 1);
        assert_eq!(entry.versions[0].number, number);
    }
}

#[test]
fn symlinks_stay_inside_the_repository() {
    let outside = Fixture::new(&[("m/config.pbtxt", CONFIG), ("m/1/model.pt", "")]);
    let fixture = Fixture::new(&[
        ("inside/config.pbtxt", CONFIG),
        ("inside/1/model.pt", ""),
        ("version/config.pbtxt", CONFIG),
        ("file/config.pbtxt", CONFIG),
        ("file/1/.keep", ""),
        ("config/1/model.pt", ""),
        ("good/config.pbtxt", CONFIG),
        ("shared/config.pbtxt", CONFIG),
    ]);
    let link = |target: PathBuf, name: &str| symlink(target, fixture.path(name)).unwrap();
    link(outside.path("m"), "whole");
    link(outside.path("m/1"), "version/1");
    link(outside.path("m/1/model.pt"), "file/1/model.pt");
    link(outside.path("m/config.pbtxt"), "config/config.pbtxt");
    link(fixture.path("inside/1"), "good/1");
    link(fixture.path("nothing"), "dangling");
    link(fixture.path("nothing"), "shared/1");
    for (model, field) in [
        ("whole", "folder: "),
        ("version", "1/model.pt: "),
        ("file", "1/model.pt: "),
        ("config", "config.pbtxt: "),
    ] {
        let fault = fixture.fault(model);
        assert!(fault.starts_with(field), "{fault}");
        assert!(fault.contains("leads out of the repository"), "{fault}");
    }
    assert!(fixture.fault("dangling").contains("a symlink to nothing"));
    assert!(fixture.fault("shared").starts_with("1/model.pt: missing"));
    assert_eq!(fixture.open().model("good").unwrap().versions[0].number, 1);
    let scan = fixture.open().scan().unwrap();
    assert_eq!(scan.iter().filter(|model| model.is_ok()).count(), 2);
}

#[test]
fn a_name_from_a_client_cannot_leave_the_repository() {
    let fixture = Fixture::new(&[("repository/m/config.pbtxt", CONFIG)]);
    let repository = Repository::open(&fixture.path("repository")).unwrap();
    for name in ["..", "../repository/m", "m/../m", "/etc", "", "."] {
        let fault = repository.model(name).unwrap_err();
        assert!(
            fault.faults[0].contains("cannot be a model's name"),
            "{fault}"
        );
    }
}

#[test]
fn the_report_shows_a_block_for_each_model() {
    let fixture = Fixture::new(&[
        (
            "a/config.pbtxt",
            &format!("{CONFIG} optimization {{ }} dynamic_batching {{ }}"),
        ),
        ("a/1/model.pt", ""),
        ("b/config.pbtxt", "nam: 'b'"),
        ("c/config.pbtxt", CONFIG),
        ("c/2/model.pt", ""),
    ]);
    let scan = fixture.open().scan().unwrap();
    let report = Report::new(&scan, |entry| match entry.settings.name.as_str() {
        "c" => Tried {
            faults: vec!["2/model.pt: not TorchScript; save it with torch.jit.save".to_owned()],
            notes: vec!["version 2: tried".to_owned()],
        },
        _ => Tried::default(),
    });
    assert!(!report.is_ok());
    assert_eq!(report.wrong(), 2);
    let root = fixture.dir.path().canonicalize().unwrap();
    let shown = report.to_string().replace(root.to_str().unwrap(), "REPO");
    assert_eq!(
        shown,
        "a: ok
  pytorch version 1, batches of up to 4, without waiting, 1 instance
  note: optimization: ignored

b: wrong
  - REPO/b/config.pbtxt:1:1: ModelConfig has no field 'nam'; did you mean 'name'?
      1 | nam: 'b'
        | ^^^

c: wrong
  pytorch version 2, requests of up to 4, each run alone, 1 instance
  - 2/model.pt: not TorchScript; save it with torch.jit.save
  note: version 2: tried

3 models: 1 ok, 2 wrong
"
    );
}

#[test]
fn a_report_of_sound_models_is_ok_and_one_of_none_is_not() {
    let fixture = Fixture::new(&[("m/config.pbtxt", CONFIG), ("m/1/model.pt", "")]);
    let report = Report::new(&fixture.open().scan().unwrap(), |_| Tried::default());
    assert!(report.is_ok());
    assert!(report.to_string().ends_with("1 model: 1 ok, 0 wrong\n"));
    let none = Report::new(&[], |_| Tried::default());
    assert!(!none.is_ok());
    assert!(none.to_string().starts_with("no models"));
}

#[test]
fn the_data_of_a_warm_up_lies_in_the_model_s_own_folder_and_is_whole() {
    let config = format!(
        "{CONFIG} model_warmup {{ name: 'w' batch_size: 2 inputs {{ key: 'x' \
         value {{ data_type: TYPE_FP32 dims: 4 input_data_file: 'in/x.bin' }} }} }}"
    );
    let fixture = Fixture::new(&[
        ("m/config.pbtxt", config.as_str()),
        ("m/1/model.pt", ""),
        ("m/warmup/in/y.bin", ""),
        ("other/x.bin", "0123456789abcdef"),
    ]);
    let file = fixture.path("m/warmup/in/x.bin");
    assert_eq!(
        fixture.fault("m"),
        "model_warmup 'w': warmup/in/x.bin: missing; add it"
    );
    fs::write(&file, "0123456789abcde").unwrap();
    assert_eq!(
        fixture.fault("m"),
        "model_warmup 'w': warmup/in/x.bin: holds 15 bytes of the 16 that one item of 'x' has; \
         write all of them"
    );
    fs::write(&file, "0123456789abcdef").unwrap();
    let sample = fixture.open().model("m").unwrap().settings.warmup.remove(0);
    let input = sample.inputs[0].clone().unwrap();
    assert_eq!(input.data, WarmupData::File(file.canonicalize().unwrap()));
    fs::remove_file(&file).unwrap();
    symlink(fixture.path("other/x.bin"), &file).unwrap();
    assert!(fixture.fault("m").contains("leads out of"));
}

#[test]
fn the_file_of_a_model_tells_what_runs_it_where_its_configuration_does_not() {
    let config = CONFIG.replace("platform: 'pytorch_libtorch'", "");
    let fixture = Fixture::new(&[
        ("torchscript/config.pbtxt", &config),
        ("torchscript/1/model.pt", ""),
        ("package/config.pbtxt", &config),
        ("package/1/model.pt2", ""),
        ("neither/config.pbtxt", &config),
        ("neither/1/net.pt", ""),
    ]);
    for (model, backend) in [
        ("torchscript", Backend::TorchScript),
        ("package", Backend::Aoti),
    ] {
        let entry = fixture.open().model(model).unwrap();
        assert_eq!(entry.settings.backend, backend);
    }
    assert!(fixture.fault("neither").starts_with("platform: neither"));
}
