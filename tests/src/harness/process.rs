//! The real binary, as a child of the test.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use forebay_client::Client;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use super::{TestRepository, until, within};

/// `forebay serve` in a process of its own. It is killed if the test ends before it does.
#[derive(Debug)]
pub struct Process {
    child: Child,
    address: SocketAddr,
    /// Kept open, so that the child can write to it.
    _stdout: Lines<BufReader<ChildStdout>>,
    _repository: TestRepository,
}

/// What `forebay check` said.
#[derive(Debug)]
pub struct Checked {
    /// How it exited.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub report: String,
}

impl Process {
    /// Serves `repository` with the configuration `toml`, and waits until the server listens.
    ///
    /// # Panics
    /// There is no binary, or it does not come to listen.
    pub async fn start(repository: TestRepository, toml: &str) -> Self {
        let mut child = serve(&repository, toml)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary can be run");
        let stdout = child.stdout.take().expect("it was asked for");
        let mut lines = BufReader::new(stdout).lines();
        let line = within(lines.next_line())
            .await
            .expect("its output is text")
            .expect("it says where it listens, unless its log above says why not");
        let address = line
            .strip_prefix("listening on ")
            .and_then(|address| address.parse().ok());
        Self {
            child,
            address: address.unwrap_or_else(|| panic!("`{line}` names no address")),
            _stdout: lines,
            _repository: repository,
        }
    }

    /// Runs `forebay check` on `repository`.
    ///
    /// # Panics
    /// There is no binary, or it does not end.
    pub async fn check(repository: &TestRepository) -> Checked {
        let output = command()
            .args(["check", "--model-repository"])
            .arg(repository.path())
            .output();
        let output = within(output).await.expect("the binary can be run");
        Checked {
            status: output.status,
            report: String::from_utf8(output.stdout).expect("its output is text"),
        }
    }

    /// Runs `forebay devices` with the configuration in `file`, and returns what it lists.
    ///
    /// # Panics
    /// There is no binary, or it does not end well.
    pub async fn devices(file: &Path) -> String {
        let output = command().args(["devices", "--config"]).arg(file).output();
        let output = within(output).await.expect("the binary can be run");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        String::from_utf8(output.stdout).expect("its output is text")
    }

    /// Starts a server that must not come up, and returns what it says.
    ///
    /// # Panics
    /// There is no binary, or it does not end, or ends well.
    pub async fn refuse(repository: TestRepository, toml: &str) -> String {
        Self::refuse_writing(repository, toml, Stdio::null()).await
    }

    /// As [`refuse`](Self::refuse), of a server whose output goes to `stdout`.
    ///
    /// # Panics
    /// As there; or a signal ended it.
    pub async fn refuse_writing(repository: TestRepository, toml: &str, stdout: Stdio) -> String {
        let mut command = serve(&repository, toml);
        let child = command.stdout(stdout).stderr(Stdio::piped()).spawn();
        let child = child.expect("the binary can be run");
        let output = within(child.wait_with_output()).await;
        let output = output.expect("it is our child");
        assert_eq!(output.status.code(), Some(1), "{}", output.status);
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Starts a server, sends it SIGTERM once an instance of its first model has its threads, and returns
    /// how it ended.
    ///
    /// # Panics
    /// There is no binary, or it does not end.
    pub async fn end_while_loading(repository: TestRepository, toml: &str) -> ExitStatus {
        let mut child = serve(&repository, toml)
            .stdout(Stdio::null())
            .spawn()
            .expect("the binary can be run");
        let pid = child.id().expect("it runs");
        until(|| has_thread(pid, "fb-compute")).await;
        terminate(pid).await;
        within(child.wait()).await.expect("it is our child")
    }

    /// Returns its number in the system.
    ///
    /// # Panics
    /// It has ended.
    pub fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Returns where it listens, as clients take it.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Connects a client.
    ///
    /// # Panics
    /// It does not answer.
    pub async fn client(&self) -> Client {
        within(Client::connect(self.endpoint()))
            .await
            .expect("the server answers")
    }

    /// Sends SIGTERM.
    ///
    /// # Panics
    /// It has ended already.
    pub async fn sigterm(&self) {
        terminate(self.id()).await;
    }

    /// Waits until it has exited.
    ///
    /// # Panics
    /// It does not.
    pub async fn wait(&mut self) -> ExitStatus {
        within(self.child.wait()).await.expect("it is our child")
    }
}

/// `forebay serve` for `repository`, with the configuration `toml`.
fn serve(repository: &TestRepository, toml: &str) -> Command {
    fs::create_dir_all(repository.path()).expect("a folder can be made");
    let config = repository.scratch().join("forebay.toml");
    fs::write(&config, toml).expect("a file can be written");
    let mut command = command();
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--model-repository"])
        .arg(repository.path())
        .arg("--config")
        .arg(config);
    command
}

/// Returns whether a thread of a process has a name that begins with `prefix`.
fn has_thread(pid: u32, prefix: &str) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    let mut tasks = tasks.into_iter().flatten().flatten();
    tasks.any(|task| {
        let name = fs::read_to_string(task.path().join("comm"));
        name.is_ok_and(|name| name.starts_with(prefix))
    })
}

async fn terminate(pid: u32) {
    // The shell has `kill` built in; a call of our own to the system would be unsafe code.
    let sent = Command::new("sh")
        .args(["-c", "kill -TERM \"$0\""])
        .arg(pid.to_string())
        .status();
    assert!(within(sent).await.expect("there is a shell").success());
}

/// The binary, with nothing in its environment that could configure it.
fn command() -> Command {
    let mut command = Command::new(binary());
    command.env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Cargo puts the binaries of a profile beside the folder `deps` that holds its tests.
fn binary() -> PathBuf {
    let test = env::current_exe().expect("a test knows its path");
    let profile = test.ancestors().nth(2).expect("tests lie in target");
    let binary = profile.join(format!("forebay{}", env::consts::EXE_SUFFIX));
    assert!(
        binary.is_file(),
        "there is no {}: build it with `cargo build -p forebay-server`, or run the tests with --workspace",
        binary.display()
    );
    binary
}
