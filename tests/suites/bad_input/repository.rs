//! Repositories of which a part is broken: the rest is served, and everyone is told why.

use forebay_client::{Code, InferError, Request, tensor};
use forebay_tests::{
    harness::{Process, TestRepository, TestServer, echo, within},
    models::Fixture,
};

use super::serves_on;

const NOT_AN_ARCHIVE: &[u8] = b"PK\x03\x04 and then nothing that libtorch could read";

/// Asserts that a server with the model `broken` beside `simple` tells `reason` wherever one can
/// ask, and serves `simple`.
async fn tells(config: &str, module: Option<&[u8]>, reason: &str) {
    let server = TestServer::builder()
        .with_fixtures(&[Fixture::Simple])
        .with_model("broken", config, module)
        .start()
        .await;
    let client = server.client().await;
    assert!(within(client.server_live()).await.unwrap());
    assert!(!within(client.server_ready()).await.unwrap());
    assert!(!within(client.model_ready("broken")).await.unwrap());
    assert!(within(client.model_ready("simple")).await.unwrap());

    let index = within(client.repository_index()).await.unwrap();
    let entry = |name: &str| index.iter().find(|entry| entry.name == name).unwrap();
    assert_eq!(entry("simple").state, "READY");
    assert_eq!(entry("broken").state, "UNAVAILABLE");
    let told = &entry("broken").reason;
    assert!(told.contains(reason), "`{told}` does not say `{reason}`");

    let input = tensor::from_slice("x", &[1.0f32], [1]).unwrap();
    let request = Request::new("broken").with_input(input);
    match within(client.infer(request)).await {
        Err(InferError::Failed { code, message, .. }) => {
            assert_eq!(code, Code::Unavailable);
            assert!(message.contains(reason), "{message}");
        }
        other => panic!("{other:?}"),
    }
    serves_on(server).await;
}

/// Asserts that `forebay check` fails, and says `reason` under the model's name.
async fn check_tells(config: &str, module: Option<&[u8]>, reason: &str) {
    let repository = TestRepository::default()
        .with_fixtures(&[Fixture::Simple])
        .with_model("broken", config, module);
    let checked = Process::check(&repository).await;
    assert_eq!(checked.status.code(), Some(1), "{}", checked.report);
    let report = &checked.report;
    assert!(report.contains("simple: ok\n"), "{report}");
    let (_, block) = report.split_once("broken: wrong\n").expect(report);
    assert!(block.contains(reason), "{report}");
}

fn torch_config() -> String {
    Fixture::IdentityFp32
        .config()
        .replace("identity_fp32", "broken")
}

#[tokio::test]
async fn a_corrupted_module_makes_its_model_unavailable_and_no_other() {
    tells(
        &torch_config(),
        Some(NOT_AN_ARCHIVE),
        "does not load as TorchScript",
    )
    .await;
}

#[tokio::test]
async fn a_module_cut_in_half_makes_its_model_unavailable_and_no_other() {
    let source = TestRepository::default().with_fixtures(&[Fixture::IdentityFp32]);
    let module = std::fs::read(source.path().join("identity_fp32/1/model.pt")).unwrap();
    let half = &module[..module.len() / 2];
    tells(&torch_config(), Some(half), "does not load as TorchScript").await;
}

#[tokio::test]
async fn check_names_a_corrupted_module() {
    check_tells(&torch_config(), Some(NOT_AN_ARCHIVE), "1/model.pt").await;
}

const MISSPELT: &str = "name: \"broken\"\nbackend: \"identity\"\nmax_batchsize: 4\n";

#[tokio::test]
async fn a_broken_configuration_makes_its_model_unavailable_and_names_the_line() {
    tells(MISSPELT, None, "config.pbtxt:3:1: ").await;
}

#[tokio::test]
async fn check_names_the_line_of_a_broken_configuration() {
    check_tells(MISSPELT, None, "config.pbtxt:3:1: ").await;
    check_tells(MISSPELT, None, "max_batch_size").await;
}

/// The configuration of a package, in a file that has the name of the fixtures' modules.
fn package_config() -> String {
    torch_config().replace("pytorch_libtorch", "torch_aoti")
        + "\ndefault_model_filename: \"model.pt\"\n"
}

#[tokio::test]
async fn a_package_that_is_none_makes_its_model_unavailable_and_no_other() {
    let config = package_config();
    tells(
        &config,
        Some(NOT_AN_ARCHIVE),
        "does not load as an AOTInductor package",
    )
    .await;
    check_tells(&config, Some(NOT_AN_ARCHIVE), "1/model.pt does not load").await;
}

#[tokio::test]
async fn an_archive_without_a_compiled_model_is_told_what_it_lacks() {
    // The end of an archive that holds nothing.
    let empty = [&b"PK\x05\x06"[..], &[0; 18]].concat();
    check_tells(
        &package_config(),
        Some(&empty),
        "does not load as an AOTInductor package",
    )
    .await;
}

#[tokio::test]
async fn a_torchscript_file_in_place_of_a_package_is_told_its_platform() {
    let source = TestRepository::default().with_fixtures(&[Fixture::IdentityFp32]);
    let module = std::fs::read(source.path().join("identity_fp32/1/model.pt")).unwrap();
    let reason = "it is a TorchScript file, for platform \"pytorch_libtorch\"";
    tells(&package_config(), Some(&module), reason).await;
    let half = &module[..module.len() / 2];
    tells(
        &package_config(),
        Some(half),
        "does not load as an AOTInductor package",
    )
    .await;
}

#[tokio::test]
async fn a_package_is_looked_for_under_its_own_name() {
    let config = torch_config().replace("pytorch_libtorch", "torch_aoti");
    check_tells(&config, Some(NOT_AN_ARCHIVE), "1/model.pt2").await;
}

#[tokio::test]
async fn what_a_configuration_has_in_vain_is_logged_once_for_the_model() {
    let more = "optimization { } version_policy { all { } }";
    let config = echo("echo", "TYPE_FP32", more);
    let repository = TestRepository::default().with_model("echo", &config, None);
    std::fs::create_dir(repository.path().join("echo/2")).unwrap();
    // An output that nobody reads ends the server once its models are loaded.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let said = Process::refuse_writing(repository, "", writer.into()).await;
    assert_eq!(said.matches("model is ready").count(), 2, "{said}");
    let noted: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("optimization: ignored"))
        .collect();
    let [noted] = noted[..] else {
        panic!("{said}");
    };
    assert!(
        noted.contains("WARN") && noted.contains("model=echo"),
        "{noted}"
    );
}
